"""One model in use: learner, checkpoints and published scores, the same for worker, web and benchmarks."""
