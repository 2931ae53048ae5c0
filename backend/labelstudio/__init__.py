"""The only room that calls Label Studio."""
