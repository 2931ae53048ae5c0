"""Dropout as a posterior: Gal, Islam & Ghahramani, Deep Bayesian Active Learning with Image Data (ICML 2017)."""

from __future__ import annotations

from itertools import product

from benchmarks.papers.curves import Arm, Curves
from benchmarks.papers.scales import SCRATCH, SMALL, by_chance

_RATES, _PLACES, _SAMPLERS = (0.1, 0.3, 0.5), ("features", "stages"), ("bald", "mc-dropout")


def _arm(sampler: str, place: str, rate: float) -> Arm:
    settings = (f"dropout_place={place}", f"dropout_rate={rate}", *SCRATCH)
    return Arm(f"`{sampler}`, {place}, {rate}", sampler, settings)


STUDIES = (
    Curves(
        "dropout-places",
        "Deep Bayesian active learning",
        "BALD and maximal entropy under dropout in one place or in several, at three rates",
        "On MNIST, BALD and maximal entropy are ahead of random; dropout is in two places, at rates of 0.25 and 0.5.",
        (
            "The paper's network has two convolutions; ours is ResNet-18, with whole channels dropped after each stage"
            " and before the last layer, or only there (`dropout_place`), at one rate in all places (`dropout_rate`).",
            "The paper draws new masks for each image; here a draw is the same masks for all images.",
            "Draws (`dropout_draws`): 20 at the small scale in either place, 100 at the paper's, which is as many"
            " passes through the whole network with dropout at several stages.",
        ),
        arms=(
            Arm("`random`", "random", SCRATCH),
            Arm("`entropy`", "entropy", SCRATCH),
            *(_arm(*parts) for parts in product(_SAMPLERS, _PLACES, _RATES)),
        ),
        small=f"{SMALL} --set dropout_draws=20",
        paper_scale=by_chance("--dataset cifar10 --initial 1000 --budget 1000 --cycles 10 --trials 5"),
    ),
)
