"""What VAAL's relatives have in common: the direction, errors that name the sampler, settings that reach the recipe."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from models.data import ClassTargets, DataError, Runtime
from models.training.adversarial import AdversarialRecipe, plan
from models.training.task_network import TrainingDiverged
from samplers import SAMPLERS
from samplers.adversarial_base import AdversarialSampler
from samplers.base import NotFitted
from tests.samplers.novelty import LABELED, NAMES, NET, NOBODY, UNLABELED, make_data, make_sampler, novel_first

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU, 0)
EVERY = pytest.mark.parametrize("name", NAMES)


def test_these_are_all_of_them() -> None:
    assert tuple(name for name, kind in SAMPLERS.items() if issubclass(kind, AdversarialSampler)) == NAMES


@EVERY
def test_novel_images_are_asked_for_first(name: str) -> None:
    """Dark images occur only among the unlabeled. Half of the pairs are in order by chance; without the autoencoder's
    training the discriminator soon knows the bright unlabeled images by heart and calls them novel, too.
    """
    data, sampler = make_data(), make_sampler(name, vaal_iterations=20, vaal_batch_size=16, vaal_learning_rate=3e-3)
    figures = sampler.fit(NET, data, RUNTIME)
    scores = sampler.score(NET, data.pixels, np.arange(LABELED + UNLABELED), RUNTIME).acquisition
    assert novel_first(scores) > (0.8 if name in ("vaal-no-vae", "vaal-frozen-vae") else 0.95)
    assert ("discriminator_accuracy" in figures) == (name != "vaal-wasserstein")
    assert all(np.isfinite(value) for value in figures.values())


@EVERY
def test_errors_name_the_sampler(name: str) -> None:
    data = make_data()
    with pytest.raises(NotFitted, match=f"sampler {name}: its .* neither trained nor loaded"):
        make_sampler(name).score(NET, data.pixels, data.unlabeled, RUNTIME)
    with pytest.raises(DataError, match=f"sampler {name}: there is no labeled row"):
        make_sampler(name).fit(NET, dataclasses.replace(data, labeled=NOBODY, targets=ClassTargets(NOBODY)), RUNTIME)
    with pytest.raises(TrainingDiverged, match=rf"sampler {name}: .*vaal_learning_rate lower \(it is 1e\+20\)"):
        make_sampler(name, vaal_learning_rate=1e20, vaal_iterations=4).fit(NET, data, RUNTIME)


@EVERY
def test_settings_reach_the_recipe(name: str) -> None:
    """Every setting that a sampler knows has its effect, under the recipe's own names."""
    given = {
        "vaal_iterations": 3,
        "vaal_epochs": 5,
        "vaal_batch_size": 7,
        "vaal_learning_rate": 0.25,
        "vaal_beta": 0.5,
        "vaal_lambda": 9.0,
        "vaal_vae_steps": 4,
        "ta_vaal_vae_steps": 6,
        "vaal_discriminator_steps": 8,
        "vaal_kl_reduction": "elements",
    }
    known = {key: value for key, value in given.items() if hasattr(SAMPLERS[name].Options, key)}
    recipe = make_sampler(name, **known).options.recipe()
    fields = {key: key.removeprefix("ta_").removeprefix("vaal_") for key in known} | {"vaal_lambda": "strength"}
    for key, value in known.items():
        assert getattr(recipe, fields[key]) == value, key
    steps = {"vaal-no-vae": (0, 8), "vaal-frozen-vae": (0, 8), "vaal-wasserstein": (4, 0), "ta-vaal": (6, 8)}
    assert (recipe.vae_steps, recipe.discriminator_steps) == steps.get(name, (4, 8))


@EVERY
def test_a_cycle_is_as_long_for_all_of_them(name: str) -> None:
    defaults = SAMPLERS[name](task="classification", num_classes=2, image_size=32)
    assert isinstance(defaults, AdversarialSampler)
    for device in (CPU, torch.device("cuda")):
        expected = plan(AdversarialRecipe(), 100, 1_900, 32, device)
        assert plan(defaults.options.recipe(), 100, 1_900, 32, device) == expected


@EVERY
def test_the_task_network_stands_still(name: str) -> None:
    """No gradient reaches it, no batch statistic moves."""
    data, sampler = make_data(), make_sampler(name)
    before = {key: value.clone() for key, value in NET.state_dict().items()}
    sampler.fit(NET, data, RUNTIME)
    assert all(torch.equal(value, before[key]) for key, value in NET.state_dict().items())
    assert all(parameter.grad is None for parameter in NET.parameters())


@EVERY
def test_large_images_are_worked_on_at_64_pixels(name: str) -> None:
    data, sampler = make_data(224, 3, 5), make_sampler(name, 224, vaal_iterations=1, vaal_batch_size=2)
    sampler.fit(NET, data, RUNTIME)
    assert sampler.state_dict().get("game", sampler.state_dict())["config"]["image_size"] == 64
    assert len(np.unique(sampler.score(NET, data.pixels, data.unlabeled, RUNTIME).acquisition)) == 5
