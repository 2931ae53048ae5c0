"""The web process: it serves stored predictions and stores hints. It never trains."""
