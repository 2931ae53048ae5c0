"""The methods of the slides: CEAL (Wang et al. 2017), GAAL (Zhu & Bento 2017) and ASAL (Mayer & Timofte 2020)."""

from __future__ import annotations

from benchmarks.papers.curves import Arm, Curves
from benchmarks.papers.matches import Matches
from benchmarks.papers.scales import SCRATCH, SMALL, by_chance

_CIFAR10 = by_chance("--dataset cifar10 --initial 5000 --budget 1000 --cycles 10 --trials 3")
_FEATURES = by_chance(
    "--dataset fashion-mnist --image-size 32 --pool 1000 --test 1000 --initial 50 --budget 50 --cycles 3 --trials 10"
)
_FEATURES += " --set gan_iterations=800 --set gan_seconds=150 --set asal_images=50 --set synthetic_restarts=1"
_FEATURES += " --set synthetic_steps=20 --set synthetic_seconds=600"
"""Fewer iterations and steps than by default, so that every arm of ASAL takes minutes. The GAN takes all of its
iterations, however many seconds there are for it: see `benchmarks.curves.prepared`."""

_TWO_CLASSES = _FEATURES.replace("--initial 50 --budget 50 --cycles 3", "--initial 10 --budget 10 --cycles 5")
_TWO_DIGITS = _TWO_CLASSES.replace("--pool 1000 --test 1000", "--pool 0 --test 0")
"""All that there are: less than 400."""


def _ceal(words: str, *settings: str) -> Arm:
    return Arm(words, "ceal", (*settings, *SCRATCH))


def _asal(words: str, *settings: str) -> Arm:
    return Arm(words, "asal", settings)


_OTHERS = (
    "entropy",
    "margin",
    "least-confidence",
    "typiclust",
    "badge",
    "dropquery",
    "uherding",
    "dast-al",
    "core-set",
)

_GAN_TIME = (
    "At the small scale a GAN trains for 800 iterations, of which those of WGAN-GP have five steps of the critic each."
    " No clock ends it."
)
_ANSWERED = (
    "A classifier of all images answers for generated ones, a fifth of the labels (`synthetic_share`). Each counts as a"
    " label, also where it is not sure."
)


def _two_classes(name: str, dataset: str, small: str, paper: str) -> Curves:
    return Curves(
        name,
        "GAAL, ASAL",
        f"Two classes that look alike, {dataset}: generated images and their matches, entropy, margin and random",
        paper,
        (
            "Of two classes, a generated image is best where it is nearest to the boundary, as in the slides.",
            _ANSWERED,
            _GAN_TIME,
        ),
        arms=(
            Arm("`random`", "random"),
            Arm("`entropy`", "entropy"),
            Arm("`margin`", "margin"),
            _asal("ASAL, DCGAN", "gan=dcgan"),
            _asal("ASAL, WGAN-GP", "gan=wgan-gp"),
            Arm("GAAL, DCGAN", "gaal", ("gan=dcgan",)),
        ),
        small=small.replace("--dataset fashion-mnist", f"--dataset {dataset}"),
        paper_scale=_CIFAR10.replace("--dataset cifar10", f"--dataset {dataset}"),
    )


STUDIES = (
    Curves(
        "ceal-parts",
        "CEAL",
        "Pseudo-labels and none, three criteria, two readings of the schedule of δ",
        "Pseudo-labels add to each criterion on CACD and Caltech-256.",
        (
            "δ − decay · t can mean from the first value (`linear`) or from the last (`recursive`): `ceal_schedule`.",
            "A `ceal_delta` of 0 takes no pseudo-label: the criterion alone.",
        ),
        arms=(
            Arm("`random`", "random", SCRATCH),
            _ceal("entropy, no pseudo-labels", "ceal_delta=0"),
            _ceal("entropy", "ceal_criterion=entropy"),
            _ceal("entropy, recursive", "ceal_schedule=recursive"),
            _ceal("least confidence, no pseudo-labels", "ceal_criterion=least-confidence", "ceal_delta=0"),
            _ceal("least confidence", "ceal_criterion=least-confidence"),
            _ceal("margin, no pseudo-labels", "ceal_criterion=margin", "ceal_delta=0"),
            _ceal("margin", "ceal_criterion=margin"),
        ),
        small=SMALL,
        paper_scale=_CIFAR10,
    ),
    Matches(
        "asal-matches",
        "ASAL",
        "Generated images that the network is least sure of, and the real ones that they are matched with",
        "Real images that are near to generated ones, of which the network is least sure, stand in for these.",
        ("The paper matches by the features of a network, of an autoencoder, or by PCA (`asal_space`).",),
        settings=(
            *("gan=dcgan", "gan_iterations=1000", "gan_seconds=3600", "asal_images=60"),
            *("synthetic_restarts=1", "synthetic_steps=50", "synthetic_seconds=600"),
        ),
    ),
    Curves(
        "asal-parts",
        "GAAL, ASAL",
        "DCGAN and WGAN-GP, and the spaces in which generated images are matched, beside the other samplers",
        "WGAN-GP is better than DCGAN; ASAL is ahead of random on MNIST, CIFAR-10, CelebA, SVHN and LSUN.",
        (
            "The network is a head on frozen features here (`task_net`), not a support vector machine.",
            _ANSWERED,
            _GAN_TIME,
        ),
        arms=(
            *(Arm(f"`{name}`", name) for name in ("random", *_OTHERS)),
            _asal("DCGAN, features of the network", "gan=dcgan"),
            _asal("DCGAN, features of the critic", "gan=dcgan", "asal_space=critic"),
            _asal("DCGAN, PCA of pixels", "gan=dcgan", "asal_space=pca"),
            _asal("DCGAN, codes of an autoencoder", "gan=dcgan", "asal_space=autoencoder"),
            _asal("WGAN-GP, features of the network", "gan=wgan-gp"),
            Arm("GAAL, DCGAN", "gaal", ("gan=dcgan",)),
        ),
        small=_FEATURES,
        paper_scale=_CIFAR10,
    ),
    _two_classes("two-digits", "digits-5-7", _TWO_DIGITS, "GAAL and ASAL are shown on digits 5 and 7 of MNIST."),
    _two_classes(
        "two-garments", "pullover-coat", _TWO_CLASSES, "Not in the paper, which has horses and cars of CIFAR-10."
    ),
)
