"""VAAL's trainer: what each step moves and what it must not, and that it learns what it is for.

Sinha et al. (VAAL), equations of the extended abstract, as cited in models/adversarial.py.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data import ClassTargets, CycleData, DataError, Runtime
from models.inference.streaming import map_rows
from models.networks.discriminator import adversarial_loss, build_discriminator, discriminator_loss
from models.networks.vae import VAEConfig, build_vae, prepare
from models.training.adversarial import (
    AdversarialRecipe,
    Batch,
    plan,
    state_accuracy,
    train_adversarially,
)
from models.training.adversarial_trainers import VaalTrainer
from models.training.task_network import TrainingDiverged

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
NOBODY = np.empty(0, dtype=np.int64)


def make_trainer(device: torch.device = CPU, width: int = 4, **recipe: Any) -> VaalTrainer:
    generator = torch.Generator().manual_seed(0)
    vae = build_vae(VAEConfig(32, width, 6), generator).to(device)
    discriminator = build_discriminator(6, generator).to(device)
    noise = torch.Generator(device).manual_seed(1)
    return VaalTrainer(
        vae, discriminator, AdversarialRecipe(**{"learning_rate": 1e-3, "batch_size": 8} | recipe), noise
    )


def images(value: int, count: int = 8, seed: int = 0) -> Tensor:
    """Noise around a brightness: (B, 32, 32, 3) uint8."""
    noise = torch.randint(0, 60, (count, 32, 32, 3), generator=torch.Generator().manual_seed(seed))
    return (noise + value).to(torch.uint8)


def batch_of(labeled: Tensor, unlabeled: Tensor) -> Batch:
    return Batch(labeled, unlabeled, torch.arange(len(labeled)), torch.arange(len(unlabeled)))


def both(seed: int = 0, other: int | None = None, count: int = 8) -> Batch:
    """Bright labeled and dark unlabeled images."""
    return batch_of(images(160, count, seed), images(20, count, seed if other is None else other))


def logits_of(trainer: VaalTrainer, data: CycleData, rows: np.ndarray, runtime: Runtime) -> np.ndarray:
    def logits(images: Tensor) -> tuple[Tensor, ...]:
        return (trainer.discriminator(trainer.vae.encoder.means(prepare(images, 32))),)

    return map_rows(data.pixels, rows, runtime, logits)[0]


def make_data(labeled: int = 20, unlabeled: int = 40) -> CycleData:
    """Labeled rows are bright; of the unlabeled ones every other is bright and every other dark."""
    count = labeled + unlabeled
    pixels = images(160, count).numpy()
    dark = np.arange(labeled + 1, count, 2)
    pixels[dark] = images(20, len(dark)).numpy()
    rows = np.arange(count)
    return CycleData(pixels, rows[:labeled], rows[labeled:], ClassTargets(np.zeros(labeled, dtype=np.int64)), 2)


def state_of(net: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in net.state_dict().items()}


def changed(net: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}


# --- losses ---


def test_losses_by_hand() -> None:
    """D = ½ everywhere: 2 log 2 for both. D(z_L) = ¾ and D(z_U) = ¼: the discriminator loses
    -2 log ¾, the encoder -log ¾ - log ¼.
    """
    even, three = torch.zeros(3), torch.full((2,), math.log(3.0))
    assert discriminator_loss(even, even).item() == pytest.approx(2 * math.log(2))
    assert adversarial_loss(even, even).item() == pytest.approx(2 * math.log(2))
    assert discriminator_loss(three, -three).item() == pytest.approx(-2 * math.log(0.75))
    assert adversarial_loss(three, -three).item() == pytest.approx(-math.log(0.75) - math.log(0.25))


def test_losses_are_binary_cross_entropy_with_labeled_as_one() -> None:
    left, right = torch.randn(7, generator=torch.Generator().manual_seed(0)), torch.tensor([90.0, -90.0, 0.5])
    cross_entropy = functional.binary_cross_entropy_with_logits
    ones, zeros = cross_entropy(left, torch.ones(7)), cross_entropy(right, torch.zeros(3))
    torch.testing.assert_close(discriminator_loss(left, right), ones + zeros)
    torch.testing.assert_close(adversarial_loss(left, right), ones + cross_entropy(right, torch.ones(3)))


def test_the_discriminator_answers_one_logit_a_row() -> None:
    discriminator = build_discriminator(6, torch.Generator().manual_seed(0))
    for rows in (1, 2, 9):
        assert discriminator(torch.zeros(rows, 6)).shape == (rows,)


def test_the_discriminator_separates_latent_clouds() -> None:
    """Labeled codes N(+3, 1); unlabeled ones half the same, half novel, N(-3, 1): the novel ones look least
    labeled.
    """
    generator = torch.Generator().manual_seed(0)
    discriminator = build_discriminator(4, generator)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=5e-4)

    def cloud(center: float, rows: int) -> Tensor:
        return torch.randn(rows, 4, generator=generator) + center

    for _ in range(60):
        unlabeled = torch.cat([cloud(3.0, 32), cloud(-3.0, 32)])
        loss = discriminator_loss(discriminator(cloud(3.0, 64)), discriminator(unlabeled))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        known, novel = discriminator(cloud(3.0, 200)), discriminator(cloud(-3.0, 200))
    assert novel.max() < known.min()
    assert novel.mean() < -1.0
    assert known.mean().item() == pytest.approx(math.log(2.0), abs=0.5)  # two in three codes there are labeled


# --- steps ---


def test_the_autoencoders_step_moves_nothing_of_the_discriminator() -> None:
    trainer = make_trainer()
    vae, discriminator = state_of(trainer.vae), state_of(trainer.discriminator)
    trainer.vae_step(both())
    assert changed(trainer.discriminator, discriminator) == set()
    assert all(parameter.grad is None for parameter in trainer.discriminator.parameters())
    assert changed(trainer.vae, vae) == set(vae)


def test_the_discriminators_step_moves_nothing_of_the_autoencoder() -> None:
    trainer = make_trainer()
    vae, discriminator = state_of(trainer.vae), state_of(trainer.discriminator)
    trainer.discriminator_step(both())
    assert changed(trainer.vae, vae) == set()  # neither parameters nor the batch statistics
    assert all(parameter.grad is None for parameter in trainer.vae.parameters())
    assert changed(trainer.discriminator, discriminator) == set(discriminator)


def test_without_beta_and_strength_it_is_an_autoencoder() -> None:
    """The step equals one of Adam on the mean squared errors of the two streams, gradients and all."""
    trainer, reference = make_trainer(beta=0.0, strength=0.0, kl_reduction="sum"), make_trainer()
    optimizer = torch.optim.Adam(reference.vae.parameters(), lr=1e-3)
    for seed in range(3):
        batch = both(seed, seed + 10)
        reported = trainer.vae_step(batch)
        x = prepare(torch.cat([batch.labeled, batch.unlabeled]), 32)
        reconstruction = reference.vae.train()(x, reference._noise).reconstruction
        errors = functional.mse_loss(reconstruction[:8], x[:8]), functional.mse_loss(reconstruction[8:], x[8:])
        optimizer.zero_grad()
        sum(errors, torch.zeros(())).backward()
        optimizer.step()
        assert reported[0].item() == pytest.approx(0.5 * (errors[0] + errors[1]).item(), rel=1e-5)
    for own, expected in zip(trainer.vae.parameters(), reference.vae.parameters(), strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("setting", ["beta", "strength"])
def test_beta_and_strength_weigh_their_terms(setting: str) -> None:
    """More weight, less of it after a few steps."""
    place = {"beta": 1, "strength": 2}[setting]
    seen = []
    for weight in (0.0, 1e5):
        trainer = make_trainer(**{"beta": 0.0, "strength": 0.0, setting: weight})
        for seed in range(6):
            losses = trainer.vae_step(both(seed, seed + 10))
        seen.append(losses[place].item())
    assert seen[1] < 0.8 * seen[0]


def test_an_iteration_takes_a_new_batch_for_each_step_but_the_discriminators_first() -> None:
    taken: list[Batch] = []
    given: list[tuple[str, Batch]] = []

    def batches() -> Iterator[Batch]:
        for seed in range(100):
            taken.append(both(seed))
            yield taken[-1]

    class Watched(VaalTrainer):
        def vae_step(self, batch: Batch) -> Tensor:
            given.append(("vae", batch))
            return super().vae_step(batch)

        def discriminator_step(self, batch: Batch) -> Tensor:
            given.append(("discriminator", batch))
            return super().discriminator_step(batch)

    plain = make_trainer(vae_steps=2, discriminator_steps=3)
    trainer = Watched(plain.vae, plain.discriminator, plain.recipe, plain._noise)
    assert trainer.iterate(batches()).shape == (4,)
    assert [name for name, _ in given] == ["vae"] * 2 + ["discriminator"] * 3
    assert len(taken) == 4
    assert [batch is taken[place] for (_, batch), place in zip(given, (0, 1, 1, 2, 3), strict=True)] == [True] * 5


# --- training ---


def test_how_long_it_trains() -> None:
    """The paper: 50,000 images, 100 epochs, batches of 128, so 39,062 iterations, however many are labeled."""
    paper = AdversarialRecipe()
    assert plan(paper, 5_000, 45_000, 32, CUDA) == (39_062, 128)
    assert plan(paper, 20_000, 30_000, 32, CUDA) == (39_062, 128)
    assert plan(paper, 1, 1, 32, CUDA) == (1, 128)
    assert plan(paper, 100, 1_900, 32, CPU) == plan(paper, 5_000, 45_000, 32, CPU)
    assert plan(paper, 100, 1_900, 32, CPU)[1] == 32
    for device in (CPU, CUDA):
        assert plan(dataclasses.replace(paper, iterations=7), 100, 1_900, 32, device) == (7, 128)
        assert plan(dataclasses.replace(paper, epochs=3), 100, 1_900, 64, device) == (45, 128)  # 3 * 1900 / 128 = 44.5
        assert plan(dataclasses.replace(paper, epochs=3), 1_900, 100, 64, device) == (45, 128)


def test_novel_images_come_to_look_least_labeled() -> None:
    """The whole trainer on images: dark ones are in the unlabeled set only."""
    data, trainer = make_data(), make_trainer()
    reported: list[tuple[str, int, int]] = []
    runtime = Runtime(CPU, 0, lambda phase, done, total: reported.append((phase, done, total)))
    figures = train_adversarially(trainer, data, 60, 16, runtime)
    logits = logits_of(trainer, data, np.arange(60), Runtime(CPU, 0))
    bright, dark = np.concatenate([logits[:20], logits[20::2]]), logits[21::2]
    assert (dark[:, None] < bright).mean() > 0.95  # of all pairs; half of them without having learned
    assert figures["iterations"] == 60
    assert figures["iterations_per_second"] == pytest.approx(60 / figures["seconds"])
    accuracy = state_accuracy(lambda rows: logits[rows], data, Runtime(CPU, 0))
    assert 0.6 < accuracy <= 1.0  # every other unlabeled image cannot be told
    assert accuracy == pytest.approx(0.5 * (np.mean(logits[:20] > 0) + np.mean(logits[20:] < 0)))
    assert figures["reconstruction_loss"] < 0.4  # about 1 before, 0.3 for two plain gray images
    assert all(np.isfinite(value) for value in figures.values())
    assert reported == [("fit", i + 1, 60) for i in range(60)]
    assert not trainer.vae.training


@pytest.mark.parametrize(("labeled", "unlabeled"), [(1, 1), (1, 30), (30, 1), (3, 9)])
def test_sets_smaller_than_the_batch_are_gone_through_again(labeled: int, unlabeled: int) -> None:
    data, trainer = make_data(labeled, unlabeled), make_trainer()
    figures = train_adversarially(trainer, data, 2, 16, Runtime(CPU, 0))
    assert all(np.isfinite(value) for value in figures.values())


def test_either_set_empty_is_an_error() -> None:
    data = make_data()
    for missing in ({"labeled": NOBODY, "targets": ClassTargets(NOBODY)}, {"unlabeled": NOBODY}):
        with pytest.raises(DataError, match="some of both"):
            train_adversarially(make_trainer(), dataclasses.replace(data, **missing), 1, 8, Runtime(CPU, 0))


def test_losses_that_are_not_finite_are_an_error_that_says_what_to_set() -> None:
    with pytest.raises(TrainingDiverged, match=r"vaal_learning_rate lower \(it is 1e\+20\)"):
        train_adversarially(make_trainer(learning_rate=1e20), make_data(), 5, 8, Runtime(CPU, 0))


def test_another_reduction_is_refused() -> None:
    with pytest.raises(ValueError, match="'max': choose one of mean, sum, elements"):
        make_trainer(kl_reduction="max")


def test_the_same_seed_gives_the_same_networks() -> None:
    def trained(seed: int) -> dict[str, Tensor]:
        trainer = make_trainer()
        train_adversarially(trainer, make_data(), 3, 8, Runtime(CPU, seed))
        return trainer.vae.state_dict()

    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = trained(0), trained(0), trained(1)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["encoder.mean.weight"], other["encoder.mean.weight"])


def test_optimizers_go_on_where_they_were_at_the_new_learning_rate() -> None:
    """Adam's first step has the size of the learning rate whatever the gradient; a continued one has not."""
    trainer = make_trainer()
    for seed in range(3):
        trainer.vae_step(both(seed))
    state = trainer.state_dict()
    resumed = make_trainer(learning_rate=0.0)
    resumed.load_state_dict(state)
    before = state_of(resumed.vae)
    resumed.vae_step(both())
    moved = changed(resumed.vae, before)
    assert {key for key in moved if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))} == set()
    steps = {entry["step"].item() for entry in resumed.state_dict()["vae"].values()}
    assert steps == {4.0}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_it_learns_without_waiting_in_an_iteration() -> None:
    trainer = make_trainer(CUDA, width=16)
    batches = iter([Batch(*(part.to(CUDA) for part in both(i))) for i in range(20)])
    trainer.iterate(batches)  # fills caches
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.iterate(batches)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    data, runtime = make_data(), Runtime(CUDA, 0)
    train_adversarially(trainer, data, 100, 16, runtime)
    logits = logits_of(trainer, data, np.arange(60), runtime)
    assert (logits[21::2][:, None] < logits[:20]).mean() > 0.95
