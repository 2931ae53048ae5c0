"""The trainers of VAAL, of its ablations, of TA-VAAL and of SRAAL: an autoencoder that hides which images are
labeled, against a discriminator that finds out.

Sinha, Ebrahimi & Darrell, Variational Adversarial Active Learning (ICCV 2019): equation numbers are the extended
abstract's. Kim, Park, Kim & Chun, Task-Aware Variational Adversarial Active Learning (CVPR 2021). Zhang et al.,
State-Relabeling Adversarial Active Learning (CVPR 2020). The task network takes no part in a step, as in the code of
the last two: what they want of it (ranks, uncertainties) is computed beforehand.

What differs from the authors' code, and why:
- The labeled and the unlabeled batch go through the autoencoder as one, so that batch normalization sees the mixture
  that it will see in scoring. Apart, each is centered on its own statistics, and the difference between them, the
  thing to be learned, vanishes in training and is back in scoring. The recipe's `streams` chooses.
- While the discriminator steps, the autoencoder is in eval mode: it learns on the very codes that it will score, and
  the running statistics do not move.
- While the autoencoder steps, the discriminator is frozen and gathers no gradient.

Axis letters: B batch of each stream, Z latent, L labeled rows, U unlabeled rows.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from models.losses.maximum_mean_discrepancy import maximum_mean_discrepancy
from models.networks.discriminator import (
    Discriminator,
    ImageDiscriminator,
    adversarial_loss,
    discriminator_loss,
    relabeled_loss,
)
from models.networks.vae import (
    VAE,
    Coded,
    kl_divergence,
    negative_elbo,
    reconstruction_error,
    with_condition,
)
from models.training.adversarial import AdversarialRecipe, AdversarialTrainer, Batch


class ImageTrainer(AdversarialTrainer):
    """A discriminator alone, on images: the abstract's first ablation."""

    def __init__(self, discriminator: ImageDiscriminator, recipe: AdversarialRecipe, device: torch.device) -> None:
        super().__init__({"discriminator": discriminator}, recipe, device)
        self.discriminator = discriminator

    def discriminator_step(self, batch: Batch) -> Tensor:
        """One step on L_D (equation 3), of both streams as one batch. Returns the loss ()."""
        self.discriminator.train()
        with self.reduced_precision():
            states = self.discriminator(batch.prepared(self.discriminator.config.image_size))
        count = len(batch.labeled)
        loss = discriminator_loss(states[:count], states[count:])
        self.optimizer_step("discriminator", loss)
        return loss.detach()


