"""One plugin class under both generations of label-studio-ml.

1.0.9 is the one installed: its own routes and its own way to construct the class are called here. 2.x is not on PyPI: a
stand-in (label_studio_ml_2/) calls the class as upstream's routes do, in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.errors import OwnerError
from backend.settings.core import Settings
from backend.state import State
from backend.web import plugin as plugin_module
from backend.web.compat import AdapterPerRequest, project_number
from backend.web.plugin import NO_PREDICTION, ActiveLearningBackend
from backend.web.services import Services, services_of_environment
from tests.backend.small_label_studio import CONFIG, SmallLabelStudio, project_key, small_label_studio
from tests.rig.processes import children_of
from tests.rig.waiting import wait_for

ROOT = Path(__file__).parents[3]
OTHER_CONFIG = CONFIG.replace('"cat"', '"bus"').replace('"dog"', '"car"')


@pytest.fixture(scope="module")
def studio() -> Iterator[SmallLabelStudio]:
    with small_label_studio() as running:
        yield running


@pytest.fixture
def services(tmp_path: Path, studio: SmallLabelStudio) -> Iterator[Services]:
    opened = Services.start(
        Settings(model_dir=str(tmp_path), label_studio_url=studio.url, label_studio_api_key="some-key")
    )
    yield opened
    opened.close()


def publish(state: State, number: int, classes: list[str]) -> str:
    state.leases.take(number, "test", 60)
    version = state.versions.add(
        number,
        "test",
        cycle=1,
        name=f"random-c1-{number}",
        sampler="random",
        checkpoint=None,
        classes=classes,
        metrics={},
        task_ids=np.array([1, 2]),
        priority_score=np.array([0.25, 0.5]),
        class_index=np.array([0, 1]),
        confidence=np.array([0.75, 0.5]),
    )
    state.versions.switch_to(version, "test")
    state.leases.release(number, "test")
    return version.name


def labels(results: list[dict[str, Any]]) -> list[str]:
    return [region["value"]["choices"][0] for entry in results for region in entry["result"]]


# -- 1.0.9 -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def routes_of_1(services: Services, monkeypatch: pytest.MonkeyPatch) -> Any:
    """label-studio-ml 1.0.9's own Flask application, over our manager."""
    from label_studio_ml import api

    manager = AdapterPerRequest(partial(ActiveLearningBackend, services=services))
    monkeypatch.setattr(api, "_manager", manager)
    return api.init_app(partial(ActiveLearningBackend, services=services)).test_client()


def test_the_routes_of_1_0_9_serve_two_projects_at_once(routes_of_1: Any, services: Services) -> None:
    """1.0.9 by itself has one model in the process, whichever project was set up last."""
    for number, config in ((1, CONFIG), (2, OTHER_CONFIG)):
        body = {"project": project_key(number), "schema": config, "hostname": "http://ls", "access_token": "t"}
        assert routes_of_1.post("/setup", json=body).json == {"model_version": ""}
    names = [publish(services.state, 1, ["cat", "dog"]), publish(services.state, 2, ["bus", "car"])]

    for number, config, name, expected in (
        (1, CONFIG, names[0], ["dog", "cat"]),
        (2, OTHER_CONFIG, names[1], ["car", "bus"]),
    ):
        body = {"tasks": [{"id": 2}, {"id": 3}, {"id": 1}], "project": project_key(number), "label_config": config}
        answer = routes_of_1.post("/predict", json=body | {"params": {"context": None, "login": None}}).json
        assert labels(answer["results"]) == expected
        assert answer["results"][1] == NO_PREDICTION
        assert answer["model_version"] == name


def test_predict_before_setup_is_no_error(routes_of_1: Any) -> None:
    answer = routes_of_1.post("/predict", json={"tasks": [{"id": 1}], "project": "7.1", "label_config": CONFIG})
    assert (answer.status_code, answer.json["results"]) == (200, [NO_PREDICTION])


