"""How long the task network trains, in what batches and at which rates.

Recipe of the papers (Yoo & Kweon 2019, section 4.1, and DAST-AL): SGD, momentum 0.9, weight decay 5e-4, batch
128, 200 epochs, learning rate 0.1 and a tenth of it from epoch 160 on, random crops and mirror images.

Segmentation goes by the same recipe with other sizes: batches of at most 8, as in VAAL and TA-VAAL, fewer epochs, and
mirror images only, unless crops are asked for.

Where the number of images is bounded, a training keeps its passes, each over fewer labels: what is laid over the
training by shares, such as the drop of the learning rate or the strength of an objective's terms, stays as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

DECAY_AT = 0.8  # share of the epochs after which the learning rate falls to a tenth
WARM_UP = 0.05  # share of the steps over which the rate of a reduced batch rises


@dataclass(frozen=True)
class Sizes:
    """What a training comes to unless its length is set.

    epochs           on CUDA, the papers'.
    cpu_images       images seen in a training on a CPU, within cpu_epochs, the fewest and the most.
    smallest, largest  batch; fewest_steps: few images are cut into smaller batches to come to as many.
    full_batch       the batch that the learning rate is for, unless the recipe's is smaller.
    """

    epochs: int
    cpu_images: int
    cpu_epochs: tuple[int, int]
    smallest: int
    largest: int
    fewest_steps: int
    full_batch: int


WHOLE_IMAGES = Sizes(200, 9_000, (6, 120), 16, 1 << 20, 300, 1 << 20)
MASKS = Sizes(100, 3_000, (6, 60), 4, 8, 1_000, 16)


@dataclass(frozen=True)
class Recipe:
    """How to train. Defaults are the papers'.

    epochs         0 = chosen by device and number of labels (`epochs_for`).
    batch_size     the largest; short trainings take smaller ones (`batch_size_for`).
    learning_rate  for a full batch; a smaller one gets less (`peak_rate_for`).
    crop           side in pixels of the crops that a segmenter is trained on; 0 = whole images.
    images         most images that the training looks at, epochs x labels; 0 = no bound.
    semi_supervised  whether a head on features learns from unlabeled rows, too.
    """

    epochs: int = 0
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    crop: int = 0
    images: int = 0
    semi_supervised: bool = False


def epochs_for(recipe: Recipe, labels: int, device: torch.device, sizes: Sizes = WHOLE_IMAGES) -> int:
    """The recipe's epochs, or those of `sizes`: on a CPU as many as see its number of images, within its bounds."""
    if recipe.epochs > 0:
        return recipe.epochs
    if device.type == "cuda":
        return sizes.epochs
    fewest, most = sizes.cpu_epochs
    return min(most, max(fewest, round(sizes.cpu_images / labels)))


@dataclass(frozen=True)
class Length:
    """How long a training is: so many passes, each over `rows` labels, in batches of at most `batch_size`."""

    passes: int
    rows: int
    batch_size: int

    @property
    def images(self) -> int:
        """How many images it looks at."""
        return self.passes * self.rows

    def within(self, images: int) -> Length:
        """As long as this many images allow: passes over fewer labels and, below a batch each, fewer passes."""
        if self.images <= images:
            return self
        passes = max(1, min(self.passes, images // min(self.batch_size, self.rows)))
        return replace(self, passes=passes, rows=min(self.rows, max(2, images // passes)))

    def lasting(self, steps: int) -> Length:
        """This cut to so many steps, or a few more: passes of fewer batches and, below one each, fewer passes."""
        passes = min(self.passes, steps)
        return replace(self, passes=passes, rows=min(self.rows, math.ceil(steps / passes) * self.batch_size))


def length_for(recipe: Recipe, labels: int, device: torch.device, sizes: Sizes = WHOLE_IMAGES) -> Length:
    """All labels in each of the recipe's epochs, or what its bound on the images leaves of them."""
    epochs = epochs_for(recipe, labels, device, sizes)
    images = min(epochs * labels, recipe.images or epochs * labels)
    return Length(epochs, labels, batch_size_for(recipe, images, sizes)).within(images)


def batch_size_for(recipe: Recipe, images: int, sizes: Sizes = WHOLE_IMAGES) -> int:
    """For a training that looks at `images`: the recipe's batch size, or the multiple of the smallest below it that
    gives about the steps of `sizes` in all.

    Steps are what a short training lacks: on a CPU, batches of 16 to 32 learn more from the same number of images
    than 128 do, at nearly the same cost. 200 epochs of 192 labels or more keep the papers' 128.
    """
    wanted = round(images / sizes.fewest_steps / sizes.smallest) * sizes.smallest
    return max(2, min(recipe.batch_size, sizes.largest, max(sizes.smallest, wanted)))


def peak_rate_for(recipe: Recipe, batch_size: int, sizes: Sizes = WHOLE_IMAGES) -> float:
    """The recipe's learning rate, scaled by the square root of the batch's share of a full one."""
    full = min(recipe.batch_size, sizes.full_batch)
    return recipe.learning_rate * math.sqrt(min(1.0, batch_size / full))


def learning_rate_at(step: float, steps: int, peak: float, warm_up: int) -> float:
    """Learning rate at 0 <= step < steps: a linear rise over `warm_up` steps, `peak`, a tenth of it from 80 % on."""
    if step < warm_up:
        return peak * (step + 1) / (warm_up + 1)
    return peak if step < DECAY_AT * steps else peak / 10
