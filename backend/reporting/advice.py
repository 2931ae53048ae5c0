"""One sentence of advice: what is known of a project, and what its owner can do about it."""

from __future__ import annotations

from dataclasses import dataclass

from backend.reporting.accuracy import MEAN_IOU, Accuracy, accuracy_of, percent
from backend.reporting.control import WORSE
from backend.reporting.facts import Facts
from backend.reporting.prospects import in_words, may_stop
from backend.reporting.replays import fallback
from backend.state.records import CONNECTED, UNCHECKED

FEW_LABELS = 20
"""Below so many labels an accuracy is not worth a sentence: its interval is wider than 35 points at 80 %."""


@dataclass(frozen=True)
class Advice:
    """``code``: the same for all advice of a kind, for programs. ``sentence``: for people. ``concern``: whether there
    is something to do or to look at."""

    code: str
    sentence: str
    concern: bool = False


def advice_of(facts: Facts) -> Advice:
    """What to say of a project: what is wrong first, then how good its predictions are, then what is not known yet."""
    return _fault(facts) or _beginning(facts) or _sampler(facts) or _control(facts) or _accuracy(facts)


def _fault(facts: Facts) -> Advice | None:
    project = facts.project
    if project.standing == UNCHECKED:
        return Advice(
            "unconfirmed",
            "Label Studio has not confirmed this project yet: it does not respond, or the backend's key is not right.",
            True,
        )
    if project.standing != CONNECTED:
        return Advice("set_aside", "The project is set aside: everything of it is kept, and nothing is done.", True)
    if project.hands_off:
        return Advice("connection", project.hands_off + ".", True)
    if facts.error:
        return Advice("failing", "The last attempt failed, so nothing new is learned: see what failed.", True)
    return None


def _beginning(facts: Facts) -> Advice | None:
    if facts.current is None:
        return Advice("first_order", "The first order is being made; labeling can begin as soon as it is published.")
    if not facts.current.labels:
        words = f"the first cycle runs after {facts.budget} annotations, or when you ask for it."
        return Advice("too_few_labels", f"Too few labels to tell anything: {words}")
    return None


def _sampler(facts: Facts) -> Advice | None:
    if not facts.health:
        return None
    return Advice("sampler", f"The sampler learned nothing to go by: {facts.health}.", True)


def _control(facts: Facts) -> Advice | None:
    """The fallback: a sampler that is worse than chance here is no help."""
    control = facts.control
    if control is None or control.verdict != WORSE:
        return None
    return Advice("worse_than_random", f"{control.sentence} Let chance choose: set sampler to random.", True)


def _accuracy(facts: Facts) -> Advice:
    assert facts.current is not None
    accuracy, labels = facts.accuracy, facts.current.labels
    target = facts.settings.target_accuracy if facts.settings else 0.0
    more = in_words(facts.outlook, target)
    if accuracy is None:
        words = f"The network learned from {labels} labels; how often a network of its kind is right is not measured."
        return Advice("not_measured", f"{words} {more}".strip())
    if labels < FEW_LABELS:
        return Advice("too_few_labels", f"Too few labels to tell how good the predictions are: {labels} so far.")
    sentence = f"{_now(accuracy, labels)}{_moved(accuracy, *_before(facts, accuracy))}."
    sentence = f"{sentence} {more}".strip()
    if facts.replay and (better := fallback(facts.replay, facts.sampler)):
        return Advice("better_sampler", f"{sentence} {better}", True)
    return Advice("enough_labels" if facts.outlook and may_stop(facts.outlook, target) else "accuracy", sentence)


def _now(accuracy: Accuracy, labels: int) -> str:
    words = f"{percent(accuracy.value)} of the predictions for left-out labels are right, with {labels} labels"
    if accuracy.measure == MEAN_IOU:
        words = f"The mean IoU on left-out masks is {percent(accuracy.value)}, with {labels} labels"
    if accuracy.low is None or accuracy.high is None:
        return words
    return f"{words} (95 % interval {percent(accuracy.low)} to {percent(accuracy.high)})"


def _before(facts: Facts, accuracy: Accuracy) -> tuple[Accuracy | None, int]:
    """The accuracy that was measured before that of the version in use, and with how many labels."""
    assert facts.current is not None
    for cycle in facts.cycles:
        earlier = accuracy_of(cycle.metrics) if cycle.status == "done" else None
        if earlier is None or earlier.measure != accuracy.measure:
            continue
        if cycle.number < facts.current.cycle and cycle.labels < facts.current.labels:
            return earlier, cycle.labels
    return None, 0


def _moved(accuracy: Accuracy, before: Accuracy | None, labels: int) -> str:
    if before is None:
        return ""
    words = f"; it was {percent(before.value)} with {labels}"
    if accuracy.low is None or accuracy.high is None:
        return words
    if accuracy.low <= before.value <= accuracy.high:
        return f"{words}, which is within that interval"
    if accuracy.value > before.value:
        return f"{words}, so it rose"
    return f"{words}, so it fell, as it can while the network improves: the sampler picks images that are hard for it"