class AutoencoderTrainer(AdversarialTrainer):
    """An autoencoder alone: the abstract's third ablation, and what every trainer with an adversary begins with."""

    vae_losses: ClassVar[tuple[str, ...]] = ("reconstruction_loss", "kl_loss")

    def __init__(
        self,
        vae: VAE,
        recipe: AdversarialRecipe,
        noise: torch.Generator,
        discriminator: Discriminator | None = None,
    ) -> None:
        """The networks are on their device already; `noise` lives there too."""
        adversary = {} if discriminator is None else {"discriminator": discriminator}
        super().__init__({"vae": vae, **adversary}, recipe, noise.device)
        self.vae = vae
        self._noise = noise

    def vae_step(self, batch: Batch) -> Tensor:
        """One step on L_trd (equation 1) and the other terms.

        Returns `vae_losses`: reconstruction error per pixel value and KL in nats, both averaged over all images,
        and the other terms.
        """
        self.vae.train()
        images, count = batch.prepared(self.vae.config.image_size), len(batch.labeled)
        with self.reduced_precision():
            coded = self._coded(images, self.decoder_condition(batch))
        errors, values = reconstruction_error(coded.reconstruction, images), images[0].numel()
        (of_labeled, near), (of_unlabeled, far) = (
            self.trade(errors[part], Coded(*(of_all[part] for of_all in coded)), values)
            for part in (slice(count), slice(count, None))
        )
        terms = self.other_terms(coded, batch)
        loss = of_labeled + of_unlabeled
        for term, weight in terms:
            loss = loss + weight * term
        self.optimizer_step("vae", loss)
        return torch.stack([errors.mean(), (near + far) / 2.0, *(term for term, _ in terms)]).detach()

    def trade(self, errors: Tensor, coded: Coded, pixel_values: int) -> tuple[Tensor, Tensor]:
        """Of one stream, scalars: L_trd (equation 1) from reconstruction errors (B,), and of it how far the codes are
        from the prior, the second of `vae_losses`."""
        recipe, kl = self.recipe, kl_divergence(coded.mean, coded.log_variance)
        latent = self.vae.config.latent
        return negative_elbo(errors, kl, pixel_values, latent, recipe.beta, recipe.kl_reduction), kl.mean()

    def _coded(self, images: Tensor, condition: Tensor | None) -> Coded:
        """Both streams (2 B, …) through the autoencoder, together or apart."""
        if self.recipe.streams == "joint":
            return self.code(images, condition)
        conditions = (None, None) if condition is None else condition.chunk(2)
        apart = [self.code(*part) for part in zip(images.chunk(2), conditions, strict=True)]
        return Coded(*(torch.cat(pair) for pair in zip(*apart, strict=True)))

    def code(self, images: Tensor, condition: Tensor | None) -> Coded:
        """Images (B, 3, S, S) there and back, by way of a drawn latent."""
        coded: Coded = self.vae(images, self._noise, condition)
        return coded

    def decoder_condition(self, batch: Batch) -> Tensor | None:
        """What the decoder is given alongside the latent, (2 B, K), or nothing."""
        return None

    def other_terms(self, coded: Coded, batch: Batch) -> list[tuple[Tensor, float]]:
        """Terms of the autoencoder's loss in addition to the ELBO, scalars, and their weights; in the order of
        `vae_losses`.
        """
        return []


class VaalTrainer(AutoencoderTrainer):
    """The two against each other. With 0 steps of the autoencoder in the recipe: the abstract's second ablation."""

    vae_losses: ClassVar[tuple[str, ...]] = (*AutoencoderTrainer.vae_losses, "adversarial_loss")

    def __init__(
        self, vae: VAE, discriminator: Discriminator, recipe: AdversarialRecipe, noise: torch.Generator
    ) -> None:
        super().__init__(vae, recipe, noise, discriminator)
        self.discriminator = discriminator

    def vae_step(self, batch: Batch) -> Tensor:
        """One step on L_VAE = L_trd + λ2 L_adv (equation 4). Returns `vae_losses`."""
        self.discriminator.requires_grad_(False)
        losses = super().vae_step(batch)
        self.discriminator.requires_grad_(True)
        return losses

    def other_terms(self, coded: Coded, batch: Batch) -> list[tuple[Tensor, float]]:
        """L_adv (equation 2), scalar, and its weight λ2."""
        count = len(batch.labeled)
        states = self.states(coded.mean, batch)  # of the mean, not of the draw, as the authors'
        return [(adversarial_loss(states[:count], states[count:]), self.recipe.strength)]

    def discriminator_step(self, batch: Batch) -> Tensor:
        """One step on L_D (equation 3). Returns the loss ()."""
        self.vae.eval()
        images, count = batch.prepared(self.vae.config.image_size), len(batch.labeled)
        with torch.no_grad(), self.reduced_precision():
            means = self.vae.encoder.means(images)
        states = self.states(means, batch)
        loss = self.discriminator_loss(states[:count], states[count:], batch)
        self.optimizer_step("discriminator", loss)
        return loss.detach()

    def states(self, means: Tensor, batch: Batch) -> Tensor:
        """Logits of "labeled": (2 B, Z) -> (2 B,)."""
        logits: Tensor = self.discriminator(means)
        return logits

    def discriminator_loss(self, labeled: Tensor, unlabeled: Tensor, batch: Batch) -> Tensor:
        """L_D from the logits (B,) and (B,): scalar."""
        return discriminator_loss(labeled, unlabeled)


class Conditions(NamedTuple):
    """What decoder and discriminator are given alongside the codes: (L, 1) and (U, 1) each, on the device."""

    decoder_labeled: Tensor
    decoder_unlabeled: Tensor
    discriminator_labeled: Tensor
    discriminator_unlabeled: Tensor


