"""The only package that calls Label Studio."""
