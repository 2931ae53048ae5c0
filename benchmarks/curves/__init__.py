"""Learning curves: accuracy over labels, one curve for each sampler."""
