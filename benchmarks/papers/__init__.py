"""The tables and figures of the papers, each by a command: ``python -m benchmarks papers``."""
