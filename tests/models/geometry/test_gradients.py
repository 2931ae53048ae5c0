"""Gradient embeddings that are never made: against embeddings that are (Ash et al., ICLR 2020)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from models.geometry.gradients import seeded_gradients
from models.tasks import CLASSIFICATION, MULTILABEL


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some(count: int = 40) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 3, generator=generator(1)), torch.randn(count, 5, generator=generator(2))


def plain(residuals: Tensor, features: Tensor, picks: int, seed: int) -> list[int]:
    """Algorithm 1 on the N x (C F) embeddings themselves."""
    embeddings = torch.einsum("nc,nf->ncf", residuals, features).flatten(1).double()
    draws, chosen = generator(seed), [int(embeddings.norm(dim=1).argmax())]
    while len(chosen) < picks:
        weights = torch.cdist(embeddings, embeddings[chosen]).amin(dim=1).square()
        weights[chosen] = 0.0
        chosen.append(int(torch.multinomial(weights, 1, generator=draws)))
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_picks_are_those_of_embeddings_that_are_made(seed: int) -> None:
    residuals, features = some()
    found = seeded_gradients(residuals, features, 12, generator(seed))
    assert found.tolist() == plain(residuals, features, 12, seed)


def test_the_next_is_drawn_by_the_squared_distance() -> None:
    """Embeddings 4, 1 and 0 on a line: behind 4 come 1 and 0 with the odds 3² to 4²."""
    residuals, features = torch.tensor([[2.0], [1.0], [0.0]]), torch.tensor([[2.0], [1.0], [1.0]])
    second = [int(seeded_gradients(residuals, features, 2, generator(seed))[1]) for seed in range(600)]
    assert second.count(1) / 600 == pytest.approx(9 / 25, abs=0.06)  # three standard deviations


def test_copies_are_picked_once() -> None:
    residuals, features = some(3)
    found = seeded_gradients(residuals.repeat(4, 1), features.repeat(4, 1), 10, generator())
    assert sorted((found % 3).tolist()) == [0, 1, 2]


def test_residuals_of_classes_by_hand() -> None:
    logits = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]]).log()
    expected = [[-0.4, 0.3, 0.1], [0.2, 0.2, -0.4]]
    np.testing.assert_allclose(CLASSIFICATION.residuals(logits), expected, atol=1e-6)


def test_residuals_of_several_choices_by_hand() -> None:
    logits = torch.tensor([[0.8, 0.3]]).logit()
    np.testing.assert_allclose(MULTILABEL.residuals(logits), [[-0.2, 0.3]], atol=1e-6)


@pytest.mark.parametrize("task", [CLASSIFICATION, MULTILABEL])
def test_residuals_are_the_gradient_of_the_loss(task: type) -> None:
    logits = torch.randn(4, 3, generator=generator(), requires_grad=True)
    if task is CLASSIFICATION:
        loss = torch.nn.functional.cross_entropy(logits, logits.argmax(dim=1), reduction="sum")
    else:
        likely = (logits > 0).float()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, likely, reduction="sum")
    loss.backward()
    assert logits.grad is not None
    torch.testing.assert_close(task.residuals(logits.detach()), logits.grad)
