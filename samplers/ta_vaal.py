"""TA-VAAL: ask for the image that looks least like those labeled already, when its predicted loss is known too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from samplers import families
from samplers.adversarial_base import AdversarialSampler
from samplers.adversarial_options import AdversaryOptions
from samplers.base import Scored
from samplers.deferred import models, torch
from samplers.learning_loss_v2 import LearningLossV2Sampler
from samplers.loss_prediction_base import LossPredictionOptions
from samplers.options import between, one_of, option

if TYPE_CHECKING:
    from torch import Tensor

    from models.data import CycleData, Runtime
    from models.inference.predictions import ForwardPass
    from models.losses.loss_prediction import LossPredictor
    from models.losses.objectives import Objective
    from models.networks.base import TaskNet
    from models.networks.vae import VAEConfig
    from models.training.adversarial import AdversarialRecipe, AdversarialTrainer
    from models.training.adversarial_trainers import Conditions

LAYERS_BEFORE = 2  # hidden ones, of states from before there was a choice


def rank_conditions(ranks: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """What the decoder and what the discriminator is given of the ranks: (B,) -> (B, 1), (B, 1).

    Both σ(r), as the supplement's "normalized [...] before embedded into the latent space" reads; under kind "raw" the
    discriminator gets r as it is, as in the authors' code.
    """
    normalized = torch.sigmoid(ranks).unsqueeze(1)
    return normalized, ranks.unsqueeze(1) if kind == "raw" else normalized


@dataclass(frozen=True)
class TaVaalOptions(LossPredictionOptions, AdversaryOptions):
    """Defaults are the paper's for CIFAR; the presets are its other rows. ta_vaal_latent: 32 in the authors' code, 64
    in the supplement's table 1. ta_vaal_rank: see `rank_conditions`. ta_vaal_discriminator_layers and
    ta_vaal_autoencoder: by default as in the authors' code; section 4 of the supplement names 5 layers and a modified
    Wasserstein autoencoder, and does not say of which form: `models.training.adversarial_trainers.WassersteinTrainer`.
    """

    ta_vaal_latent: int = option(64, "TA-VAAL: size of the latent space.", between(1, 4096))
    ta_vaal_vae_steps: int = option(1, "TA-VAAL: autoencoder steps in an iteration.", between(1, 100))
    ta_vaal_rank: str = option(
        "sigmoid",
        "TA-VAAL: the rank that the discriminator sees; raw: unlike the autoencoder's, as in the authors' code.",
        one_of("sigmoid", "raw"),
    )

    ta_vaal_discriminator_layers: int = option(
        3,
        "TA-VAAL: linear layers of the discriminator; 5: as the paper's supplement says, 3: as the authors' code.",
        between(2, 10),
    )
    ta_vaal_autoencoder: str = option(
        "variational",
        "TA-VAAL: what keeps the codes near a normal distribution; variational: a KL term for each image, as in the "
        "authors' code; wasserstein: the maximum mean discrepancy of all of them, after the paper's supplement; "
        "`vaal_beta` weighs either.",
        one_of("variational", "wasserstein"),
    )

    def recipe(self) -> AdversarialRecipe:
        return replace(super().recipe(), vae_steps=self.ta_vaal_vae_steps)


def preset(
    image_size: int, batch: int, epochs: int, budget: int, task_rate: float, rate: float, eta: float, lam: float, z: int
) -> dict[str, object]:
    """A row of table 1 in the supplement; networks are trained from scratch in each cycle, as there."""
    return {
        "task_net": "resnet18",
        "weights": "none",
        "warm_start": False,
        "image_size": image_size,
        "batch_size": batch,
        "epochs": epochs,
        "budget": budget,
        "learning_rate": task_rate,
        "vaal_batch_size": batch,
        "vaal_learning_rate": rate,
        "vaal_beta": 1.0,
        "learning_loss_weight": eta,
        "vaal_lambda": lam,
        "ta_vaal_latent": z,
    }


class TaVaalSampler(AdversarialSampler[TaVaalOptions]):
    """Task-aware variational adversarial active learning (Kim, Park, Kim & Chun, CVPR 2021).

    The task network trains with a ranker, as learning loss v2. Then both stand still: the rank of every image is
    computed once, as the image is shown in scoring, and VAAL is trained with the rank next to the latent, at the
    decoder's input and at the discriminator's. The encoder does not see it. The authors' code begins with random
    numbers in place of the ranks, for one iteration; here nothing is trained before the ranks are there.
    """

    name: ClassVar[str] = "ta-vaal"
    summary: ClassVar[str] = "like `vaal`, with the rank of the predicted loss as an extra input"
    why: ClassVar[str] = "a discriminator takes it for unlabeled, with the loss that is predicted for it"
    source: ClassVar[str] = "Kim et al. 2021"
    trains: ClassVar[str] = "loss-ranking module, autoencoder, discriminator"
    family: ClassVar[str] = families.LOSS_PREDICTION
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "ta-vaal-cifar10": preset(32, 128, 200, 1000, 1e-1, 5e-4, 1.0, 1.0, 64),
        "ta-vaal-cifar100": preset(32, 128, 200, 2000, 1e-1, 5e-4, 1.0, 1.0, 64),
        "ta-vaal-caltech101": preset(224, 16, 200, 500, 1e-2, 1e-4, 0.2, 15.0, 128),
        "ta-vaal-caltech256": preset(224, 64, 100, 1530, 5e-4, 5e-4, 0.1, 15.0, 128),
        "ta-vaal-cityscapes": preset(412, 4, 100, 200, 1e-3, 1e-4, 0.1, 25.0, 128),
    }
    Options = TaVaalOptions

    def __init__(
        self,
        options: TaVaalOptions | None = None,
        *,
        task: str,
        num_classes: int,
        image_size: int,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(options, task=task, num_classes=num_classes, image_size=image_size, device=device)
        # The ranker is learning loss v2's module, and so are its training and its way from cycle to cycle.
        self._ranking = LearningLossV2Sampler(
            self.options, task=task, num_classes=num_classes, image_size=image_size, device=device
        )

    def config(self, width: int) -> VAEConfig:
        return models.networks.vae.VAEConfig(self.working_size(), width, self.options.ta_vaal_latent, condition=1)

    @property
    def hidden_layers(self) -> int:
        return self.options.ta_vaal_discriminator_layers - 1

    def objective(self, net: TaskNet, data: CycleData, runtime: Runtime) -> Objective:
        """Mean cross entropy + η times the ranking loss."""
        return self._ranking.objective(net, data, runtime)

    def fit(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        return self._ranking.fit(net, data, runtime) | super().fit(net, data, runtime)

    def doubts(self, metrics: Mapping[str, float]) -> str:
        """Either the discriminator's or the ranker's."""
        return super().doubts(metrics) or self._ranking.doubts(metrics)

    def trainer(self, net: TaskNet, data: CycleData, recipe: AdversarialRecipe, runtime: Runtime) -> AdversarialTrainer:
        trainers = models.training.adversarial_trainers
        wasserstein = self.options.ta_vaal_autoencoder == "wasserstein"
        kind = trainers.WassersteinTrainer if wasserstein else trainers.ConditionedTrainer
        return kind(
            self.part(models.networks.vae.VAE),
            self.part(models.networks.discriminator.Discriminator),
            recipe,
            runtime.generator("vaal noise"),
            self._conditions(net, data, runtime),
        )

    def _conditions(self, net: TaskNet, data: CycleData, runtime: Runtime) -> Conditions:
        """Of all rows, from one pass of the task network in eval mode."""
        ranker = self.ranker(net)

        def rank(forward: ForwardPass) -> tuple[Tensor, ...]:
            return (ranker(forward.taps),)

        everything = np.concatenate([data.labeled, data.unlabeled])
        measure = models.inference.predictions.measure_forward
        ranks = torch.from_numpy(measure(net, data.pixels, everything, runtime, rank, "fit")[0])
        both = rank_conditions(ranks.to(runtime.device), self.options.ta_vaal_rank)
        (decoder_l, decoder_u), (state_l, state_u) = (part.tensor_split([len(data.labeled)]) for part in both)
        return models.training.adversarial_trainers.Conditions(decoder_l, decoder_u, state_l, state_u)

    def ranker(self, net: TaskNet) -> LossPredictor:
        """The module that ranks losses. Raises NotFitted where there is none for the taps of `net`."""
        return self._ranking.predictor_for(net)

    def score_rows(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime, phase: str) -> Scored:
        vae = self.scoring_part(models.networks.vae.VAE, runtime)
        discriminator = self.scoring_part(models.networks.discriminator.Discriminator, runtime)
        ranker = models.inference.fused.scoring_copy(self.ranker(net), runtime)
        see = self.sight(net) if vae.config.features else None

        def minus_logit(forward: ForwardPass) -> Tensor:
            _, condition = rank_conditions(ranker(forward.taps), self.options.ta_vaal_rank)
            if see is not None:
                seen = see(forward.features)
            else:
                assert forward.images is not None
                seen = models.networks.vae.prepare(forward.images, vae.config.image_size)
            means = vae.encoder.means(seen)
            logits: Tensor = discriminator(means, condition)
            return -logits

        predictions, values = models.inference.predictions.predict_and_measure_forward(
            net, pixels, rows, runtime, minus_logit, phase, with_images=see is None
        )
        return Scored(values, predictions)

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """-logit D(r(x), μ(x)), (N,): algorithm 1 of the supplement takes argmin D. Task network, ranker and encoder
        see a batch in the same pass, which also gives the predictions.
        """
        return self.score_rows(net, pixels, rows, runtime, "score")

    def state_dict(self) -> dict[str, Any]:
        return {"game": super().state_dict(), "ranking": self._ranking.state_dict(), "layers": self.hidden_layers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            if state.get("layers", LAYERS_BEFORE) == self.hidden_layers:
                super().load_state_dict(state["game"])
            self._ranking.load_state_dict(state["ranking"])
