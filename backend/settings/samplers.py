"""The samplers' names, their settings, and the sets of values that a paper gives under one name.

Defaults are the papers'. A sampler takes those settings whose names stand in its `Options` (samplers/base.py); a test
compares the defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backend.settings.spec import above, between, one_of, project, zero_or

SAMPLER_NAMES = (
    "random",
    "least-confidence",
    "margin",
    "entropy",
    "max-prob",
    "ceal",
    "core-set",
    "mc-dropout",
    "bald",
    "ensemble",
    "qbc",
    "learning-loss",
    "learning-loss-v2",
    "ads",
    "vaal",
    "vaal-no-vae",
    "vaal-frozen-vae",
    "vaal-wasserstein",
    "ta-vaal",
    "sraal",
    "dast-al",
)
"""Written out because ``samplers`` imports torch, which the web process does without; a test compares them."""

CLASSIFICATION_ONLY: dict[str, str] = {
    "ads": "it compares two classifiers of a whole image",
    "ceal": "its pseudo-labels are classes of whole images",
}
"""Samplers that have no meaning for masks, and why. Written out for the same reason; a test compares them."""


@dataclass(frozen=True)
class SamplerSettings:
    """What only some samplers read. "VAAL" in a help text means every sampler with its autoencoder."""

    isda_lambda: float = project(0.5, "DAST-AL: strength λ of the semantic augmentation.", between(0, 100))
    covariance: str = project("diag", "DAST-AL: class covariance.", one_of("diag", "full"))
    vaal_width: int = project(
        0, "VAAL: channels of the autoencoder; 0: 128 (the paper's) on CUDA, 32 on a CPU.", zero_or(4, 1024)
    )
    vaal_latent: int = project(32, "VAAL: size of the latent space.", between(1, 4096))
    vaal_beta: float = project(1.0, "VAAL: weight β of the KL term.", between(0, 1000))
    vaal_lambda: float = project(1.0, "VAAL: weight λ of the adversarial term.", between(0, 1000))
    vaal_iterations: int = project(
        0, "VAAL: iterations in a cycle; 0: scaled to pool and device.", zero_or(1, 10_000_000)
    )
    vaal_epochs: int = project(
        0, "VAAL: passes over the pool when `vaal_iterations` is 0; 0: scaled to device.", zero_or(1, 100_000)
    )
    vaal_vae_steps: int = project(2, "VAAL: autoencoder steps in an iteration.", between(1, 100))
    vaal_discriminator_steps: int = project(1, "VAAL: discriminator steps in an iteration.", between(1, 100))
    vaal_batch_size: int = project(128, "VAAL: batch of each stream.", between(2, 4096))
    vaal_learning_rate: float = project(5e-4, "VAAL: learning rate of both Adam optimisers.", above(0, 1))
    vaal_kl_reduction: str = project(
        "mean",
        "VAAL: how the KL term is reduced; sum: as VAAL's code, elements: as TA-VAAL's.",
        one_of("mean", "sum", "elements"),
    )
    ta_vaal_latent: int = project(64, "TA-VAAL: size of the latent space.", between(1, 4096))
    ta_vaal_vae_steps: int = project(1, "TA-VAAL: autoencoder steps in an iteration.", between(1, 100))
    ta_vaal_rank: str = project(
        "sigmoid",
        "TA-VAAL: the rank that the discriminator sees; raw: unlike the autoencoder's, as in the authors' code.",
        one_of("sigmoid", "raw"),
    )
    sraal_latent: int = project(32, "SRAAL: size of the latent space, both halves.", between(2, 4096))
    sraal_label_weight: float = project(5.0, "SRAAL: weight of the labelled images' class loss.", between(0, 1000))
    learning_loss_weight: float = project(
        1.0, "Learning loss, TA-VAAL: weight of the loss prediction (λ, η).", between(0, 1000)
    )
    learning_loss_margin: float = project(1.0, "Learning loss: margin ξ of the first version.", between(0, 1000))
    learning_loss_stop: float = project(
        0.6,
        "Learning loss, TA-VAAL: share of the epochs after which its gradient no longer reaches the task network.",
        between(0, 1),
    )
    learning_loss_width: int = project(128, "Learning loss, TA-VAAL: width of the prediction module.", between(1, 4096))
    ads_prototypes: int = project(3, "ADS: prototypes of each class in each classifier.", between(1, 100))
    ads_alpha: float = project(0.05, "ADS: temperature α of the similarity to a prototype.", above(0, 10))
    ads_tau: float = project(
        0.1, "ADS: entropy τ in bits below which agreement weighs more, above which discrepancy.", between(0, 100)
    )
    dropout_rate: float = project(0.5, "MC-dropout, BALD: share of the features dropped.", above(0, 0.95))
    dropout_draws: int = project(100, "MC-dropout, BALD: random networks that are asked.", between(2, 1000))
    mc_dropout_score: str = project(
        "max-entropy", "MC-dropout: what orders the queue.", one_of("max-entropy", "variation-ratio", "mean-std")
    )
    ensemble_size: int = project(
        0, "Ensemble, QBC: networks in the committee; 0: 5 on CUDA, 3 on a CPU.", zero_or(2, 100)
    )
    qbc_score: str = project("vote-entropy", "QBC: disagreement.", one_of("vote-entropy", "consensus-entropy"))
    core_set_picks: int = project(
        1000, "Core-set: centers picked one by one in a cycle; the rest follows by distance.", between(1, 100_000)
    )
    ceal_criterion: str = project(
        "entropy", "CEAL: what orders the queue.", one_of("entropy", "least-confidence", "margin")
    )
    ceal_delta: float = project(
        0.05, "CEAL: entropy in nats below which a prediction becomes a pseudo-label (δ).", between(0, 20)
    )
    ceal_decay: float = project(0.0033, "CEAL: how fast δ falls with the cycles.", between(0, 20))
    ceal_schedule: str = project(
        "linear", "CEAL: δ − decay · t, or δ − decay · t (t + 1) / 2.", one_of("linear", "recursive")
    )


def _ta_vaal(image_size: int, batch: int, epochs: int, budget: int, **values: Any) -> dict[str, Any]:
    common = {"sampler": "ta-vaal", "warm_start": False, "vaal_beta": 1.0}
    sizes = {"image_size": image_size, "batch_size": batch, "vaal_batch_size": batch}
    return common | sizes | {"epochs": epochs, "budget": budget} | values


def _rates(task: float, networks: float, eta: float, adversarial: float, latent: int) -> dict[str, Any]:
    return {
        "learning_rate": task,
        "vaal_learning_rate": networks,
        "learning_loss_weight": eta,
        "vaal_lambda": adversarial,
        "ta_vaal_latent": latent,
    }


PRESETS: dict[str, dict[str, Any]] = {
    "ta-vaal-cifar10": _ta_vaal(32, 128, 200, 1000, **_rates(1e-1, 5e-4, 1.0, 1.0, 64)),
    "ta-vaal-cifar100": _ta_vaal(32, 128, 200, 2000, **_rates(1e-1, 5e-4, 1.0, 1.0, 64)),
    "ta-vaal-caltech101": _ta_vaal(224, 16, 200, 500, **_rates(1e-2, 1e-4, 0.2, 15.0, 128)),
    "ta-vaal-caltech256": _ta_vaal(224, 64, 100, 1530, **_rates(5e-4, 5e-4, 0.1, 15.0, 128)),
    "ta-vaal-cityscapes": _ta_vaal(412, 4, 100, 200, **_rates(1e-3, 1e-4, 0.1, 25.0, 128)),
}
"""Table 1 of TA-VAAL's supplement (Kim, Park, Kim & Chun, CVPR 2021), one name a row; networks trained from scratch in
each cycle, as there. A value that is given beside ``preset`` wins."""
