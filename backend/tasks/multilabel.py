"""Several classes for each image: one ``Choices`` with ``choice="multiple"`` on one ``Image``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from backend.settings.core import Settings
from backend.tasks.choices import ChoicesSpec, choices_of, choices_result, choices_spec, says_nothing, why_no_choice
from backend.tasks.kept_probabilities import KeptProbabilities, write_probabilities
from backend.tasks.label_config import Annotation, age
from backend.tasks.records import Fetched, FreshPrediction, ReadAnnotations, Result, TrainingLabels
from backend.tasks.votes import Answers, weighed_sets
from backend.tasks.whole_images import WholeImages

if TYPE_CHECKING:
    from backend.images.cache import ImageCache
    from backend.learning.learner import Learner
    from backend.learning.pool import ScoredPool
    from backend.state import StoredPrediction
    from models import ProgressFn
    from models.data import Runtime


class Multilabel(WholeImages[ChoicesSpec, KeptProbabilities]):
    """Any number of classes for each image, trained with binary cross entropy per class."""

    name: ClassVar[str] = "multilabel"
    learns: ClassVar[str] = "several choices per image"
    metric: ClassVar[str] = "mean average precision"
    default_sampler: ClassVar[str] = "margin"
    compares: ClassVar[str] = "sets"

    @classmethod
    def read(cls, label_config: str, settings: Settings) -> Self:
        return cls(choices_spec(label_config, several=True), settings)

    def label_of(self, annotations: Sequence[Annotation], source: str) -> frozenset[str] | None:
        return classes_of(annotations, self.spec, self.settings.consensus)

    def stored_label(self, label: frozenset[str]) -> list[str]:
        return sorted(label)

    def label_from(self, stored: list[str]) -> frozenset[str]:
        return frozenset(stored)

    def counted(self, annotations: Sequence[Annotation]) -> list[tuple[int, str]]:
        return [
            (int(one["id"]), str(one.get("updated_at") or ""))
            for one in annotations
            if named_classes(one, self.spec) is not None
        ]

    def classes_in(self, stored: list[str]) -> tuple[str, ...]:
        return tuple(stored)

    def why_not(self, annotation: Annotation) -> str | None:
        counts = named_classes(annotation, self.spec) is not None
        return None if counts else why_no_choice(annotation, self.spec, several=True)

    def answer_of(self, annotation: Annotation) -> list[str] | None:
        named = named_classes(annotation, self.spec)
        return None if named is None else sorted(named)

    def weighed(self, answers: Mapping[int, Answers]) -> dict[int, list[str]]:
        return weighed_sets(answers, self.classes)

    def shows_nothing(self, label: frozenset[str]) -> bool:
        return any(map(says_nothing, label))

    def training_labels(
        self,
        labels: Mapping[int, frozenset[str]],
        sources: Mapping[int, str],
        cache: ImageCache,
        read_annotations: ReadAnnotations,
        report: ProgressFn,
    ) -> TrainingLabels:
        from models.data import MultilabelTargets

        tasks = self.with_image(labels, cache)
        chosen = np.array([[name in labels[task] for name in self.classes] for task in tasks], dtype=np.uint8)
        return TrainingLabels(tasks, MultilabelTargets(chosen), len(self.classes))

    def keep_predictions(
        self, learner: Learner, cache: ImageCache, pool: ScoredPool, folder: Path, runtime: Runtime
    ) -> None:
        if pool.predictions is not None:
            write_probabilities(folder, learner.classes, pool.tasks.tolist(), pool.predictions.predicted)

    @classmethod
    def open_kept(cls, folder: Path) -> KeptProbabilities | None:
        return KeptProbabilities.open(folder)

    def holds(self, stored: StoredPrediction, kept: KeptProbabilities | None) -> bool:
        return kept is not None and kept.holds(stored.task_id)

    def result(self, stored: StoredPrediction, kept: KeptProbabilities | None) -> Result:
        """Selects every class whose probability is at least ``multilabel_threshold`` and :attr:`shown_from`, in the
        order of the label config."""
        probabilities = kept.probabilities(stored.task_id) if kept is not None else None
        return [] if probabilities is None else self._result_of(probabilities, stored)

    def said(self, stored: StoredPrediction, kept: KeptProbabilities | None) -> tuple[str, ...]:
        found = (kept.probabilities(stored.task_id) if kept is not None else None) or {}
        return tuple(name for name in self.classes if found.get(name, 0.0) >= self.settings.multilabel_threshold)

    def predict_fresh(
        self, learner: Learner, version_name: str, fetched: Fetched, until: float
    ) -> Iterator[tuple[int, FreshPrediction]]:
        from backend.state import StoredPrediction  # here: benchmarks on a GPU run without a database

        predictions, scores = learner.predict(np.stack([pixels for pixels, _ in fetched.values()]))
        rows = zip(fetched, predictions.predicted, predictions.confidence, scores, strict=True)
        for task, probabilities, confidence, score in rows:
            stored = StoredPrediction(task, version_name, None, float(confidence), float(score))
            of_class = dict(zip(learner.classes, probabilities.tolist(), strict=True))
            yield task, (stored, self._result_of(of_class, stored))

    def _result_of(self, probabilities: Mapping[str, float], stored: StoredPrediction) -> Result:
        threshold = max(self.settings.multilabel_threshold, self.shown_from)
        selected = [name for name in self.classes if probabilities.get(name, 0.0) >= threshold]
        confidence = stored.confidence if stored.confidence is not None else stored.priority_score
        return choices_result(self.spec, selected, confidence) if selected else []


def named_classes(annotation: Annotation, spec: ChoicesSpec) -> frozenset[str] | None:
    """The classes that an annotation selects, empty if the image has none of them. None if it is not a label: it was
    skipped, it contains results of other controls only, or all its choices are no longer in the label config."""
    named = choices_of(annotation, spec)
    if named is None or (not named and annotation["result"] and spec.asks_more):
        return None
    known = named & set(spec.classes)
    return known if known or not named else None


def classes_of(annotations: Sequence[Annotation], spec: ChoicesSpec, consensus: str = "auto") -> frozenset[str] | None:
    """A task's classes according to its annotations, or None if none of them is a label.

    These are the classes of the latest ground truth; if there is none, each class is decided by the majority of the
    annotations, and in a tie by the latest annotation. Where the ``consensus`` is "latest", it is the latest one;
    where it is "weighted", :meth:`Multilabel.weighed` has the last word.
    """
    labels = [(one, named) for one in annotations if (named := named_classes(one, spec)) is not None]
    truths = [pair for pair in labels if pair[0].get("ground_truth")]
    if not labels:
        return None
    latest = max(truths or labels, key=lambda pair: age(pair[0]))[1]
    if truths or consensus == "latest":
        return latest
    votes = {name: sum(name in named for _, named in labels) for name in spec.classes}
    return frozenset(
        name
        for name, count in votes.items()
        if 2 * count > len(labels) or (2 * count == len(labels) and name in latest)
    )
