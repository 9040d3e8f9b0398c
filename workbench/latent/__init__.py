"""Where sounds lie, and ways to move them."""
