"""The options that several studies share."""

from __future__ import annotations

FROM_NOTHING = ("weights=none", "vaal_space=pixels")
"""The papers' networks know nothing before the first label, and those of VAAL and its relatives see images. In every
arm, also where a sampler has no such networks: arms of one sampler under one set of settings are the same runs,
whichever studies they are in, and are played once."""
SCRATCH = ("task_net=resnet18", *FROM_NOTHING)
VGG = ("task_net=vgg16-bn", *FROM_NOTHING)


def by_chance(options: str) -> str:
    """The first labels are drawn by chance, and all trials share a pool, as in the papers."""
    return f"{options} --first chance --one-pool"


_FEW_STEPS = " --set task_width=8 --set vaal_width=8 --set vaal_batch_size=32 --set vaal_iterations=60"
_FEW_STEPS += " --set train_images=1500 --together"
PURCHASES, ONE_PURCHASE = "--initial 100 --budget 100 --cycles 3", "--initial 100 --budget 100 --cycles 2"
_SIZES = f"--pool 1000 --test 1000 {PURCHASES} --trials 3"
SMALL = by_chance(f"--dataset fashion-mnist {_SIZES}") + _FEW_STEPS
SMALL_ONCE = SMALL.replace(PURCHASES, ONE_PURCHASE)
"""For what costs twice as much, or is a question asked elsewhere already."""
SMALL_TAIL = SMALL_ONCE.replace("fashion-mnist", "fashion-mnist-x100")
MASKS = "--task segmentation " + by_chance(
    "--dataset fashion-scenes --image-size 64 --pool 400 --test 150 --initial 30 --budget 30 --cycles 2 --trials 3"
)
MASKS += " --set weights=none --set task_width=4 --set train_images=600 --set vaal_width=8 --set vaal_batch_size=16"
MASKS += " --set vaal_iterations=40 --set ensemble_size=3 --together"
MASKS_AS_IN_PAPERS = "--task segmentation " + by_chance(
    "--dataset cityscapes --image-size 512 --initial 200 --budget 200 --cycles 7 --trials 5"
)
MASKS_AS_IN_PAPERS += " --set segmentation_net=drn-d-22 --set weights=none --set epochs=50 --set warm_start=false"
