"""VAAL: Sinha, Ebrahimi & Darrell, Variational Adversarial Active Learning (ICCV 2019), and the workshop paper."""

from __future__ import annotations

from benchmarks.papers.curves import Arm, Curves, arms
from benchmarks.papers.scales import MASKS, MASKS_AS_IN_PAPERS, SCRATCH, SMALL, by_chance

PAPER = "VAAL"
_AS_IN_VAAL = by_chance("--dataset cifar10 --image-size 32 --initial 5000 --budget 2500 --cycles 7 --trials 5") + (
    " --set task_net=vgg16-bn --set weights=none --set epochs=200 --set warm_start=false"
)

STUDIES = (
    Curves(
        "vaal-figure-2",
        PAPER,
        "Accuracy over labels: VAAL, core-set, an ensemble with variation ratios, MC-dropout, DBAL, random",
        "VAAL is ahead of all others at every number of labels on CIFAR-10, CIFAR-100, Caltech-256 and ImageNet.",
        (
            "The authors' code sums the KL term over the latent and trains the autoencoder twice per step"
            " (`vaal_kl_reduction`, `vaal_vae_steps`).",
            "Its labeled and unlabeled images go through the autoencoder in batches of their own; ours in one"
            " (`vaal_streams`).",
            "DBAL is `bald`: the mutual information of Gal et al. (2017); `mc-dropout` is their maximal entropy"
            " (`mc_dropout_score`).",
        ),
        arms=tuple(
            Arm(f"`{name}`", name, SCRATCH) for name in ("random", "core-set", "ensemble", "mc-dropout", "bald", "vaal")
        ),
        small=SMALL,
        paper_scale=_AS_IN_VAAL,
    ),
    Curves(
        "vaal-figure-3",
        PAPER,
        "Ablations: without the autoencoder, with one that is not trained adversarially, and whole",
        "A discriminator on pixels is worst, one on a fixed autoencoder about as random, VAAL best.",
        ("`vaal-frozen-vae` trains the autoencoder before, without the discriminator, and never after.",),
        arms=tuple(Arm(f"`{name}`", name, SCRATCH) for name in ("random", "vaal-no-vae", "vaal-frozen-vae", "vaal")),
        small=SMALL,
        paper_scale=_AS_IN_VAAL,
    ),
    Curves(
        "vaal-segmentation",
        PAPER,
        "Mean IoU over labels on masks: VAAL, core-set, MC-dropout, query by committee, random",
        "VAAL is ahead on Cityscapes and BDD100K.",
        ("The network is drn-d-22, as there, at the paper's scale; at the small one a narrower one.",),
        arms=arms("random", "core-set", "mc-dropout", "qbc", "vaal"),
        small=MASKS,
        paper_scale=MASKS_AS_IN_PAPERS,
    ),
)
