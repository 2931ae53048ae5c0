"""What every kind of task keeps, whichever it is: checked alike on all of ``backend.tasks.KINDS``.

A new kind needs an example in ``examples.py``, and nothing here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from label_studio_sdk.label_interface import LabelInterface

from backend.errors import BackendError, LabelConfigError
from backend.images.cache import ImageCache
from backend.labelstudio.records import TaskAnnotations
from backend.learning.learner import Learner
from backend.learning.pool import ScoredPool
from backend.settings.core import Settings
from backend.state import StoredPrediction
from backend.tasks import KINDS, kind_of
from backend.tasks.base import AnyTaskKind, NotAsked
from backend.tasks.records import Result, TrainingLabels
from models.data import CycleData, Runtime
from models.tasks import TASKS
from samplers import SAMPLERS
from tests.backend.tasks.examples import EXAMPLES, annotation, images
from tests.integration.helpers import FRUIT

CPU = torch.device("cpu")
SETTINGS = Settings(sampler="margin", task_width=4, epochs=4, batch_size=8, image_size=32, preannotate=0)
COLUMNS = {"score", "results", "model_versions"}
VERSION = "margin-c1-00000000"
LABELED, POOL = [1, 2, 3, 4], [5, 6, 7, 8, 9]


def made(name: str, classes: Sequence[str] = FRUIT) -> AnyTaskKind:
    return KINDS[name].read(EXAMPLES[name].config(classes), SETTINGS)


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> AnyTaskKind:
    return made(request.param)


def said(kind: AnyTaskKind, *labels: str) -> Result:
    return EXAMPLES[kind.name].says(labels)


# -- what it is --------------------------------------------------------------------------------------------------------


def test_there_is_an_example_of_every_kind_and_one_network_task_for_each() -> None:
    assert set(KINDS) == set(EXAMPLES) == set(TASKS)


def test_a_kind_says_what_it_is(kind: AnyTaskKind) -> None:
    assert KINDS[kind.name] is type(kind)
    assert kind.learns and kind.metric and kind.learns == kind.learns.strip(" .")
    assert {"score", "model_versions"} <= set(kind.queue_columns) <= COLUMNS
    assert kind.fresh_limit >= 1
    assert kind.name in SAMPLERS[kind.default_sampler].tasks


def test_the_setting_names_every_kind(kind: AnyTaskKind) -> None:
    config = EXAMPLES[kind.name].config(FRUIT)
    for named in (SETTINGS, SETTINGS.for_project({"task": kind.name})):
        found = kind_of(config, named)
        assert (found.name, found.data_key, found.classes) == (kind.name, "image", FRUIT)


def test_no_kind_is_asked_for_by_the_example_of_another(kind: AnyTaskKind) -> None:
    for name, example in EXAMPLES.items():
        if name != kind.name:
            with pytest.raises(NotAsked) as refused:
                kind.read(example.config(FRUIT), SETTINGS)
            assert str(refused.value).endswith(".") and "\n" not in str(refused.value)


def test_an_annotation_counts_or_there_is_a_reason_why_not(kind: AnyTaskKind) -> None:
    foreign = {"from_name": "note", "to_name": "other", "type": "textarea", "value": {"text": ["x"]}}
    results: list[Result | None] = [said(kind, FRUIT[0]), said(kind, *FRUIT[:2]), said(kind, "gone"), [], [foreign]]
    for skipped in (False, True):
        for result in (*results, None):
            one = annotation(3, result, was_cancelled=skipped)  # type: ignore[arg-type]
            counts = [number for number, _ in kind.counted([one])] == [3]
            assert (kind.why_not(one) is None) == counts, result
            assert (kind.label_of([one], "a.png") is not None) == counts, result
            assert (kind.why_not(one) == "skipped") == skipped


@pytest.mark.parametrize("config", ["", "<View", '<View><Text name="t" value="$t"/></View>'])
def test_what_no_kind_can_read_is_refused_in_words(kind: AnyTaskKind, config: str) -> None:
    with pytest.raises(LabelConfigError) as refused:
        kind.read(config, SETTINGS)
    assert str(refused.value).endswith(".") or "cannot be read" in str(refused.value)


# -- annotations -------------------------------------------------------------------------------------------------------


def test_without_a_submitted_annotation_there_is_no_label(kind: AnyTaskKind) -> None:
    skipped = annotation(1, said(kind, "apple"), was_cancelled=True)
    for found in ([], [skipped], [skipped, skipped | {"id": 2, "result": None}]):
        assert kind.label_of(found, "1.png") is None
        assert kind.counted(found) == []


def test_a_label_counts_with_the_time_of_its_last_change(kind: AnyTaskKind) -> None:
    one = annotation(7, said(kind, "pear"), day=3)
    assert kind.label_of([one], "1.png") is not None
    assert kind.counted([one, annotation(8, said(kind, "plum"), was_cancelled=True)]) == [(7, one["updated_at"])]


def test_labels_are_equal_exactly_when_they_say_the_same(kind: AnyTaskKind) -> None:
    labels = {name: kind.label_of([annotation(number, said(kind, name))], "1.png") for number, name in enumerate(FRUIT)}
    assert all(one != other for one, other in combinations(labels.values(), 2))
    for number, name in enumerate(FRUIT):
        again = kind.label_of([annotation(number, said(kind, name))], "1.png")
        assert again == labels[name] and hash(again) == hash(labels[name])


def test_the_latest_ground_truth_goes_before_everything(kind: AnyTaskKind) -> None:
    truth = annotation(1, said(kind, "plum"), day=2, ground_truth=True)
    crowd = [annotation(number, said(kind, "apple"), day=10 + number) for number in (2, 3, 4)]
    earlier = annotation(5, said(kind, "pear"), day=1, ground_truth=True)
    assert kind.label_of([*crowd, truth, earlier], "1.png") == kind.label_of([truth], "1.png")
    assert kind.label_of(crowd, "1.png") != kind.label_of([truth], "1.png")


# -- a cycle without Label Studio --------------------------------------------------------------------------------------


@dataclass
class Cycle:
    """What a cycle leaves: a learner trained on :data:`LABELED`, and its predictions of :data:`POOL`."""

    kind: AnyTaskKind
    cache: ImageCache
    labels: TrainingLabels
    data: CycleData
    learner: Learner
    pool: ScoredPool
    folder: Path
    files: dict[str, bytes]

    def stored(self) -> list[StoredPrediction]:
        """As they come back from the state."""
        index, confidence = self.kind.class_index(self.pool), self.pool.confidence
        assert confidence is not None
        return [
            StoredPrediction(
                task,
                VERSION,
                None if index is None else self.learner.classes[index[place]],
                float(confidence[place]),
                0.1 + place / 10,
            )
            for place, task in enumerate(self.pool.tasks.tolist())
        ]


def says(task: int) -> tuple[str, ...]:
    """Of the labeled tasks."""
    return (FRUIT[task % 3],)


def run(name: str, folder: Path, labeled: Sequence[int] = LABELED) -> Cycle:
    kind, files = made(name), images(9)
    tasks = [(number, f"{number}.png") for number in range(1, 10)]
    cache = kind.open_cache(folder / "project", tasks, lambda task, source: files[source], "cpu")
    assert cache.sync(tasks, lambda task, source: files[source]) == []
    runtime = Runtime(CPU, seed=3)
    annotated = {task: [annotation(task, said(kind, *says(task)))] for task in labeled}
    labels = {task: kind.label_of(found, f"{task}.png") for task, found in annotated.items()}

    def read_annotations(wanted: Sequence[int]) -> Iterator[TaskAnnotations]:
        return (TaskAnnotations(task, annotated[task]) for task in wanted)

    training = kind.training_labels(labels, dict(tasks), cache, read_annotations, lambda *_: None)
    data = CycleData(cache.pixels, cache.rows(training.tasks), cache.rows(POOL), training.targets, training.num_classes)
    learner, _ = Learner.trained(kind.settings, kind.classes, data, runtime)
    pool = ScoredPool.scored(learner, cache, np.array(POOL), runtime)
    kind.keep_predictions(learner, cache, pool, folder / "answers" / VERSION, runtime)
    return Cycle(kind, cache, training, data, learner, pool, folder / "answers" / VERSION, files)


@pytest.fixture(scope="module")
def cycles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cycle]:
    """By kind; made once, and only read."""
    return {name: run(name, tmp_path_factory.mktemp(name)) for name in KINDS}


@pytest.fixture
def cycle(kind: AnyTaskKind, cycles: dict[str, Cycle]) -> Cycle:
    return cycles[kind.name]


def test_targets_are_of_the_labeled_tasks_and_of_the_same_kind(cycle: Cycle) -> None:
    assert sorted(cycle.labels.tasks) == LABELED and cycle.labels.problems in ((), [])
    assert cycle.data.targets.task == cycle.learner.task == cycle.learner.net.task.name == cycle.kind.name
    assert len(cycle.data.targets) == len(LABELED)
    assert cycle.learner.net.num_classes == cycle.labels.num_classes


def test_labels_without_an_image_are_left_out_and_none_at_all_is_said(cycle: Cycle) -> None:
    kind = cycle.kind
    labels = {task: kind.label_of([annotation(task, said(kind, "pear"))], f"{task}.png") for task in (50, 51)}
    with pytest.raises(BackendError, match="none of the labeled images can be read"):
        kind.training_labels(labels, {50: "50.png", 51: "51.png"}, cycle.cache, lambda tasks: [], lambda *_: None)


def test_the_network_is_the_one_that_the_settings_ask_for(cycle: Cycle) -> None:
    config = cycle.kind.net_config(SETTINGS, len(FRUIT), cycle.cache.frame, CPU)
    assert config == cycle.learner.net_config
    assert config.num_classes == cycle.labels.num_classes >= len(FRUIT)


def test_every_prediction_comes_back_as_a_result_that_label_studio_accepts(cycle: Cycle) -> None:
    """And at least one of them says something: else this would prove nothing."""
    kind = replaced(cycle.kind, multilabel_threshold=0.05)
    interface = LabelInterface(EXAMPLES[kind.name].config(FRUIT))
    kept = kind.open_kept(cycle.folder)
    results = {}
    for stored in cycle.stored():
        assert kind.holds(stored, kept)
        results[stored.task_id] = result = kind.result(stored, kept)
        assert interface.validate_prediction({"result": result, "score": 0.5}, return_errors=True) == []
        assert kind.weight(result) >= 0
    assert any(results.values())


def replaced(kind: AnyTaskKind, **changes: object) -> AnyTaskKind:
    return type(kind)(kind.spec, replace(kind.settings, **changes))  # type: ignore[arg-type]


def test_results_are_in_the_words_of_the_label_config_of_now(cycle: Cycle) -> None:
    old = replaced(cycle.kind, multilabel_threshold=0.05)
    stored, config = cycle.stored(), EXAMPLES[old.name].config
    for classes in (("plum", "quince", "apple"), ("quince", "fig")):
        now = type(old).read(config(classes), old.settings)
        interface = LabelInterface(config(classes))
        kept = now.open_kept(cycle.folder)
        for one in stored:
            result = now.result(one, kept)
            assert interface.validate_prediction({"result": result, "score": 0.5}, return_errors=True) == []
            assert bool(result) <= ("apple" in classes)


def test_what_another_kind_predicted_is_no_result(kind: AnyTaskKind, cycles: dict[str, Cycle]) -> None:
    """The owner may change the question while a version is published."""
    for name, other in cycles.items():
        if name != kind.name:
            kept = kind.open_kept(other.folder)
            for stored in other.stored():
                if stored.label is None:
                    assert kind.result(stored, kept) == []


def test_before_the_first_model_there_is_no_result(kind: AnyTaskKind, tmp_path: Path) -> None:
    stored = StoredPrediction(5, VERSION, None, None, 0.5)
    assert kind.result(stored, kind.open_kept(tmp_path / "never")) == []
    ranked = ScoredPool.ranked([5, 6], np.arange(2))
    assert kind.class_index(ranked) is None and ranked.confidence is None


def test_a_fresh_prediction_says_what_the_cycle_said_of_the_same_image(cycle: Cycle) -> None:
    kind = replaced(cycle.kind, multilabel_threshold=0.05)
    kept, fetched = kind.open_kept(cycle.folder), {}
    for task in POOL:
        fetched[task] = kind.decode(cycle.files[f"{task}.png"], cycle.learner.frame)
        assert np.array_equal(fetched[task][0], cycle.cache.pixels[cycle.cache.rows([task])[0]])
    found = dict(kind.predict_fresh(cycle.learner, VERSION, fetched, time.monotonic() + 60))
    assert list(found) == POOL
    for stored in cycle.stored():
        fresh, result = found[stored.task_id]
        assert (fresh.task_id, fresh.version, fresh.label) == (stored.task_id, VERSION, stored.label)
        assert fresh.confidence == pytest.approx(stored.confidence, abs=1e-5)
        assert 0 < fresh.priority_score <= 1
        assert without_scores(result) == without_scores(kind.result(stored, kept))


def without_scores(result: Result) -> Result:
    """Batches of another size round the last digit another way."""
    return [{key: value for key, value in region.items() if key != "score"} for region in result]


def test_the_kind_survives_the_checkpoint(cycle: Cycle, tmp_path: Path) -> None:
    cycle.learner.save(tmp_path / "one.pt")
    loaded = Learner.load(tmp_path / "one.pt", CPU)
    assert (loaded.task, loaded.classes, loaded.frame) == (cycle.kind.name, FRUIT, cycle.cache.frame)
    images_of_pool = cycle.cache.pixels[cycle.cache.rows(POOL)]
    for one, other in zip(loaded.predict(images_of_pool), cycle.learner.predict(images_of_pool), strict=True):
        for field in ("predicted", "confidence"):
            assert np.array_equal(getattr(one, field, one), getattr(other, field, other))


def test_a_network_is_carried_over_by_the_names_of_its_classes(kind: AnyTaskKind) -> None:
    """The same classes in another order: what was learnt moves with them."""
    order = [2, 0, 1]
    first = Learner.fresh(kind.settings, FRUIT, 32, CPU, 1, kind.name)
    later = Learner.fresh(kind.settings, [FRUIT[place] for place in order], 32, CPU, 2, kind.name)
    later.warm_start_from(first)
    extra = first.net.num_classes - len(FRUIT)  # outputs that are no label come first
    moved = [*range(extra), *(extra + place for place in order)]
    batch = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        one, other = (learner.net.eval().head(learner.net.features(batch)) for learner in (first, later))
    assert torch.allclose(one[:, moved], other, atol=1e-5)
    assert not torch.allclose(one, other, atol=1e-3)


WEB = """
import json, sys
from pathlib import Path
from backend.settings.core import Settings
from backend.state import StoredPrediction
from backend.tasks import KINDS
name, config, folder, rows = json.loads(sys.argv[1])
kind = KINDS[name].read(config, Settings(sampler="margin"))
kept = kind.open_kept(Path(folder))
results = [kind.result(StoredPrediction(*row), kept) for row in rows]
print(json.dumps({"heavy": sorted({"torch", "torchvision"} & set(sys.modules)), "results": results}))
"""


def test_results_need_neither_torch_nor_the_model(cycle: Cycle) -> None:
    """The web process gives them, and stays small."""
    rows = [[s.task_id, s.version, s.label, s.confidence, s.priority_score] for s in cycle.stored()]
    asked = json.dumps([cycle.kind.name, EXAMPLES[cycle.kind.name].config(FRUIT), str(cycle.folder), rows])
    root = Path(__file__).parents[3]
    ran = subprocess.run([sys.executable, "-c", WEB, asked], cwd=root, capture_output=True, text=True, check=True)
    kept = cycle.kind.open_kept(cycle.folder)
    assert json.loads(ran.stdout) == {
        "heavy": [],
        "results": [cycle.kind.result(stored, kept) for stored in cycle.stored()],
    }