def test_webhooks_of_1_0_9_start_no_process_and_are_all_counted(routes_of_1: Any, services: Services) -> None:
    services.state.projects.connect(1, project_key(1), CONFIG, {}, "", "")
    before = children_of(os.getpid())
    for _ in range(4):  # in the same second: its job ids collide
        body = {"action": "ANNOTATION_CREATED", "project": {"id": 1, "label_config": CONFIG}}
        assert routes_of_1.post("/webhook", json=body).status_code == 201
    assert children_of(os.getpid()).keys() <= before.keys()
    project = services.state.projects.get(1)
    assert project is not None and project.annotation_events == 4


def test_the_plain_manager_of_1_0_9_can_drive_the_class(services: Services, tmp_path: Path) -> None:
    """Without our manager 1.0.9 constructs without a project, and calls ``fit`` with ``()`` and keywords in a job."""
    services.state.projects.connect(5, project_key(5), CONFIG, {}, "", "")
    name = publish(services.state, 5, ["cat", "dog"])
    kwargs = {"label_config": CONFIG, "train_output": {"job_id": "1"}, "hostname": "", "access_token": ""}
    plugin = ActiveLearningBackend(**kwargs, services=services)  # type: ignore[arg-type]
    results = plugin.predict([{"id": 1, "project": 5}], context=None, login=None, password=None)
    assert labels(results) == ["cat"] and results[0]["model_version"] == name

    data = {"project": {"id": 5, "label_config": CONFIG}}
    for event in ("ANNOTATION_CREATED", "ANNOTATIONS_DELETED", "START_TRAINING"):
        made = ActiveLearningBackend(label_config=CONFIG, train_output={}, services=services)
        made.process_event(event, {**data, "action": event}, "1700000000", {"workdir": str(tmp_path)})
    project = services.state.projects.get(5)
    assert project is not None and project.annotation_events == 2 and project.train_requested


# -- both --------------------------------------------------------------------------------------------------------------


def test_fit_returns_at_once_even_while_the_database_is_written(services: Services) -> None:
    """2.x calls it inside the webhook's request, which Label Studio leaves after a second. It does not wait for the
    writer: it returns before that has ended."""
    services.state.projects.connect(1, project_key(1), CONFIG, {}, "", "")
    plugin = ActiveLearningBackend("1", label_config=CONFIG, services=services)
    assert plugin_module.WEBHOOK_SECONDS < 0.5
    release = threading.Event()
    held = threading.Event()

    def hold() -> None:
        with services.state.database.engine.begin():
            held.set()
            release.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(60)
        plugin.fit("START_TRAINING", {"project": {"id": 1, "label_config": CONFIG}})
        assert holder.is_alive()
        assert not services.state.projects.get(1).train_requested  # type: ignore[union-attr]
    finally:
        release.set()
        holder.join()
    wait_for("it to be stored", lambda: services.state.projects.get(1).train_requested)  # type: ignore[union-attr]


def test_a_plugin_without_address_and_key_says_what_to_set(tmp_path: Path) -> None:
    services = Services.start(Settings(model_dir=str(tmp_path)))
    plugin = ActiveLearningBackend("1", label_config=CONFIG, services=services)
    with pytest.raises(OwnerError, match="LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY"):
        plugin.set_extra_params({"budget": 3})
    services.close()


@pytest.mark.parametrize(
    ("given", "number"),
    [("5.1700000000", 5), ("5", 5), (5, 5), ({"id": 5}, 5), (None, None), ("", None), ({}, None), ("x.1", None)],
)
def test_project_numbers(given: Any, number: int | None) -> None:
    assert project_number(given) == number


def test_the_services_of_the_environment_are_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    services_of_environment.cache_clear()
    try:
        first, second = ActiveLearningBackend("1", CONFIG), ActiveLearningBackend("2", CONFIG)
        assert first.services is second.services
        assert first.services.settings.model_dir == str(tmp_path)
        first.services.close()
    finally:
        services_of_environment.cache_clear()


