"""The WSGI application: the endpoints that Label Studio calls, authentication, and responses to all errors, in JSON
for programs and as a page for people.

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

Label Studio's connect dialog shows only the status line of a response. So a message for the owner is put in the reason
phrase as well as in the body.
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
from werkzeug.exceptions import BadRequest, HTTPException

from backend import __version__, logs
from backend.errors import BackendError, OwnerError, understood
from backend.events import MalformedEvent, project_number
from backend.files import keep_private
from backend.settings.core import Settings
from backend.state import Version
from backend.tasks.label_config import import_ahead
from backend.web import openapi
from backend.web.accept import asks_for_page
from backend.web.body import BODY_BYTES, json_object, text
from backend.web.compat import AdapterPerRequest
from backend.web.metrics import CONTENT_TYPE, Metrics
from backend.web.pages.routes import Pages, error_page
from backend.web.plugin import WEBHOOK_SECONDS, ActiveLearningBackend
from backend.web.services import Services

log = logging.getLogger(__name__)

PHRASE_BEGINNING, PHRASE_END = 220, 80
PHRASE_CHARACTERS = PHRASE_BEGINNING + PHRASE_END
_PLAIN = str.maketrans({"…": "...", "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "≥": ">="})


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
    _handle_errors(app, services)
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
    """One method per endpoint. Their errors become responses in :func:`_handle_errors`."""

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
        return self.pages.overview() if _by_browser() else self.health()

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
        if flask.request.path == "/health" or (flask.request.path == "/" and not _by_browser()):
            return None
        scheme, _, given = flask.request.headers.get("Authorization", "").partition(" ")
        try:
            sent = base64.b64decode(given, validate=True) if scheme.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            sent = b""
        matches = [hmac.compare_digest(sent, one) for one in expected]  # compare with all, each in constant time
        if True in matches:
            return None
        response = _error("the backend's user name and password are wrong or missing (basic auth)", 401, phrase=True)
        response.headers["WWW-Authenticate"] = 'Basic realm="active learning backend", charset="UTF-8"'
        return response


def _handle_errors(app: flask.Flask, services: Services) -> None:
    """Turn every error into a response without secrets."""
    redact = services.redact

    @app.errorhandler(OwnerError)
    def owner(error: OwnerError) -> flask.Response:
        log.warning("Refused: %s", error)
        return _error(redact(str(error)), 400, phrase=True)

    @app.errorhandler(MalformedEvent)
    def malformed(error: MalformedEvent) -> flask.Response:
        return _error(redact(str(error)), 400)

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> flask.Response:
        response = _error(redact(error.description or error.name), error.code or 500)
        for name, value in error.get_headers():
            if name.lower() in ("allow", "retry-after"):
                response.headers[name] = value
        return response

    @app.errorhandler(BackendError)
    def known(error: BackendError) -> flask.Response:
        log.warning("%s %s failed: %s", flask.request.method, flask.request.path, error)
        return _error(redact(str(error)), 503)

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> flask.Response:
        understandable = understood(error)
        if isinstance(understandable, BackendError):
            return known(understandable)
        log.error("%s %s failed", flask.request.method, flask.request.path, exc_info=error)
        return _error("internal error; the backend's log says more", 500)


def _error(message: str, status: int, *, phrase: bool = False) -> flask.Response:
    """``phrase``: put the message in the reason phrase too, for Label Studio's connect dialog."""
    response = error_page(message, status) if _by_browser() else flask.jsonify(error=message)
    response.status = f"{status} {reason_phrase(message)}" if phrase else str(status)
    return response


def _by_browser() -> bool:
    return asks_for_page(flask.request.headers.get("Accept", ""))


def reason_phrase(message: str) -> str:
    """``message`` as an HTTP reason phrase: a single line of limited length in latin-1. A long one lacks its middle: a
    message about a value ends with the value."""
    line = " ".join(message.translate(_PLAIN).split())
    line = re.sub(r"[^\x20-\x7e\xa1-\xac\xae-\xff]", "?", line)
    return line if len(line) <= PHRASE_CHARACTERS else line[: PHRASE_BEGINNING - 3] + "..." + line[-PHRASE_END:]
