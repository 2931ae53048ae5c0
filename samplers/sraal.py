"""SRAAL: ask for the image that looks least like those labeled already and of which the task network is uncertain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from samplers.adversarial_options import AdversaryOptions, VaeStepsOptions
from samplers.base import Scored
from samplers.code_base import CodeSampler
from samplers.deferred import models, torch
from samplers.options import between, option

if TYPE_CHECKING:
    from torch import Tensor

    from models.data import CycleData, Runtime
    from models.networks.base import TaskNet
    from models.networks.vae import VAEConfig
    from models.training.adversarial import AdversarialRecipe, AdversarialTrainer

EVEN = 1e-12  # squared coefficient of variation below which float32 probabilities count as all the same


def uncertainty(probabilities: Tensor) -> Tensor:
    """The online uncertainty indicator u = 1 - m minVar(m) / Var(p), (B, C) -> (B,) in [1 - m, 1], m = max p (SRAAL,
    section 3.3).

    Var is over the classes, minVar(m) = (C m - 1)² / (C² (C - 1)) that of the vector with the same m whose other
    entries are equal. So 0 for a one-hot vector, 1 - m for two classes and wherever the others are equal, and 0 for a
    single class. The variance is divided by C, not by C - 1 as in the authors' code, whose one-hot vectors have 1 / C.

    Where all classes are equally likely both variances are 0. There u = 1 - 1 / C: the limit from vectors whose other
    entries are equal, and what 1 - m says.
    """
    p = probabilities.double()
    classes = p.shape[1]
    if classes == 1:
        return 0.0 * probabilities[:, 0]
    top = p.amax(dim=1)
    deviations = p - p.mean(dim=1, keepdim=True)
    variance = deviations.square().mean(dim=1)
    smallest = deviations.amax(dim=1).square() / (classes - 1)  # minVar, as C m - 1 = C (m - 1 / C)
    even = variance * classes**2 <= EVEN
    ratio = torch.where(even, 1.0, smallest / variance.masked_fill(even, 1.0))
    return (1.0 - top * ratio).clamp(0.0, 1.0).to(probabilities.dtype)


@dataclass(frozen=True)
class SraalOptions(VaeStepsOptions, AdversaryOptions):
    """sraal_latent: 200 in the authors' configuration for CIFAR-100. sraal_label_weight: of the cross entropy alongside
    the ELBO; 5 in the authors' code, alongside 5 times the mean squared error of a pixel value.
    """

    sraal_latent: int = option(32, "SRAAL: size of the latent space, both halves.", between(2, 4096))
    sraal_label_weight: float = option(5.0, "SRAAL: weight of the labeled images' class loss.", between(0, 1000))


class SraalSampler(CodeSampler[SraalOptions]):
    """State-relabeling adversarial active learning (Zhang et al., CVPR 2020).

    VAAL with two changes. The latent has two halves: the first goes to the decoder, the second to a classifier that
    learns from the labeled images; the discriminator sees both. And for the discriminator an unlabeled image is
    unlabeled only as far as the task network is uncertain of it, which is computed once a cycle.

    Where this departs from the authors' code:
    - Labeled is 1 and unlabeled 0, as in VAAL. There it is the other way round, and the largest D is asked for.
    - The autoencoder makes all images look labeled, as the paper means. In the code its target is 1, which is
      "unlabeled" there, for both streams.
    - The ELBO is VAAL's (`vaal_kl_reduction`). In the code it is 5 times the mean squared error of a pixel value plus
      the KL's mean over the batch; in comparison the squared errors weigh 614 times as much here (at 32 px), and the
      class loss and the adversarial loss are gentle pushes next to them.
    - Of masks, which the paper's supervised part has another decoder for, the classifier learns the classes' shares in
      an image, and the uncertainty is the mean over the pixels. Of several classes likewise: the chosen ones share
      alike, and the uncertainty is the mean over the classes.
    - Both steps of the autoencoder have the labels of their own images, where the code's second has the first's.
    """

    name: ClassVar[str] = "sraal"
    summary: ClassVar[str] = 'like `vaal`, with the task network\'s uncertainty in place of the label "unlabeled"'
    why: ClassVar[str] = "a discriminator takes it for unlabeled, and for one that the network is unsure of"
    source: ClassVar[str] = "Zhang et al. 2020"
    trains: ClassVar[str] = "autoencoder with a classifier, discriminator"
    knows_classes: ClassVar[bool] = True
    Options = SraalOptions

    @property
    def hidden_layers(self) -> int:
        return 4

    def config(self, width: int) -> VAEConfig:
        latent = self.options.sraal_latent
        return models.networks.vae.VAEConfig(self.working_size(), width, latent, classes=self.num_classes)

    def trainer(self, net: TaskNet, data: CycleData, recipe: AdversarialRecipe, runtime: Runtime) -> AdversarialTrainer:
        def of_rows(logits: Tensor) -> Tensor:
            return uncertainty(logits.softmax(dim=1))

        def of_batch(_: Tensor, logits: Tensor) -> tuple[Tensor, ...]:
            return (net.task.per_image(of_rows, logits, reduce="mean").float(),)

        measure = models.inference.predictions.measure
        uncertain = measure(net, data.pixels, data.unlabeled, runtime, of_batch, "fit")[0]
        return models.training.adversarial_trainers.RelabelingTrainer(
            self.part(models.networks.vae.VAE),
            self.part(models.networks.discriminator.Discriminator),
            recipe,
            runtime.generator("vaal noise"),
            targets=net.task.latent_targets(data, runtime),
            uncertainty=torch.from_numpy(uncertain).to(runtime.device),
            label_weight=self.options.sraal_label_weight,
        )

    def doubts(self, metrics: Mapping[str, float]) -> str:
        """None: its discriminator is to take unlabeled images that are certain for labeled ones."""
        return ""

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """-logit D(μ(x)), (N,): higher = less like the labeled images and more uncertain. The paper's D is 1 - D
        here, so its largest come first.
        """
        return self.score_rows(net, pixels, rows, runtime, "score")
