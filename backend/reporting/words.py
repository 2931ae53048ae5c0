"""The state of a project in words: what runs, and what comes next."""

from __future__ import annotations

from collections.abc import Mapping

from backend.reporting.facts import Facts
from backend.reporting.replays import left_in_words
from backend.state.records import CONNECTED

PHASES: Mapping[str, str] = {
    "read": "reading annotations",
    "images": "fetching images",
    "features": "embedding images",
    "masks": "reading masks",
    "train": "training the network",
    "calibrate": "measuring confidences",
    "control": "comparing with random labels",
    "fit": "training the sampler",
    "gan": "training the generator",
    "autoencoder": "training the autoencoder",
    "align": "training the sampler",
    "synthesis": "generating images",
    "match": "matching generated images",
    "embed": "embedding images",
    "candidates": "choosing what is scored",
    "index": "looking for neighbors",
    "neighbors": "looking for neighbors",
    "badge": "scoring the pool",
    "bait": "scoring the pool",
    "dropquery": "scoring the pool",
    "uherding": "scoring the pool",
    "score": "scoring the pool",
    "publish": "publishing the order",
    "wait": "waiting for its turn",
}


def phase_in_words(phase: str) -> str:
    """What a cycle does in this phase."""
    return PHASES.get(phase, phase or "beginning")


def running_in_words(facts: Facts) -> str:
    """What runs now; "" if nothing does."""
    if facts.running is not None:
        return f"Cycle {facts.running.number}: {phase_in_words(facts.running.phase)}"
    if facts.project.lease_owner and facts.project.lease_expires > facts.at:
        if facts.project.replay_requested and facts.project.replaying:
            return "Upkeep: the replay, and whatever else is due"
        return "Upkeep: comparing with Label Studio and completing the queue"
    return ""


def preparation_in_words(facts: Facts) -> str:
    """How far the training is of what the sampler learns from the images apart from cycles; "" if none is under way."""
    known = facts.project.preparation
    if not known:
        return ""
    if known.get("error"):
        return f"Between cycles, what {facts.sampler} needs could not be trained: {known['error']}."
    if known["over"]:
        return ""
    share = known["done"] / max(1, known["total"])
    return f"Between cycles: {phase_in_words(known['phase'])}, {share:.0%} done."


def replaying_in_words(facts: Facts) -> str:
    """How far the replay is that was asked for on the page, or why there was none; "" if none was asked for."""
    project, known = facts.project, facts.project.replaying or {}
    if known.get("error"):
        return f"The replay that was asked for is not possible. {known['error']}"
    if not project.replay_requested:
        return ""
    if not known:
        return "A replay was asked for; it begins as soon as a worker has time for it."
    words = f"Replay: {known['done']} of {known['total']} trainings done"
    left = left_in_words(known["done"], known["total"], known["seconds"])
    return f"{words}, {left} when nothing else has to be done first." if left else f"{words}."


def next_cycle_in_words(facts: Facts) -> str:
    """When the next cycle comes, and why."""
    project, missing = facts.project, facts.next_cycle()["in_annotations"]
    if project.hands_off or project.standing != CONNECTED:
        return "No cycle while the connection needs attention."
    if missing is None:
        return "No cycle while the settings are refused."
    have = f"{project.pending_annotations} of {facts.budget} new annotations"
    if missing:
        return f"{have}: the next cycle starts by itself when {missing} more are there."
    asked = "A cycle was asked for" if project.train_requested else f"A cycle is due, with {have}"
    if facts.retry_in is not None:
        return f"{asked}; the worker tries again in {facts.retry_in:.0f} s."
    return f"{asked}; it starts as soon as a worker is free."
