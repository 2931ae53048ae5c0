"""DAST-AL: Chen et al., When Active Learning Meets Implicit Semantic Data Augmentation (ECCV 2022)."""

from __future__ import annotations

from benchmarks.papers.curves import Arm, Curves, arms
from benchmarks.papers.gap import Gap
from benchmarks.papers.neighbors import Neighbors
from benchmarks.papers.purchases import Costs
from benchmarks.papers.scales import MASKS, MASKS_AS_IN_PAPERS, SCRATCH, SMALL, SMALL_ONCE, VGG, by_chance

PAPER = "DAST-AL"
_CIFAR10 = by_chance("--dataset cifar10 --initial 2500 --budget 2500 --cycles 7 --trials 3") + (
    " --set epochs=200 --set subset=10000"
)
_CIFAR10_BY_1000 = _CIFAR10.replace(
    "--initial 2500 --budget 2500 --cycles 7", "--initial 1000 --budget 1000 --cycles 10"
)
_ISDA = ("objective=isda", *SCRATCH)
_DEPARTS = (
    "Equation 7 prints the −1 inside of the exponent; it belongs outside of the sum.",
    "The paper writes full covariances, its code has variances (`covariance`).",
    "The code's covariances go on over the cycles and take in the unlabeled images of each acquisition under their"
    " predicted classes; ours are computed from the labels, in each cycle.",
)

STUDIES = (
    Curves(
        "dast-al-table-1",
        PAPER,
        "Random and maximal probability, with and without ISDA, and DAST-AL",
        "At 35 % of the labels of CIFAR-10: Ran 91.21, Maxp 84.60, Ran+ 91.15, Maxp+ 84.03, DAST-AL 93.32 %.",
        (
            "Maxp of the authors' code takes the images that the network is *surest* of, which explains its figures;"
            " `max-prob` is that. The usual baseline, the images it is least sure of, is added as a row.",
            *_DEPARTS,
        ),
        arms=(
            Arm("Ran", "random", SCRATCH),
            Arm("Maxp", "max-prob", SCRATCH),
            Arm("Ran+", "random", _ISDA),
            Arm("Maxp+", "max-prob", _ISDA),
            Arm("least confidence +", "least-confidence", _ISDA),
            Arm("DAST-AL", "dast-al", SCRATCH),
        ),
        small=SMALL,
        paper_scale=_CIFAR10,
        reference="Ran",
    ),
    Gap(
        "dast-al-table-2",
        PAPER,
        "How far the bound is from explicit drawing",
        "Between 0.85 ± 0.49 with 100 draws and 0.11 ± 0.07 with 100,000: the gap closes.",
        (
            "What the bound bounds is the mean of 1 − p (equations 5 and 6); what it is equal to is the mean of"
            " 1 / p − 1. Only of the latter can the gap close, so the paper's figures must be of that.",
            "`epmcm_draws` orders a queue by equation 5 itself.",
        ),
        settings=(*SCRATCH, "task_width=8"),
    ),
    Neighbors(
        "dast-al-table-3",
        PAPER,
        "Whether what is chosen is more diverse: the nearest real images to augmented features",
        "Pictures drawn from augmented features of what EPMCM chooses differ more than those of random images.",
        (
            "The paper draws pictures by a network that inverts features, of ImageNet; here a real image stands for"
            " each augmented feature.",
        ),
        settings=(*SCRATCH, "task_width=8", "train_images=3000"),
    ),
    Costs(
        "dast-al-table-4",
        PAPER,
        "Extra parameters, seconds of training and of sampling",
        "Core-set – / 114.98 / 73.29 s, LL4AL 0.2 M / 120.72 / 2.97, VAAL 88.18 M / 62,855 / 36.12, SRAAL 90.22 M /"
        " 17,897 / 41.67, ADS 0.98 M / 2,688.6 / 4.83, DAST-AL – / 128.30 / 7.59, on a TITAN Xp.",
        ("The paper gives parameters in millions, in floats of 4 bytes a quarter of the bytes.",),
        arms=tuple(
            Arm(f"`{name}`", name, SCRATCH)
            for name in (
                *("random", "least-confidence", "margin", "entropy", "ceal", "core-set", "mc-dropout", "bald"),
                *("ensemble", "qbc", "learning-loss", "vaal", "ta-vaal", "sraal", "ads", "dast-al"),
            )
        ),
        small=SMALL_ONCE.replace(" --together", ""),
        paper_scale=_CIFAR10_BY_1000.replace("--cycles 10 --trials 3", "--cycles 2 --trials 1"),
    ),
    Curves(
        "dast-al-figure-2-a",
        PAPER,
        "CIFAR-10 with VGG-16: DAST-AL, core-set, LL4AL, VAAL, SRAAL, ADS, random",
        "DAST-AL is ahead of all others from 4 % of the labels on.",
        ("LL4AL is `learning-loss`.", *_DEPARTS),
        arms=tuple(
            Arm(f"`{name}`", name, VGG)
            for name in ("random", "core-set", "learning-loss", "vaal", "sraal", "ads", "dast-al")
        ),
        small=f"{SMALL_ONCE} --image-size 32",
        paper_scale=_CIFAR10_BY_1000,
    ),
    Curves(
        "dast-al-figure-2-b",
        PAPER,
        "The same on CIFAR-100",
        "DAST-AL is ahead of all but ADS at first, and of all from 20 % of the labels on.",
        ("The text names ResNet-18 and the figure VGG-16; λ is 5.0 in the code (`isda_lambda`).", *_DEPARTS),
        arms=tuple(
            Arm(f"`{name}`", name, ("isda_lambda=5", *SCRATCH) if name == "dast-al" else SCRATCH)
            for name in ("random", "core-set", "learning-loss", "vaal", "sraal", "ads", "dast-al")
        ),
        small=SMALL,
        paper_scale=by_chance("--dataset cifar100 --initial 2500 --budget 2500 --cycles 10 --trials 3")
        + " --set epochs=200 --set subset=10000",
    ),
    Curves(
        "dast-al-figure-2-d",
        PAPER,
        "Mean IoU over labels on masks",
        "DAST-AL is ahead of SRAAL, VAAL, query by committee, MC-dropout, core-set and random on Cityscapes.",
        ("The network is drn-d-22, as there, at the paper's scale; at the small one a narrower one.",),
        arms=arms("random", "core-set", "mc-dropout", "qbc", "vaal", "dast-al"),
        small=MASKS,
        paper_scale=MASKS_AS_IN_PAPERS.replace("--initial 200 --budget 200", "--initial 348 --budget 150"),
    ),
)