class ConditionedTrainer(VaalTrainer):
    """TA-VAAL's: VAAL's, with the rank of every image known to the decoder and to the discriminator."""

    def __init__(
        self,
        vae: VAE,
        discriminator: Discriminator,
        recipe: AdversarialRecipe,
        noise: torch.Generator,
        conditions: Conditions,
    ) -> None:
        super().__init__(vae, discriminator, recipe, noise)
        self._conditions = conditions

    def decoder_condition(self, batch: Batch) -> Tensor:
        """The ranks of the batch's images, (2 B, 1)."""
        conditions = self._conditions
        of_labeled = conditions.decoder_labeled[batch.labeled_at]
        return torch.cat([of_labeled, conditions.decoder_unlabeled[batch.unlabeled_at]])

    def states(self, means: Tensor, batch: Batch) -> Tensor:
        """Logits of "labeled" from codes and ranks: (2 B, Z) -> (2 B,)."""
        conditions = self._conditions
        of_labeled = conditions.discriminator_labeled[batch.labeled_at]
        condition = torch.cat([of_labeled, conditions.discriminator_unlabeled[batch.unlabeled_at]])
        logits: Tensor = self.discriminator(means, condition)
        return logits


class WassersteinTrainer(ConditionedTrainer):
    """TA-VAAL's with a Wasserstein autoencoder (Tolstikhin et al., ICLR 2018), which the supplement names: nothing is
    drawn, an image's code is its mean, and all codes of a stream together are to look like draws from the prior.
    """

    vae_losses: ClassVar[tuple[str, ...]] = ("reconstruction_loss", "mmd_loss", "adversarial_loss")

    def trade(self, errors: Tensor, coded: Coded, pixel_values: int) -> tuple[Tensor, Tensor]:
        """Of one stream, scalars: squared error plus β times the maximum mean discrepancy, and the latter. The error is
        summed over the pixels under the recipe's KL reduction "mean", else their mean."""
        draws = torch.randn(coded.mean.shape, generator=self._noise, device=coded.mean.device)
        away = maximum_mean_discrepancy(coded.mean, draws)
        scale = pixel_values if self.recipe.kl_reduction == "mean" else 1
        return scale * errors.mean() + self.recipe.beta * away, away

    def code(self, images: Tensor, condition: Tensor | None) -> Coded:
        """Images (B, 3, S, S) there and back, by way of their means."""
        mean, log_variance = self.vae.encoder(images)
        decoded = with_condition(mean[:, : self.vae.config.decoded], condition)
        return Coded(self.vae.decoder(decoded), mean, log_variance, mean)


class RelabelingTrainer(VaalTrainer):
    """SRAAL's: the labels train the autoencoder's second half of the latent through a classifier, and unlabeled
    images count as unlabeled only as far as the task network is uncertain of them.
    """

    vae_losses: ClassVar[tuple[str, ...]] = (*VaalTrainer.vae_losses, "label_loss")

    def __init__(
        self,
        vae: VAE,
        discriminator: Discriminator,
        recipe: AdversarialRecipe,
        noise: torch.Generator,
        targets: Tensor,
        uncertainty: Tensor,
        label_weight: float,
    ) -> None:
        """targets (L,) int64, or probabilities (L, C) float32; uncertainty (U,) float32 in [0, 1]; both on the device.
        `vae` has classes.
        """
        super().__init__(vae, discriminator, recipe, noise)
        self._targets = targets
        self._uncertainty = uncertainty
        self._label_weight = label_weight

    def other_terms(self, coded: Coded, batch: Batch) -> list[tuple[Tensor, float]]:
        """The gradient of the label term reaches encoder and classifier, by way of the latent's second half."""
        logits = self.vae.classify(coded.latent[: len(batch.labeled)])
        label_loss = functional.cross_entropy(logits, self._targets[batch.labeled_at])
        return [*super().other_terms(coded, batch), (label_loss, self._label_weight)]

    def discriminator_loss(self, labeled: Tensor, unlabeled: Tensor, batch: Batch) -> Tensor:
        """L_D with relabeled states, from the logits (B,) and (B,): scalar."""
        return relabeled_loss(labeled, unlabeled, self._uncertainty[batch.unlabeled_at])
