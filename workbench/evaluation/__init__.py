"""Numbers and sounds that say how good, diverse and new a model's clips are."""
