"""DAST-AL: ask for the image whose implicit augmentations would move the classifier most."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from samplers import families
from samplers.base import Sampler, Scored
from samplers.deferred import models, torch
from samplers.options import SamplerOptions, between, one_of, option

if TYPE_CHECKING:
    from torch import Tensor

    from models.data import CycleData, Runtime
    from models.losses.objectives import Objective
    from models.networks.base import TaskNet


@dataclass(frozen=True)
class DastAlOptions(SamplerOptions):
    """isda_lambda: λ0 of ISDA (the paper's code has 1.0 for CIFAR-10 and 5.0 for CIFAR-100; ISDA's paper 0.5).

    covariance: "diag" keeps the variances only, as the paper's code does; "full" as the paper writes. epmcm_draws: 0 is
    equation 7, the bound; M > 0 is equation 5, what is bounded, from M draws of each image's features.
    """

    isda_lambda: float = option(
        1.0, "DAST-AL: strength λ of the semantic augmentation; 0.5 is ISDA's own.", between(0, 100)
    )
    covariance: str = option("diag", "DAST-AL: class covariance.", one_of("diag", "full"))
    epmcm_draws: int = option(
        0,
        "DAST-AL: augmentations that are drawn of each image for its score, at that many times the cost; 0: none, the "
        "bound over all of them.",
        between(0, 1_000_000),
    )


class DastAlSampler(Sampler[DastAlOptions]):
    """Diversity-aware semantic transformation active learning (Chen et al., ECCV 2022).

    The task network trains on ISDA's loss. For scoring, the class covariances are computed again from the labeled
    rows, with the trained network in eval mode and without augmentation; the pool never changes them. All that is
    kept of them is the table Q (C, C). A class with fewer than two labeled rows has no covariance, and rows
    predicted as such a class are ordered by plain confidence. In segmentation the pixels are the rows of this.
    """

    name: ClassVar[str] = "dast-al"
    summary: ClassVar[str] = "where semantic augmentation of the image would change the classifier most (EPMCM)"
    why: ClassVar[str] = "small changes of what it shows could change what is predicted for it"
    source: ClassVar[str] = "Chen et al. 2022"
    trains: ClassVar[str] = "nothing; ISDA is the task network's loss"
    family: ClassVar[str] = families.COVERAGE
    refusals: ClassVar[Mapping[str, str]] = {
        "multilabel": "its semantic augmentation needs exactly one class per image"
    }
    Options = DastAlOptions

    def __init__(
        self,
        options: DastAlOptions | None = None,
        *,
        task: str,
        num_classes: int,
        image_size: int,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(options, task=task, num_classes=num_classes, image_size=image_size, device=device)
        self.table = torch.zeros(num_classes, num_classes, device=self.device)
        self.factors = torch.zeros(num_classes, num_classes, num_classes if self.options.epmcm_draws else 0)

    def objective(self, net: TaskNet, data: CycleData, runtime: Runtime) -> Objective:
        return net.task.isda(self.options.isda_lambda, self.options.covariance)

    def fit(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        """Compute the table from the labeled rows: one pass. Without any, Q = 0: plain confidence."""
        started = time.perf_counter()
        spread = net.task.class_spread(net, data, runtime, self.options.covariance)
        self.table = spread.table().to(self.device)
        if self.options.epmcm_draws:
            self.factors = spread.logit_factors().to(self.device)
        return {
            "seconds": time.perf_counter() - started,
            "classes_without_covariance": float(spread.rare),
            "largest_semantic_term": float(self.table.max()),
        }

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """log UB of equation 7, (N,), from one pass of the task network, which also gives the predictions.

        UB bounds the expected 1 − p of the predicted class over augmentations, and is exactly the expected 1 / p − 1:
        of Gaussian features each ratio of two probabilities is log-normal, whose mean is known.
        1 / (1 + exp(log UB)) is the confidence in the predicted class with augmentation averaged in, and plain
        softmax confidence where Q = 0. With a single class nothing can change: all rows get 0. Of pixels, the mean of
        the bound over them (section 4.2).
        """

        noise = self._noise(runtime)

        def of_batch(_: Tensor, logits: Tensor) -> Tensor:
            if noise is None:
                return net.task.epmcm(logits, self.table)
            return net.task.drawn_change(logits, self.factors, noise)

        predictions, values = models.inference.predictions.predict_and_measure(net, pixels, rows, runtime, of_batch)
        return Scored(values, predictions)

    def _noise(self, runtime: Runtime) -> Tensor | None:
        """(M, C) standard normal, of the cycle's seed; None where the bound is asked for."""
        if not self.options.epmcm_draws:
            return None
        generator = torch.Generator().manual_seed(runtime.seed)
        return torch.randn(self.options.epmcm_draws, len(self.table), generator=generator).to(self.device)

    def state_dict(self) -> dict[str, Any]:
        return {"table": self.table, "factors": self.factors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        table = state.get("table")
        if table is not None and table.shape == self.table.shape:
            self.table = table.to(self.device, torch.float32, copy=True)
        factors = state.get("factors")  # versions before 0.4.0 have none
        if factors is not None and factors.shape == self.factors.shape:
            self.factors = factors.to(self.device, torch.float32, copy=True)
