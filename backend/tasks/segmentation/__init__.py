"""Semantic segmentation: regions drawn in Label Studio, index masks on disk, masks as pre-annotations."""
