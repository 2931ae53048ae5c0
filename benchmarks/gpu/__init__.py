"""The papers' cycles on a CUDA device."""
