"""The WSGI application: the endpoints that Label Studio calls, and authentication.

| endpoint | who calls it, and waits how long | what it does |
|---|---|---|
| ``/health``, ``/`` | Label Studio, 1 s | nothing |
| ``/`` and ``/projects/…``, for browsers | people | :mod:`backend.web.pages` reads the state |
| ``/setup`` | Label Studio, 3 s, often | :meth:`ActiveLearningBackend.connect` |
| ``/predict`` | Label Studio, 100 s | returns stored predictions, or else fresh ones |
| ``/webhook`` | Label Studio, 1 s, never repeated | one small UPDATE |
| ``/versions``, ``/metrics`` | people and Prometheus | reads the state |
| ``/openapi.json`` | people and programs | describes the endpoints |
| ``/train``, ``/job_status`` | Label Studio without its webhook flag | the same as START_TRAINING |
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import os
import re
import time
from functools import partial
from typing import Any

import flask
from werkzeug.exceptions import BadRequest

from backend import __version__, logs
from backend.events import project_number
from backend.files import keep_private
from backend.settings.core import Settings
from backend.state import Version
from backend.tasks.label_config import import_ahead
from backend.web import openapi
from backend.web.accept import by_browser
from backend.web.body import BODY_BYTES, json_object, text
from backend.web.compat import AdapterPerRequest
from backend.web.errors import error_response, handle_errors
from backend.web.metrics import CONTENT_TYPE, Metrics
from backend.web.pages.routes import Pages
from backend.web.plugin import WEBHOOK_SECONDS, ActiveLearningBackend
from backend.web.services import Services

log = logging.getLogger(__name__)


def create_app(settings: Settings) -> flask.Flask:
    """The application, with the state that ``settings`` refer to."""
    services = Services.start(settings)
    app = flask.Flask("backend", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["services"] = services
    metrics = Metrics(services.state, settings)
    _measure(app, metrics)
    _require_password(app, settings)
    handle_errors(app, services.redact)
    pages = Pages(services)
    endpoints = Endpoints(services, metrics, pages)
    for path, methods, view in [*endpoints.table(), *pages.table()]:
        app.add_url_rule(path, path.strip("/") or "root", view, methods=methods)
    return app


def from_environment() -> flask.Flask:
    """The application for gunicorn, with settings from the environment. Also configures logging."""
    settings = Settings.from_env(os.environ)
    keep_private()
    import_ahead()
    app = create_app(settings)
    logs.configure(settings.log_level, app.extensions["services"].redact)
    app.extensions["services"].adopter.start()
    return app


class Endpoints:
    """One method per endpoint. Their errors become responses in :mod:`backend.web.errors`."""

    def __init__(self, services: Services, metrics: Metrics, pages: Pages) -> None:
        self.services, self.state, self.metrics, self.pages = services, services.state, metrics, pages
        self.adapters = AdapterPerRequest(partial(ActiveLearningBackend, services=services))

    def table(self) -> list[tuple[str, list[str], Any]]:
        """(path, methods, view) of each endpoint."""
        return [
            ("/", ["GET"], self.root),
            ("/health", ["GET"], self.health),
            ("/setup", ["POST"], self.setup),
            ("/predict", ["POST"], self.predict),
            ("/webhook", ["POST"], self.webhook),
            ("/versions", ["GET", "POST"], self.versions),
            ("/metrics", ["GET"], self.metrics_text),
            ("/train", ["POST"], self.train),
            ("/job_status", ["POST"], self.job_status),
            ("/openapi.json", ["GET"], openapi.description),
        ]

    def root(self) -> flask.Response | dict[str, str]:
        """For Label Studio the same as ``/health``, for a browser the overview of all projects."""
        return self.pages.overview() if by_browser() else self.health()

    def health(self) -> dict[str, str]:
        return {"status": "UP", "model_class": ActiveLearningBackend.__name__, "version": __version__}

    def setup(self) -> dict[str, str]:
        body = json_object()
        if project_number(body.get("project")) is None:
            raise BadRequest('"project" must be a project\'s id, such as "5.1700000000"')
        adapter = self.adapters.fetch(
            body["project"],
            text(body, "schema"),
            hostname=text(body, "hostname"),
            access_token=text(body, "access_token"),
            extra_params=body.get("extra_params"),
        )
        return {"model_version": adapter.model_version}

    def predict(self) -> dict[str, Any]:
        body = json_object()
        tasks = body.get("tasks")
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise BadRequest('"tasks" must be a list of tasks')
        params = body.get("params")
        context = params.get("context") if isinstance(params, dict) else None
        results, adapter = self.adapters.predict(
            tasks, body.get("project"), text(body, "label_config"), context=context
        )
        return {"results": results, "model_version": adapter.model_version}

    def webhook(self) -> tuple[dict[str, Any], int]:
        body = json_object()
        return self.adapters.webhook(body.pop("action", None), body), 201

    def versions(self) -> dict[str, Any]:
        """The names of the versions that Label Studio holds, newest first, and details of all versions by project."""
        body = json_object() if flask.request.content_length else {}
        project_id = flask.request.args.get("project") or body.get("project")
        number = project_number(project_id)
        if project_id and number is None:
            raise BadRequest('"project" must be a project\'s id')
        projects = [p for p in self.state.projects.all() if number in (None, p.number)]
        found = {project.name: self.state.versions.of_project(project.id) for project in projects}
        names = [v.name for versions in found.values() for v in versions if v.status in ("current", "superseded")]
        return {
            "versions": names,
            "projects": {
                project.name: {
                    "title": project.title,
                    "current": next((v.name for v in found[project.name] if _is_current(v, project)), ""),
                    "versions": [_as_json(version) for version in found[project.name]],
                }
                for project in projects
            },
        }

    def metrics_text(self) -> flask.Response:
        return flask.Response(self.metrics.text(), content_type=CONTENT_TYPE)

    def train(self) -> tuple[dict[str, str], int]:
        body = json_object()
        number = project_number(body.get("project"))
        known = [] if number is None else self.state.projects.named(number, str(body.get("project")))
        if not known:
            raise BadRequest("that project is not connected to this backend")
        project = known[0]
        self.services.write(lambda: self.state.hints.add(project.id, train=True), WEBHOOK_SECONDS)
        updated = self.state.projects.get(project.id) or project
        return {"job": f"{project.id}-{updated.train_seq}"}, 201

    def job_status(self) -> tuple[dict[str, Any], int]:
        project_part, _, train_seq = text(json_object(), "job").partition("-")
        number = project_number(project_part)
        project = None if number is None else self.state.projects.get(number)
        if project is None or not re.fullmatch(r"[0-9]{1,18}", train_seq):
            return {"error": "there is no such job"}, 410
        if project.train_seen >= int(train_seq):
            return {"job_status": "finished"}, 200
        running = any(cycle.project_id == project.id for cycle in self.state.cycles.running())
        return {"job_status": "started" if running else "queued", "error": project.last_error}, 200


def _is_current(version: Version, project: Any) -> bool:
    return bool(version.id == project.current_version_id)


def _as_json(version: Version) -> dict[str, Any]:
    keys = ("name", "cycle", "sampler", "status", "classes", "created_at", "published_at", "metrics")
    return {key: getattr(version, key) for key in keys}


# -- around every request ----------------------------------------------------------------------------------------------


def _measure(app: flask.Flask, metrics: Metrics) -> None:
    """Count and time every request."""

    @app.before_request
    def begin() -> None:
        flask.g.began = time.perf_counter()

    @app.after_request
    def end(response: flask.Response) -> flask.Response:
        request = flask.request
        endpoint = request.url_rule.rule if request.url_rule else "other"
        seconds = time.perf_counter() - flask.g.get("began", time.perf_counter())
        metrics.observe_request(endpoint, request.method, response.status_code, seconds)
        log.debug("%s %s %s in %.0f ms", request.method, endpoint, response.status_code, seconds * 1000)
        return response


def _require_password(app: flask.Flask, settings: Settings) -> None:
    """Require basic auth for everything but the health check, if it is configured."""
    if not settings.basic_auth_user:
        return
    pair = f"{settings.basic_auth_user}:{settings.basic_auth_pass}"
    expected = [pair.encode("utf-8")]  # Label Studio's client sends latin-1 if possible
    if pair.encode("latin-1", "replace").decode("latin-1") == pair:
        expected.append(pair.encode("latin-1"))

    @app.before_request
    def check() -> flask.Response | None:
        if flask.request.path == "/health" or (flask.request.path == "/" and not by_browser()):
            return None
        scheme, _, given = flask.request.headers.get("Authorization", "").partition(" ")
        try:
            sent = base64.b64decode(given, validate=True) if scheme.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            sent = b""
        matches = [hmac.compare_digest(sent, one) for one in expected]  # compare with all, each in constant time
        if True in matches:
            return None
        response = error_response(
            "the backend's user name and password are wrong or missing (basic auth)", 401, phrase=True
        )
        response.headers["WWW-Authenticate"] = 'Basic realm="active learning backend", charset="UTF-8"'
        return response
