"""Query strategies, one a file, and the one table that names them. Importing it does without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

from samplers.base import Sampler, UnknownSampler, WrongTask
from samplers.options import About, about

if TYPE_CHECKING:
    import torch

_TABLE = (
    "samplers.random:RandomSampler",
    "samplers.least_confidence:LeastConfidenceSampler",
    "samplers.margin:MarginSampler",
    "samplers.entropy:EntropySampler",
    "samplers.max_prob:MaxProbSampler",
    "samplers.ceal:CealSampler",
    "samplers.core_set:CoreSetSampler",
    "samplers.typiclust:TypiClustSampler",
    "samplers.badge:BadgeSampler",
    "samplers.dropquery:DropQuerySampler",
    "samplers.uherding:UHerdingSampler",
    "samplers.bait:BaitSampler",
    "samplers.mc_dropout:McDropoutSampler",
    "samplers.bald:BaldSampler",
    "samplers.ensemble:EnsembleSampler",
    "samplers.qbc:QbcSampler",
    "samplers.learning_loss:LearningLossSampler",
    "samplers.learning_loss_v2:LearningLossV2Sampler",
    "samplers.ads:AdsSampler",
    "samplers.vaal:VaalSampler",
    "samplers.vaal_no_vae:VaalNoVaeSampler",
    "samplers.vaal_frozen_vae:VaalFrozenVaeSampler",
    "samplers.vaal_wasserstein:VaalWassersteinSampler",
    "samplers.ta_vaal:TaVaalSampler",
    "samplers.sraal:SraalSampler",
    "samplers.asal:AsalSampler",
    "samplers.gaal:GaalSampler",
    "samplers.dast_al:DastAlSampler",
)
"""module:class, in the order in which samplers are listed. Everything else about a sampler stands in its file."""


def _load(place: str) -> type[Sampler[Any]]:
    module, _, name = place.partition(":")
    found: type[Sampler[Any]] = getattr(import_module(module), name)
    return found


SAMPLERS: dict[str, type[Sampler[Any]]] = {sampler.name: sampler for sampler in map(_load, _TABLE)}
SAMPLER_NAMES = tuple(SAMPLERS)


def all_options() -> dict[str, About]:
    """The settings that samplers add, by name, in the order of the table."""
    found: dict[str, About] = {}
    for sampler in SAMPLERS.values():
        for item in fields(sampler.Options):
            known = about(item)
            if known is not None:
                found.setdefault(item.name, known)
    return found


def build_sampler(
    name: str,
    options: Mapping[str, object],
    *,
    task: str,
    num_classes: int,
    image_size: int,
    device: torch.device | str = "cpu",
) -> Sampler[Any]:
    """The sampler of this name, given those of `options` that it knows and none of the others.

    Raises UnknownSampler; WrongTask, with the sampler's reason, for a kind of task that it does not serve.
    """
    if name not in SAMPLERS:
        raise UnknownSampler(f"unknown sampler {name!r}: choose one of {', '.join(SAMPLERS)}")
    sampler = SAMPLERS[name]
    if task not in sampler.tasks:
        reason = sampler.refusals.get(task, f"it serves {', '.join(sampler.tasks)}")
        raise WrongTask(f"sampler {name} has no meaning for {task}: {reason}")
    known = {item.name: options[item.name] for item in fields(sampler.Options) if item.name in options}
    return sampler(sampler.Options(**known), task=task, num_classes=num_classes, image_size=image_size, device=device)
