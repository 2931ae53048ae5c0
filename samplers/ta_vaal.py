"""TA-VAAL: ask for the image that looks least like those labelled already, when its predicted loss is known too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from models.data import CycleData, Runtime
from models.inference.predictions import ForwardPass, measure_forward, predict_and_measure_forward
from models.inference.streaming import evaluating
from models.losses.loss_prediction import LossPredictor
from models.losses.objectives import Objective
from models.networks.base import TaskNet
from models.networks.discriminator import Discriminator
from models.networks.vae import VAE, VAEConfig, prepare
from models.training.adversarial import AdversarialRecipe, AdversarialTrainer
from models.training.adversarial_trainers import ConditionedTrainer, Conditions
from samplers.adversarial_base import AdversarialSampler, GameOptions
from samplers.base import NotFitted, Scored
from samplers.learning_loss import LossPredictionOptions
from samplers.learning_loss_v2 import LearningLossV2Sampler


def rank_conditions(ranks: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """What the decoder and what the discriminator is given of the ranks: (B,) -> (B, 1), (B, 1).

    Both σ(r), as the supplement's "normalized [...] before embedded into the latent space" reads; under kind "raw" the
    discriminator gets r as it is, as in the authors' code.
    """
    normalised = torch.sigmoid(ranks).unsqueeze(1)
    return normalised, ranks.unsqueeze(1) if kind == "raw" else normalised


@dataclass(frozen=True)
class TaVaalOptions(LossPredictionOptions, GameOptions):
    """Defaults are the paper's for CIFAR; the presets `ta-vaal-...` are its other rows.

    ta_vaal_latent  size of the latent space (32 in the authors' code, 64 in the supplement's table 1).
    ta_vaal_rank    what the discriminator sees of the rank: see `rank_conditions`.
    """

    ta_vaal_latent: int = 64
    ta_vaal_vae_steps: int = 1
    ta_vaal_rank: str = "sigmoid"


class TaVaalSampler(AdversarialSampler):
    """Task-aware variational adversarial active learning (Kim, Park, Kim & Chun, CVPR 2021).

    The task network trains with a ranker, as learning loss v2. Then both stand still: the rank of every image is
    computed once, as the image is shown in scoring, and VAAL is played with the rank beside the latent, at the
    decoder's input and at the discriminator's. The encoder does not see it. The authors' code begins with random
    numbers in place of the ranks, for one iteration; here nothing is played before the ranks are there.
    """

    name: ClassVar[str] = "ta-vaal"
    summary: ClassVar[str] = "least like the labelled images, where the predicted rank of the loss is seen as well"
    Options: ClassVar[type[Any]] = TaVaalOptions

    def __init__(
        self, options: Any = None, *, num_classes: int, image_size: int, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(options, num_classes=num_classes, image_size=image_size, device=device)
        # The ranker is learning loss v2's module, and so are its training and its way from cycle to cycle.
        self._ranking = LearningLossV2Sampler(
            self.options, num_classes=num_classes, image_size=image_size, device=device
        )

    def config(self, width: int) -> VAEConfig:
        return VAEConfig(self.working_size(), width, self.options.ta_vaal_latent, condition=1)

    def recipe(self) -> AdversarialRecipe:
        return replace(super().recipe(), vae_steps=self.options.ta_vaal_vae_steps)

    def objective(self, net: TaskNet, data: CycleData, runtime: Runtime) -> Objective:
        """Mean cross entropy + η times the ranking loss."""
        return self._ranking.objective(net, data, runtime)

    def fit(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        return self._ranking.fit(net, data, runtime) | super().fit(net, data, runtime)

    def trainer(self, net: TaskNet, data: CycleData, recipe: AdversarialRecipe, runtime: Runtime) -> AdversarialTrainer:
        conditions = self._conditions(net, data, runtime)
        noise = runtime.generator("vaal noise")
        return ConditionedTrainer(self.part(VAE), self.part(Discriminator), recipe, noise, conditions)

    def _conditions(self, net: TaskNet, data: CycleData, runtime: Runtime) -> Conditions:
        """Of all rows, from one pass of the task network in eval mode."""
        ranker = self._ranker(net)

        def rank(inside: ForwardPass) -> tuple[Tensor, ...]:
            return (ranker(inside.taps),)

        everything = np.concatenate([data.labeled, data.unlabeled])
        ranks = torch.from_numpy(measure_forward(net, data.pixels, everything, runtime, rank, "fit")[0])
        both = rank_conditions(ranks.to(runtime.device), self.options.ta_vaal_rank)
        (decoder_l, decoder_u), (state_l, state_u) = (part.tensor_split([len(data.labeled)]) for part in both)
        return Conditions(decoder_l, decoder_u, state_l, state_u)

    def _ranker(self, net: TaskNet) -> LossPredictor:
        ranker = self._ranking.predictor
        if ranker is None or ranker.tap_channels != net.tap_channels:
            raise NotFitted(f"sampler {self.name}: its ranker was neither trained nor loaded for this network yet")
        return ranker

    def score_rows(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime, phase: str) -> Scored:
        vae, discriminator, ranker = self.part(VAE), self.part(Discriminator), self._ranker(net)

        def minus_logit(inside: ForwardPass) -> Tensor:
            _, condition = rank_conditions(ranker(inside.taps), self.options.ta_vaal_rank)
            means = vae.encoder.means(prepare(inside.images, vae.config.image_size))
            logits: Tensor = discriminator(means, condition)
            return -logits

        with evaluating(vae, discriminator, ranker):
            answers, values = predict_and_measure_forward(net, pixels, rows, runtime, minus_logit, phase)
        return Scored(values, answers)

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """-logit D(r(x), μ(x)), (N,): algorithm 1 of the supplement takes argmin D. Task network, ranker and encoder
        see a batch in the same pass, which also gives the answers.
        """
        return self.score_rows(net, pixels, rows, runtime, "score")

    def state_dict(self) -> dict[str, Any]:
        return {"game": super().state_dict(), "ranking": self._ranking.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            super().load_state_dict(state["game"])
            self._ranking.load_state_dict(state["ranking"])
