"""Semantic segmentation: regions drawn in Label Studio become masks to train on; predicted masks become regions."""
