"""Where abilities live in a model, and how straight the ways between models are."""
