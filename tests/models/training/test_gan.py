"""The training of a GAN: in pieces as in one go, for as long as it may, and what is measured of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models import checkpoint
from models.data import DataError, Runtime
from models.deadline import Deadline
from models.networks.gan import KINDS, GANConfig, build_gan
from models.networks.vae import prepare
from models.training.gan import GanTraining
from models.training.gan_health import distinct_neighbors, generator_health

CPU = torch.device("cpu")
ROWS = np.arange(12)


def pictures(count: int = 40, seed: int = 0) -> np.ndarray:
    """Gray images of a bright square somewhere: (N, 28, 28, 3) uint8."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 30, (count, 28, 28, 1), dtype=np.uint8)
    for image, (row, column) in zip(images, rng.integers(2, 16, (count, 2)), strict=True):
        image[row : row + 10, column : column + 10] += 200
    return np.repeat(images, 3, axis=3)


def begun(kind: str = "dcgan", seed: int = 3) -> GanTraining:
    generator, critic = build_gan(GANConfig(kind, 28, 1, 4, 6), torch.Generator().manual_seed(0))
    return GanTraining(generator, critic, seed)


def weights(training: GanTraining) -> torch.Tensor:
    nets = (training.generator, training.critic, training.average)
    return torch.cat([value.flatten().double() for net in nets for value in net.state_dict().values()])


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_that_was_stored_between_its_pieces_is_the_same_as_one_in_one_go(kind: str, tmp_path: Path) -> None:
    pixels, whole, first = pictures(), begun(kind), begun(kind)
    whole.run(pixels, ROWS, 5, Runtime(CPU, 0))
    first.run(pixels, ROWS, 2, Runtime(CPU, 0))
    checkpoint.save(tmp_path / "training.pt", first.state_dict())
    again = GanTraining.from_state(checkpoint.load(tmp_path / "training.pt"), CPU)
    assert (again.taken, again.seconds) == (2, first.seconds)
    again.run(pixels, ROWS, 5, Runtime(CPU, 9))
    assert again.taken == whole.taken == 5 and torch.equal(weights(again), weights(whole))


def test_another_seed_is_another_training() -> None:
    one, other = begun(seed=1), begun(seed=2)
    for training in (one, other):
        training.run(pictures(), ROWS, 1, Runtime(CPU, 0))
    assert not torch.equal(weights(one), weights(other))


def test_it_ends_by_its_deadline_or_where_something_else_is_due() -> None:
    training, asked = begun(), []
    training.run(pictures(), ROWS, 1000, Runtime(CPU, 0, deadline=Deadline.after(0.0)))
    assert training.taken == 1 and training.seconds > 0
    training.run(pictures(), ROWS, 1000, Runtime(CPU, 0), lambda: bool(asked.append(1)) or len(asked) == 3)
    assert training.taken == 4 and not training.generator.training
    training.run(pictures(), ROWS, 4, Runtime(CPU, 0))
    assert training.taken == 4


def test_progress_counts_all_iterations_also_those_of_earlier_pieces() -> None:
    seen: list[tuple[str, int, int]] = []
    training = begun()
    training.run(pictures(), ROWS, 2, Runtime(CPU, 0))
    training.run(pictures(), ROWS, 4, Runtime(CPU, 0, lambda *now: seen.append(now)))
    assert seen == [("gan", 3, 4), ("gan", 4, 4)]


def test_one_image_is_too_few() -> None:
    with pytest.raises(DataError, match="two images"):
        begun().run(pictures(), ROWS[:1], 1, Runtime(CPU, 0))


def test_the_same_image_over_and_over_has_one_neighbor_of_its_own() -> None:
    among = torch.eye(4)
    assert distinct_neighbors(among[[2, 2, 2, 2]], among) == 0.25 and distinct_neighbors(among, among) == 1.0


def test_a_generator_that_was_not_trained_is_at_the_lower_end_and_real_images_are_at_the_upper() -> None:
    pixels, training = pictures(200), begun()
    found = generator_health(
        training.average, training.critic, pixels, np.arange(200), lambda images: images.flatten(1), Runtime(CPU, 0)
    )
    assert found["gan_distinct_neighbors"] < 0.1 * found["gan_distinct_of_real"] and found["gan_recall"] == 0.0
    assert found["gan_distinct_of_real"] > 0.3 and found["gan_precision_of_real"] > 0.5


def test_what_learns_moves_toward_the_images() -> None:
    pixels, training = pictures(), begun()
    real = prepare(torch.from_numpy(pixels), 28).mean(dim=0)
    latent = torch.randn((64, 6), generator=torch.Generator().manual_seed(0))

    def away() -> float:
        with torch.no_grad():
            return float((training.average(latent).mean(dim=0) - real).square().mean())

    before = away()
    training.run(pixels, np.arange(40), 40, Runtime(CPU, 0))
    assert away() < 0.9 * before
