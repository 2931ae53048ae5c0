"""Training loops and the rows they read."""
