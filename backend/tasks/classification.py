"""One class for each image: one single-choice ``Choices`` on one ``Image``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from backend.settings.core import Settings
from backend.tasks.choices import ChoicesSpec, choices_of, choices_result, choices_spec, says_nothing, why_no_choice
from backend.tasks.label_config import Annotation, age
from backend.tasks.records import Fetched, FreshPrediction, KeptPredictions, ReadAnnotations, Result, TrainingLabels
from backend.tasks.votes import Answers, weighed_classes
from backend.tasks.whole_images import WholeImages

if TYPE_CHECKING:
    from backend.images.cache import ImageCache
    from backend.learning.learner import Learner
    from backend.learning.pool import ScoredPool
    from backend.state import StoredPrediction
    from models import ProgressFn
    from models.data import ClassTargets


class Classification(WholeImages[ChoicesSpec, KeptPredictions]):
    """One class for each image, trained with cross entropy under the sampler's objective."""

    name: ClassVar[str] = "classification"
    learns: ClassVar[str] = "classes"
    metric: ClassVar[str] = "accuracy"
    compares: ClassVar[str] = "classes"

    @classmethod
    def read(cls, label_config: str, settings: Settings) -> Self:
        return cls(choices_spec(label_config), settings)

    def label_of(self, annotations: Sequence[Annotation], source: str) -> str | None:
        return class_of(annotations, self.spec, self.settings.consensus)

    def counted(self, annotations: Sequence[Annotation]) -> list[tuple[int, str]]:
        return [(int(a["id"]), str(a.get("updated_at") or "")) for a in annotations if named_class(a, self.spec)]

    def why_not(self, annotation: Annotation) -> str | None:
        return None if named_class(annotation, self.spec) else why_no_choice(annotation, self.spec)

    def answer_of(self, annotation: Annotation) -> str | None:
        return named_class(annotation, self.spec)

    def weighed(self, answers: Mapping[int, Answers]) -> dict[int, str]:
        return weighed_classes(answers, self.classes)

    def shows_nothing(self, label: str) -> bool:
        return says_nothing(label)

    def classes_in(self, stored: str) -> tuple[str, ...]:
        return (stored,)

    def training_labels(
        self,
        labels: Mapping[int, str],
        sources: Mapping[int, str],
        cache: ImageCache,
        read_annotations: ReadAnnotations,
        report: ProgressFn,
    ) -> TrainingLabels:
        tasks = self.with_image(labels, cache)
        index = {name: place for place, name in enumerate(self.classes)}
        targets = self.targets(np.array([index[labels[task]] for task in tasks], dtype=np.int64))
        return TrainingLabels(tasks, targets, len(self.classes))

    def targets(self, classes: np.ndarray) -> ClassTargets:
        """The class indices (L,) of the labeled images as this kind's networks learn them."""
        from models.data import ClassTargets

        return ClassTargets(classes)

    def class_index(self, pool: ScoredPool) -> np.ndarray | None:
        return None if pool.predictions is None else pool.predictions.predicted

    def result(self, stored: StoredPrediction, kept: KeptPredictions | None) -> Result:
        if stored.label is None or stored.label not in self.classes:
            return []
        confidence = stored.confidence if stored.confidence is not None else stored.priority_score
        return choices_result(self.spec, [stored.label], confidence) if confidence >= self.shown_from else []

    def predict_fresh(
        self, learner: Learner, version_name: str, fetched: Fetched, until: float
    ) -> Iterator[tuple[int, FreshPrediction]]:
        from backend.state import StoredPrediction  # here: benchmarks on a GPU run without a database

        predictions, scores = learner.predict(np.stack([pixels for pixels, _ in fetched.values()]))
        labels = [learner.classes[index] for index in predictions.predicted]
        for task, label, confidence, score in zip(fetched, labels, predictions.confidence, scores, strict=True):
            stored = StoredPrediction(task, version_name, label, float(confidence), float(score))
            yield task, (stored, self.result(stored, None))


def named_class(annotation: Annotation, spec: ChoicesSpec) -> str | None:
    """The single class that an annotation selects, or None."""
    named = choices_of(annotation, spec) or ()
    label = next(iter(named)) if len(named) == 1 else None
    return label if label in spec.classes else None


def class_of(annotations: Sequence[Annotation], spec: ChoicesSpec, consensus: str = "auto") -> str | None:
    """A task's class according to its annotations, or None if none of them is a label.

    This is the class of the latest ground truth; if there is none, the class that most annotations select; if several
    tie, the one selected last. Where the ``consensus`` is "latest", it is the one selected last; where it is
    "weighted", :meth:`Classification.weighed` has the last word. Annotations that are skipped or empty, or whose choice
    is no longer in the label config, are not labels.
    """
    labels = [(annotation, label) for annotation in annotations if (label := named_class(annotation, spec))]
    truths = [pair for pair in labels if pair[0].get("ground_truth")]
    if not labels:
        return None
    if truths or consensus == "latest":
        return max(truths or labels, key=lambda pair: age(pair[0]))[1]
    votes = Counter(label for _, label in labels)
    most_votes = max(votes.values())
    return max((pair for pair in labels if votes[pair[1]] == most_votes), key=lambda pair: age(pair[0]))[1]
