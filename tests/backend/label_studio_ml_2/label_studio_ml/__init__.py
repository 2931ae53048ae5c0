"""A stand-in for label-studio-ml 2.x, which is not on PyPI: how it constructs and calls a plugin, and nothing else."""
