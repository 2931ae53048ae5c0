"""Settings: read once, frozen, each with its documentation and its check."""
