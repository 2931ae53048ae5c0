"""Data sets, as mapped files of uint8 pixels."""
