"""Distances between feature vectors: k-center and coverage."""
