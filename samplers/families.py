"""Families of samplers: a panel each in the pictures of learning curves, in this order. A sampler may name one of its
own, which comes after these.
"""

UNCERTAINTY = "uncertainty of one network"
SEVERAL_OPINIONS = "several networks or draws"
COVERAGE = "coverage, augmentation, discrepancy"
LOSS_PREDICTION = "loss prediction"
VAAL = "VAAL, its parts, SRAAL"
BATCHES = "images picked together"
SYNTHESIS = "generated images"

FAMILIES = (UNCERTAINTY, SEVERAL_OPINIONS, COVERAGE, BATCHES, LOSS_PREDICTION, VAAL, SYNTHESIS)

BASELINE = ""
"""Drawn in every panel."""
