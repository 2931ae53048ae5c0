"""An active-learning backend for Label Studio: it decides which image a person should label next."""

__version__ = "0.4.0"
