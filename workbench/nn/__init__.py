"""Parts of models that know no family."""
