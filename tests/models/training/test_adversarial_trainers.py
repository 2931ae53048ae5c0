"""The trainers other than VAAL's own: what each step moves, what it must not, and which row's knowledge it uses.

VAAL's trainer itself is in test_adversarial.py. Sources as in models/training/adversarial_trainers.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.losses.maximum_mean_discrepancy import maximum_mean_discrepancy
from models.networks.discriminator import build_discriminator, build_image_discriminator
from models.networks.vae import Coded, VAEConfig, build_vae
from models.training.adversarial import AdversarialRecipe, AdversarialTrainer, Batch
from models.training.adversarial_trainers import (
    AutoencoderTrainer,
    ConditionedTrainer,
    Conditions,
    ImageTrainer,
    RelabelingTrainer,
    VaalTrainer,
    WassersteinTrainer,
)

CPU = torch.device("cpu")
ROWS, LATENT, CLASSES = 5, 6, 3  # rows of either set
RECIPE = AdversarialRecipe(learning_rate=1e-3, batch_size=8)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_of(seed: int = 0) -> Batch:
    """Bright labeled and dark unlabeled images, their positions in either set drawn each time."""
    noise = torch.randint(0, 60, (2, 8, 32, 32, 3), generator=seeded(seed))
    labeled, unlabeled = (noise + torch.tensor([160, 20]).view(2, 1, 1, 1, 1)).to(torch.uint8).unbind()
    at = torch.randint(0, ROWS, (2, 8), generator=seeded(seed))
    return Batch(labeled, unlabeled, *at.unbind())


def ranks() -> Conditions:
    """A number of its own for every row, set and network."""
    return Conditions(*(torch.arange(ROWS).unsqueeze(1) / 10 + part for part in range(4)))


def networks(hidden: int = 2, **config: int) -> tuple[Any, Any, AdversarialRecipe, torch.Generator]:
    vae = build_vae(VAEConfig(32, 4, LATENT, **config), seeded())
    return vae, build_discriminator(LATENT, seeded(), vae.config.condition, hidden), RECIPE, seeded(1)


def conditioned() -> ConditionedTrainer:
    return ConditionedTrainer(*networks(condition=1), ranks())


def relabeling(uncertainty: Tensor | None = None, label_weight: float = 5.0) -> RelabelingTrainer:
    u = torch.linspace(0, 1, ROWS) if uncertainty is None else uncertainty
    return RelabelingTrainer(*networks(4, classes=CLASSES), torch.arange(ROWS) % CLASSES, u, label_weight)


def vaal() -> VaalTrainer:
    return VaalTrainer(*networks())


GAMES = pytest.mark.parametrize("make", [vaal, conditioned, relabeling])


def state_of(net: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in net.state_dict().items()}


def changed(net: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}


# --- a Wasserstein autoencoder ---


def test_a_wasserstein_autoencoder_draws_nothing_and_learns_no_variances() -> None:
    """Its code is the mean, whatever the noise, and the decoder is given the rank beside it."""
    trainer = WassersteinTrainer(*networks(condition=1), ranks())
    before, batch = state_of(trainer.vae), batch_of()
    assert trainer.losses == ("reconstruction_loss", "mmd_loss", "adversarial_loss", "discriminator_loss")
    condition = trainer.decoder_condition(batch)
    coded = trainer.code(batch.prepared(32), condition)
    assert torch.equal(coded.latent, coded.mean)
    expected = trainer.vae.decoder(torch.cat([coded.mean, condition], dim=1))
    torch.testing.assert_close(coded.reconstruction, expected)
    trainer.vae_step(batch)
    still = {"encoder.log_variance.weight", "encoder.log_variance.bias"}
    assert changed(trainer.vae, before) == before.keys() - still


@pytest.mark.parametrize(("reduction", "scale"), [("mean", 100), ("sum", 1), ("elements", 1)])
def test_what_a_wasserstein_autoencoder_trades(reduction: str, scale: int) -> None:
    """Errors of 1 and 3 in 100 pixel values are 2 on average; the rest is β = 10 times the discrepancy."""
    vae, discriminator, _, noise = networks(condition=1)
    recipe = dataclasses.replace(RECIPE, beta=10.0, kl_reduction=reduction)
    trainer = WassersteinTrainer(vae, discriminator, recipe, noise, ranks())
    codes = torch.zeros(2, LATENT)
    coded = Coded(torch.empty(0), codes, codes, codes)
    loss, away = trainer.trade(torch.tensor([1.0, 3.0]), coded, 100)
    draws = torch.randn(2, LATENT, generator=seeded(1))
    assert float(away) == pytest.approx(float(maximum_mean_discrepancy(codes, draws)))
    assert float(loss) == pytest.approx(2 * scale + 10 * float(away), rel=1e-5)


# --- who moves ---


@GAMES
def test_a_step_of_one_moves_nothing_of_the_other(make: Callable[[], VaalTrainer]) -> None:
    trainer = make()
    vae, discriminator = state_of(trainer.vae), state_of(trainer.discriminator)
    trainer.discriminator_step(batch_of())
    assert changed(trainer.vae, vae) == set()
    assert changed(trainer.discriminator, discriminator) == set(discriminator)
    assert all(parameter.grad is None for parameter in trainer.vae.parameters())
    discriminator = state_of(trainer.discriminator)
    gathered = [
        parameter.grad.clone() for parameter in trainer.discriminator.parameters() if parameter.grad is not None
    ]
    trainer.vae_step(batch_of())
    assert changed(trainer.discriminator, discriminator) == set()
    after = [parameter.grad for parameter in trainer.discriminator.parameters()]
    assert all(torch.equal(before, grad) for before, grad in zip(gathered, after, strict=True) if grad is not None)
    assert changed(trainer.vae, vae) == set(vae)


def test_what_an_iteration_tells_and_which_batches_it_takes() -> None:
    """Without steps of the autoencoder every step of the discriminator has a batch of its own."""
    taken: list[Batch] = []

    def batches() -> Iterator[Batch]:
        while True:
            taken.append(batch_of(len(taken)))
            yield taken[-1]

    alone = dataclasses.replace(RECIPE, vae_steps=0, discriminator_steps=3)
    image_game = ImageTrainer(build_image_discriminator(VAEConfig(32, 4, 1), seeded()), alone, CPU)
    frozen = VaalTrainer(*networks()[:2], alone, seeded(1))
    for trainer in (image_game, frozen):
        taken.clear()
        assert trainer.losses == ("discriminator_loss",)
        assert trainer.iterate(batches()).shape == (1,)
        assert len(taken) == 3
    taken.clear()
    no_adversary = dataclasses.replace(RECIPE, vae_steps=2, discriminator_steps=0)
    trainer = AutoencoderTrainer(networks()[0], no_adversary, seeded(1))
    assert trainer.losses == ("reconstruction_loss", "kl_loss")
    assert trainer.iterate(batches()).shape == (2,)
    assert len(taken) == 2
    assert vaal().losses == ("reconstruction_loss", "kl_loss", "adversarial_loss", "discriminator_loss")
    assert relabeling().losses[3] == "label_loss"
    assert relabeling().iterate(batches()).shape == (5,)


def test_steps_that_a_game_does_not_have_are_refused() -> None:
    trainer = AdversarialTrainer({}, RECIPE, CPU)
    with pytest.raises(NotImplementedError, match="no autoencoder"):
        trainer.vae_step(batch_of())
    with pytest.raises(NotImplementedError, match="no discriminator"):
        trainer.discriminator_step(batch_of())


@pytest.mark.parametrize("place", [0, 1])
def test_games_of_one_network_learn(place: int) -> None:
    """The discriminator of images tells bright from dark; the autoencoder reconstructs better."""
    recipe = dataclasses.replace(RECIPE, vae_steps=place, discriminator_steps=1 - place)
    trainer: AdversarialTrainer = AutoencoderTrainer(networks()[0], recipe, seeded(1))
    if place == 0:
        trainer = ImageTrainer(build_image_discriminator(VAEConfig(32, 4, 1), seeded()), recipe, CPU)
    reported = [trainer.iterate(iter([batch_of(seed)]))[0].item() for seed in range(15)]
    assert reported[-1] < 0.7 * reported[0]


# --- what is known of single rows ---


def test_decoder_and_discriminator_are_given_the_rows_own_rank() -> None:
    trainer, batch = conditioned(), batch_of()
    seen: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, args: seen.update({name: args[0].detach()})

    trainer.vae.decoder.register_forward_pre_hook(watch("decoder"))
    trainer.discriminator.layers.register_forward_pre_hook(watch("discriminator"))
    trainer.vae_step(batch)
    parts = {"decoder": (0, 1), "discriminator": (2, 3)}
    for name, (of_labeled, of_unlabeled) in parts.items():
        expected = torch.cat([batch.labeled_at / 10 + of_labeled, batch.unlabeled_at / 10 + of_unlabeled])
        assert torch.equal(seen[name][:, LATENT], expected), name
    trainer.discriminator_step(batch)
    expected = torch.cat([batch.labeled_at / 10 + 2, batch.unlabeled_at / 10 + 3])
    assert torch.equal(seen["discriminator"][:, LATENT], expected)


def test_with_all_uncertain_sraals_discriminator_plays_vaals() -> None:
    certain_of_none = relabeling(torch.ones(ROWS))
    plain = VaalTrainer(*networks(4, classes=CLASSES))
    for seed in range(3):
        batch = batch_of(seed)
        assert certain_of_none.discriminator_step(batch).item() == plain.discriminator_step(batch).item()
    assert all(
        torch.equal(one, other)
        for one, other in zip(certain_of_none.discriminator.parameters(), plain.discriminator.parameters(), strict=True)
    )


def test_uncertainty_is_looked_up_by_row() -> None:
    trainer = relabeling()
    batch, states = batch_of(), torch.linspace(-2, 2, 8)
    u = batch.unlabeled_at / (ROWS - 1)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(states, 1 - u)
    loss = trainer.discriminator_loss(torch.full((8,), 100.0), states, batch)  # the labeled cost nothing
    torch.testing.assert_close(loss, expected)


def test_the_label_terms_gradient_reaches_encoder_and_classifier_and_not_the_decoder() -> None:
    trainer, batch = relabeling(), batch_of()
    coded = trainer.vae.train()(batch.prepared(32), seeded(2))
    (_, _), (label_loss, weight) = trainer.other_terms(coded, batch)
    assert weight == 5.0
    logits = trainer.vae.classify(coded.latent[:8])
    expected = torch.nn.functional.cross_entropy(logits, batch.labeled_at % CLASSES)
    torch.testing.assert_close(label_loss, expected)
    label_loss.backward()
    assert all(parameter.grad is None for parameter in trainer.vae.decoder.parameters())
    assert trainer.vae.classifier is not None
    for net in (trainer.vae.encoder.trunk, trainer.vae.classifier):
        assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in net.parameters())
    for head in (trainer.vae.encoder.mean, trainer.vae.encoder.log_variance):
        assert head.weight.grad is not None
        assert (head.weight.grad[: LATENT // 2] == 0).all()  # the decoder's half
        assert (head.weight.grad[LATENT // 2 :] != 0).any(dim=1).all()


def test_the_classifier_learns_the_labels_from_the_labeled() -> None:
    trainer = relabeling(label_weight=1000.0)
    reported = [trainer.iterate(iter([batch_of(0), batch_of(0)]))[3].item() for _ in range(20)]
    assert reported[-1] < 0.5 * reported[0]


# --- the two streams ---


@GAMES
def test_apart_each_stream_has_statistics_of_its_own(make: Callable[[], VaalTrainer]) -> None:
    """Bright and dark images: in one batch the first normalization moves them to both sides of its shift, apart both
    come out centered on it."""
    trainer, batch = make(), batch_of()
    means: list[Tensor] = []

    def watch(module: nn.Module, args: object, result: Tensor) -> None:
        means.append(result.detach().mean(dim=(0, 2, 3)) - module.bias.detach())

    norm = next(module for module in trainer.vae.encoder.modules() if isinstance(module, nn.BatchNorm2d))
    norm.register_forward_hook(watch)
    trainer.recipe = dataclasses.replace(RECIPE, streams="separate")
    losses = trainer.vae_step(batch)
    assert len(means) == 2 and all(mean.abs().max() < 1e-4 for mean in means)
    assert torch.isfinite(losses).all()
    means.clear()
    trainer.recipe = RECIPE
    trainer.vae_step(batch)
    assert len(means) == 1


def test_without_batch_statistics_it_makes_no_difference() -> None:
    """In eval mode a row does not know the others: what is put together again is what went in, condition included."""
    trainer, batch = conditioned(), batch_of()
    trainer.vae.eval()
    images, condition = batch.prepared(32), trainer.decoder_condition(batch)
    joint = trainer._coded(images, condition)
    trainer.recipe = dataclasses.replace(RECIPE, streams="separate")
    apart = trainer._coded(images, condition)
    torch.testing.assert_close(apart.mean, joint.mean)
    torch.testing.assert_close(apart.log_variance, joint.log_variance)
    assert apart.reconstruction.shape == joint.reconstruction.shape


def test_streams_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="joint, separate"):
        dataclasses.replace(RECIPE, streams="apart")
