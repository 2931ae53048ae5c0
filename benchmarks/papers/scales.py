"""The options that several studies share."""

from __future__ import annotations

SCRATCH = ("task_net=resnet18", "weights=none")
"""The papers' networks know nothing before the first label."""


def by_chance(options: str) -> str:
    """The first labels are drawn by chance, and all trials share a pool, as in the papers."""
    return f"{options} --first chance --one-pool"


_FEW_STEPS = " --set task_width=8 --set vaal_width=16 --set vaal_batch_size=64 --set vaal_iterations=100"
_FEW_STEPS += " --set train_images=3000"
SMALL_SIZES = "--pool 2000 --test 2000 --initial 100 --budget 100 --cycles 4 --trials 3"
SMALL = by_chance(f"--dataset fashion-mnist {SMALL_SIZES}") + _FEW_STEPS
SMALL_TAIL = by_chance("--dataset fashion-mnist-x100 --test 2000 --initial 100 --budget 100 --cycles 4 --trials 3") + (
    _FEW_STEPS
)
MASKS = "--task segmentation " + by_chance(
    "--dataset fashion-scenes --image-size 64 --pool 1000 --test 300 --initial 50 --budget 50 --cycles 3 --trials 3"
)
MASKS_AS_IN_PAPERS = "--task segmentation " + by_chance(
    "--dataset cityscapes --image-size 512 --initial 200 --budget 200 --cycles 7 --trials 5"
)
MASKS_AS_IN_PAPERS += " --set segmentation_net=drn-d-22 --set weights=none --set epochs=50 --set warm_start=false"
