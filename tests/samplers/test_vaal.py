"""VAAL's sampler: what it asks for first, how it goes on from cycle to cycle (Sinha et al., ICCV 2019)."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import checkpoint
from models.data import ClassTargets, CycleData, DataError, Runtime
from models.networks.classifier import Classifier, NetConfig
from models.networks.discriminator import Discriminator
from models.networks.vae import prepare
from models.tasks import CLASSIFICATION
from samplers.base import NotFitted, Sampler
from samplers.vaal import VaalOptions, VaalSampler
from tests.samplers.novelty import LABELED, NET, NOBODY, UNLABELED, make_data, novel_first

CPU = torch.device("cpu")


def make_sampler(size: int = 32, **options: Any) -> VaalSampler:
    small = {"vaal_width": 4, "vaal_latent": 6, "vaal_iterations": 2, "vaal_batch_size": 8}
    return VaalSampler(VaalOptions(**(small | options)), task="classification", num_classes=2, image_size=size)


def score(sampler: Sampler, data: CycleData, rows: np.ndarray | None = None) -> np.ndarray:
    rows = data.unlabeled if rows is None else rows
    return sampler.score(NET, data.pixels, rows, Runtime(CPU, 0)).acquisition


def weights(sampler: VaalSampler) -> dict[str, Tensor]:
    assert sampler.networks is not None
    return sampler.networks.state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


# --- the order ---


def test_novel_images_are_asked_for_first() -> None:
    """Dark images occur only among the unlabeled."""
    data = make_data()
    sampler = make_sampler(vaal_iterations=60, vaal_batch_size=16, vaal_learning_rate=1e-3)
    sampler.fit(NET, data, Runtime(CPU, 0))
    scores = score(sampler, data, np.arange(LABELED + UNLABELED))
    assert novel_first(scores) > 0.95  # half of the pairs without having learned
    first = np.argsort(-scores[LABELED:])[:10]  # positions among the unlabeled; the odd ones are dark
    assert (first % 2 == 1).mean() >= 0.9


def test_the_score_is_minus_the_logit_of_the_encoders_mean() -> None:
    data, sampler = make_data(), make_sampler()
    sampler.fit(NET, data, Runtime(CPU, 0))
    assert sampler.vae is not None
    x = prepare(torch.from_numpy(data.pixels), 32)
    with torch.no_grad():
        mean, _ = sampler.vae.eval().encoder(x)
        probability = torch.sigmoid(sampler.part(Discriminator)(mean).double())
    scored = sampler.score(NET, data.pixels, np.arange(len(x)), Runtime(CPU, 0))
    published = 1.0 / (1.0 + np.exp(scored.acquisition))  # D itself: the lowest comes first, as in the paper
    np.testing.assert_allclose(published, probability.numpy(), rtol=1e-4)
    assert scored.predictions is None


def test_a_constant_discriminator_gives_equal_scores() -> None:
    data, sampler = make_data(), make_sampler()
    sampler.fit(NET, data, Runtime(CPU, 0))
    last = sampler.part(Discriminator).layers[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(0.7)
    assert np.unique(score(sampler, data)).tolist() == [pytest.approx(-0.7)]


def test_the_task_network_is_not_run() -> None:
    net = CLASSIFICATION.build(NetConfig("resnet18", 2, 32, 4), 0)

    class Refuse(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("the task network was run")

    net.trunk = Refuse()
    data, sampler = make_data(), make_sampler()
    sampler.fit(net, data, Runtime(CPU, 0))
    assert sampler.score(net, data.pixels, data.unlabeled, Runtime(CPU, 0)).acquisition.shape == (UNLABELED,)


def test_before_any_training_there_is_no_score() -> None:
    with pytest.raises(NotFitted, match="vaal"):
        score(make_sampler(), make_data())
    assert make_sampler().state_dict() == {}


# --- from cycle to cycle ---


def test_a_second_cycle_through_a_checkpoint_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    data, straight, stopped = make_data(), make_sampler(), make_sampler()
    for sampler in (straight, stopped):
        sampler.fit(NET, data, Runtime(CPU, 0))
    checkpoint.save(tmp_path / "sampler.pt", stopped.state_dict())
    resumed = make_sampler()
    resumed.load_state_dict(checkpoint.load(tmp_path / "sampler.pt"))
    first = {key: value.clone() for key, value in weights(straight).items()}
    for sampler in (straight, resumed):
        sampler.fit(NET, data, Runtime(CPU, 1))
    assert same(weights(straight), weights(resumed))
    forgetful = make_sampler()
    forgetful.load_state_dict({**checkpoint.load(tmp_path / "sampler.pt"), "optimisers": {}})
    forgetful.fit(NET, data, Runtime(CPU, 1))
    assert not same(weights(straight), weights(forgetful))  # the optimisers' moments have a say, and went along
    assert not same(weights(straight), first)
    fresh = make_sampler()
    fresh.fit(NET, data, Runtime(CPU, 1))
    assert not same(weights(straight), weights(fresh))  # a warm start is another start


@pytest.mark.parametrize(
    "changed", [{"vaal_width": 8}, {"vaal_latent": 5}, {"size": 64}], ids=["width", "latent", "image size"]
)
def test_another_architecture_starts_fresh_and_says_so(changed: dict[str, Any], caplog: Any) -> None:
    earlier = make_sampler()
    earlier.fit(NET, make_data(), Runtime(CPU, 0))
    size = changed.get("size", 32)
    sampler, fresh = make_sampler(**changed), make_sampler(**changed)
    with caplog.at_level(logging.INFO):
        sampler.load_state_dict(earlier.state_dict())
    assert "another architecture" in caplog.text
    for one in (sampler, fresh):
        one.fit(NET, make_data(size), Runtime(CPU, 0))
    assert same(weights(sampler), weights(fresh))


def test_a_changed_learning_rate_takes_effect_on_a_warm_start() -> None:
    data, earlier, sampler = make_data(), make_sampler(), make_sampler(vaal_learning_rate=1e-30)
    earlier.fit(NET, data, Runtime(CPU, 0))
    sampler.load_state_dict(earlier.state_dict())
    sampler.fit(NET, data, Runtime(CPU, 0))
    pairs = zip(sampler.part(Discriminator).parameters(), earlier.part(Discriminator).parameters(), strict=True)
    for own, before in pairs:
        torch.testing.assert_close(own, before, rtol=0, atol=1e-20)  # it stands still


def test_without_a_gpu_it_is_narrower_and_says_so(caplog: Any) -> None:
    sampler = make_sampler(vaal_width=0, vaal_iterations=1)
    with caplog.at_level(logging.INFO):
        sampler.fit(NET, make_data(), Runtime(CPU, 0))
    assert sampler.vae is not None
    assert sampler.vae.config.width == 32
    assert "width 32 instead of 128 (vaal_width)" in caplog.text
    assert "1 iterations of 8 labeled" in caplog.text


def test_a_cpu_scores_with_what_a_gpu_trained_at_its_own_width() -> None:
    """With vaal_width 0 the saved width counts for scoring, the device's for training."""
    data, trained = make_data(), make_sampler(vaal_width=8)
    trained.fit(NET, data, Runtime(CPU, 0))
    elsewhere = make_sampler(vaal_width=0, vaal_iterations=1)
    elsewhere.load_state_dict(trained.state_dict())
    assert (score(elsewhere, data) == score(trained, data)).all()
    elsewhere.fit(NET, data, Runtime(CPU, 0))
    assert elsewhere.vae is not None
    assert elsewhere.vae.config.width == 32
    assert np.isfinite(score(elsewhere, data)).all()