def test_the_web_process_starts_without_torch() -> None:
    """1.0.9 imports it; the process would be 600 MB larger and four seconds slower."""
    code = """
        import multiprocessing, sys
        import backend.web.app
        import label_studio_ml.model
        assert "torch" not in sys.modules, "torch was imported"
        assert multiprocessing.get_start_method(allow_none=True) is None
        import torch
        assert torch.zeros(1).item() == 0
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


# -- 2.x ---------------------------------------------------------------------------------------------------------------

UNDER_2 = """
    import json, sys
    from label_studio_ml.api import init_app, MODEL_CLASS
    import label_studio_ml, label_studio_ml.model
    from backend.web.plugin import ActiveLearningBackend
    from backend.web.services import services_of_environment
    from tests.backend.small_label_studio import CONFIG
    from tests.backend.web.test_compat import labels, publish
    from tests.rig.waiting import wait_for

    assert label_studio_ml.__path__[0].endswith("label_studio_ml_2/label_studio_ml")
    assert issubclass(ActiveLearningBackend, label_studio_ml.model.LabelStudioMLBase)
    client = init_app(model_class=ActiveLearningBackend).test_client()
    state = services_of_environment().state

    def setup(number, extra_params):
        body = {"project": f"{number}.1700000000", "schema": CONFIG, "hostname": "http://nowhere",
                "access_token": "x", "extra_params": extra_params}
        return client.post("/setup", json=body)

    # with and without extra params, as an object and as text
    assert setup(1, {"budget": 3}).json == {"model_version": ""}
    assert setup(2, '{"sampler": "vaal"}').json == {"model_version": ""}
    assert setup(3, None).json == {"model_version": ""}
    assert state.projects.get(1).extra_params == {"budget": 3}
    assert state.projects.get(2).extra_params == {"sampler": "vaal"}
    assert state.projects.get(3).extra_params == {}
    # 2.x does not hand on when the project was created: Label Studio was asked
    assert state.projects.get(1).key == "1.1700000000"
    assert setup(4, {"budgt": 3}).status_code == 500 and state.projects.get(4) is None

    name = publish(state, 1, ["cat", "dog"])
    assert setup(1, {"budget": 3}).json == {"model_version": name}
    body = {"tasks": [{"id": 2}, {"id": 9}, {"id": 1}], "project": "1.1700000000", "label_config": CONFIG,
            "params": {"login": None, "password": None, "context": {"result": []}}}
    results = client.post("/predict", json=body).json["results"]
    assert len(results) == 3 and labels(results) == ["dog", "cat"], results

    with state.database.engine.begin():  # the answers do not wait for another writer
        for event in ("ANNOTATION_CREATED", "ANNOTATION_CREATED", "START_TRAINING"):
            body = {"action": event, "project": {"id": 1, "label_config": CONFIG}}
            answer = client.post("/webhook", json=body)
            assert answer.status_code == 201 and answer.json["result"]["status"] == "noted", answer.json
        assert state.projects.get(1).annotation_events == 0
    wait_for("the first two", lambda: state.projects.get(1).annotation_events == 2)
    wait_for("the last", lambda: state.projects.get(1).train_requested)
    assert label_studio_ml.model.STORE == {}, "its store is not used"
    print("served under 2.x")
"""


def test_under_2_x_the_same_class_serves(tmp_path: Path, studio: SmallLabelStudio) -> None:
    paths = [str(ROOT / "tests" / "backend" / "label_studio_ml_2"), str(ROOT)]
    settings = {
        "PYTHONPATH": os.pathsep.join(paths),
        "MODEL_DIR": str(tmp_path),
        "LABEL_STUDIO_URL": studio.url,
        "LABEL_STUDIO_API_KEY": "some-key",
    }
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(UNDER_2)],
        cwd=tmp_path,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0 and "served under 2.x" in run.stdout, run.stderr
