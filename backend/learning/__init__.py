"""The model in use: learner, checkpoints and priority scores, shared by the worker, the web process and benchmarks."""