# --- odd sets ---


def test_when_all_is_labeled_the_networks_stay_as_they_are() -> None:
    data, sampler = make_data(), make_sampler()
    sampler.fit(NET, data, Runtime(CPU, 0))
    before = {key: value.clone() for key, value in weights(sampler).items()}
    assert sampler.fit(NET, dataclasses.replace(data, unlabeled=NOBODY), Runtime(CPU, 0)) == {"iterations": 0}
    assert same(weights(sampler), before)


def test_without_a_label_there_is_nothing_to_tell_apart() -> None:
    data = dataclasses.replace(make_data(), labeled=NOBODY, targets=ClassTargets(NOBODY))
    with pytest.raises(DataError, match="no labeled row"):
        make_sampler().fit(NET, data, Runtime(CPU, 0))


def test_fewer_labels_than_a_batch_and_a_last_batch_of_one() -> None:
    data, sampler = make_data(labeled=3, unlabeled=17), make_sampler()
    figures = sampler.fit(NET, data, Runtime(CPU, 0))
    assert figures["batch_size"] == 8
    rows, expected = data.unlabeled, score(sampler, data)
    scored = sampler.score(NET, data.pixels, rows, Runtime(CPU, 0, eval_batch_size=16)).acquisition
    np.testing.assert_allclose(scored, expected, atol=1e-5)


@pytest.mark.parametrize("size", [28, 40, 224])
def test_other_image_sizes(size: int) -> None:
    data, sampler = make_data(size, 3, 5), make_sampler(size)
    net: Classifier = NET
    figures = sampler.fit(net, data, Runtime(CPU, 0))
    assert all(np.isfinite(value) for value in figures.values())
    assert len(np.unique(score(sampler, data))) == 5


@pytest.mark.long
def test_two_thousand_images_at_the_cpus_settings_are_planned_to_take_few_steps() -> None:
    """What makes the default affordable: neither pool nor labels lengthen a cycle on a CPU."""
    sampler = make_sampler(vaal_iterations=0, vaal_batch_size=128)
    figures = sampler.fit(NET, make_data(labeled=30, unlabeled=60), Runtime(CPU, 0))
    assert (figures["iterations"], figures["batch_size"]) == (80, 32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_it_has_the_papers_size_and_finds_the_novel() -> None:
    cuda = torch.device("cuda")
    data = make_data()
    options = VaalOptions(vaal_iterations=150, vaal_batch_size=32)
    sampler = VaalSampler(options, task="classification", num_classes=2, image_size=32, device=cuda)
    runtime = Runtime(cuda, 0)
    sampler.fit(NET, data, runtime)
    assert sampler.vae is not None
    assert sampler.vae.config.width == 128
    scores = sampler.score(NET, data.pixels, data.unlabeled, runtime).acquisition
    assert (scores[1::2][:, None] > scores[::2]).mean() > 0.95
    on_cpu = VaalSampler(VaalOptions(), task="classification", num_classes=2, image_size=32)
    on_cpu.load_state_dict(sampler.state_dict())
    assert np.corrcoef(score(on_cpu, data), scores)[0, 1] > 0.99
