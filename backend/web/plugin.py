"""The plugin: handles Label Studio's requests by reading and writing the state. It never trains.

One object serves one request for one project, with either generation of label-studio-ml (:mod:`backend.web.compat`).
``/setup`` stores a connected project, ``/webhook`` stores a hint, ``/predict`` returns stored predictions. A worker
does the rest.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flask

from backend import events
from backend.errors import LabelStudioRefused, OwnerError
from backend.labelstudio.client import LabelStudio
from backend.labelstudio.records import ProjectInfo
from backend.labelstudio.webhook import basic_auth
from backend.settings.core import Settings
from backend.settings.values import parse_extra_params
from backend.state import Project
from backend.state.identities import studio_of
from backend.state.records import CONNECTED
from backend.tasks import kind_of
from backend.web.compat import Plugin
from backend.web.predictions import RequestedPredictions, is_unexpected
from backend.web.services import Services, services_of_environment

log = logging.getLogger(__name__)

SETUP_SECONDS = 0.5  # Label Studio waits three seconds, of which the key check takes up to two
WEBHOOK_SECONDS = 0.1  # Label Studio waits one second
WEBHOOK_CALL_SECONDS = 5.0
LONGEST_ADDRESS = 500

_KEY = re.compile(r"\d{1,18}\.\d{1,18}", re.ASCII)

NO_PREDICTION: dict[str, Any] = {"result": [], "score": 0.0, "model_version": ""}
"""Label Studio stores it as a prediction of no version, which does not affect any order."""


class ActiveLearningBackend(Plugin):
    """Orders a project's queue so that the most useful tasks come first.

    ``key`` ("<id>.<created>"), ``hostname`` and ``access_token`` (Label Studio's own address and token) come with
    ``/setup``, if label-studio-ml passes them on.
    """

    def __init__(
        self,
        project_id: str | int | None = None,
        label_config: str | None = None,
        *,
        services: Services | None = None,
        key: str = "",
        hostname: str = "",
        access_token: str = "",
        **kwargs: Any,
    ) -> None:
        self.services = services or services_of_environment()
        # label-studio-ml 2.x passes no key; one that does not say when the project was created is not Label Studio's
        self._key = key if not key or _KEY.fullmatch(key) else key.partition(".")[0]
        self._hostname, self._access_token = hostname or "", access_token or ""
        super().__init__(project_id, label_config, **kwargs)

    # -- /setup ------------------------------------------------------------------------------------------------------

    def connect(self, extra_params: Any) -> None:
        """Check everything that the owner may have to correct, then store the project if anything changed.

        Raises:
            OwnerError: the project, its label config, the extra params or the key is wrong; says what to change.
        """
        if self.project_id is None:
            raise OwnerError("The request does not say which project it is for.")
        params = dict(parse_extra_params(extra_params))
        settings = kind_of(self.label_config, self.services.settings.for_project(params)).settings
        info = self._confirmed(settings)
        state, number, address = self.services.state, self.project_id, settings.label_studio_url or self._hostname
        key = info.key if info else self._key or str(self.project_id)
        identity: dict[str, Any] = {"studio": address, "moved": bool(settings.label_studio_url)}
        known = state.projects.identified(address, self.project_id, key, moved=identity["moved"])
        values: tuple[Any, ...] = (key, self.label_config, params, self._hostname, self._token_to_keep(settings))
        if known is not None and "." not in self._key:
            # Label Studio always says when a project was created; only label-studio-ml 2.x does not pass it on.
            params = known.extra_params if self._key or extra_params is None else params
            values = (key, known.label_config, params, known.url, known.token)
        if info is None:
            # Nothing is known, so nothing that exists is changed. What is new waits until a worker has asked.
            if known is None:
                self.services.write(lambda: state.projects.announce(number, *values, **identity), SETUP_SECONDS)
                log.info("Project %s is announced; Label Studio has yet to confirm it", key)
            else:
                if self._differs(known, values, address):  # once it responds, it says again what the owner wants
                    self.services.adopter.notice(number)
                self._heard(known.id, settings, "")
            return
        if known is None or self._differs(known, values, address):
            self.services.write(lambda: state.projects.connect(number, *values, **identity), SETUP_SECONDS)
            log.info("Project %s is connected: sampler %s, budget %d", key, settings.sampler, settings.budget)
        known = state.projects.identified(address, number, key, moved=identity["moved"])
        if known is not None:
            self._heard(known.id, settings, address_of_request())

    def _heard(self, project_id: int, settings: Settings, address: str) -> None:
        """Note that Label Studio lists a connection that leads here, to our ``address`` if it is sure who asks, and
        look after the webhook that belongs to it."""
        state = self.services.state
        self.services.write(lambda: state.hints.heard(project_id, address), SETUP_SECONDS)
        project = state.projects.get(project_id)
        if project is not None and address and settings.basic_auth_user:
            header = basic_auth(settings.basic_auth_user, settings.basic_auth_pass)
            gateway = LabelStudio.of_project(settings, project, timeout=WEBHOOK_CALL_SECONDS)
            self.services.repair_webhook(project.number, gateway, {address, project.connection_url}, header)

    def _confirmed(self, settings: Settings) -> ProjectInfo | None:
        """The project as Label Studio, asked with our API key, describes it; None if it did not respond in time."""
        assert self.project_id is not None
        url = settings.label_studio_url or self._hostname
        token = settings.label_studio_api_key or self._access_token
        if not url or not token:
            raise OwnerError("Set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY in the backend's environment.")
        try:
            info = self.services.key_check(url, token, self.project_id)
        except LabelStudioRefused as error:
            if settings.label_studio_api_key:
                raise
            address = "" if settings.label_studio_url else "; set LABEL_STUDIO_URL too"
            raise LabelStudioRefused(f"Label Studio refuses the token that it sent: {error}{address}") from error
        if info is not None and "." in self._key and self._key != info.key:
            raise LabelStudioRefused(
                f"Project {self.project_id} there is not the one being connected:"
                " does LABEL_STUDIO_URL point to a different Label Studio?"
            )
        if info is not None and not settings.label_studio_api_key:
            self.services.redact.add(token)  # Label Studio accepted it, so it is a secret and no ordinary word
        return info

    def _token_to_keep(self, settings: Settings) -> str:
        """The token that came with the request, if it is what opens Label Studio: a key of ours makes it useless, and
        what is not stored cannot be stolen."""
        return "" if settings.label_studio_api_key else self._access_token

    @staticmethod
    def _differs(known: Project, values: tuple[Any, ...], address: str) -> bool:
        same = (known.key, known.label_config, known.extra_params, known.url, known.token) == values
        return not same or known.standing != CONNECTED or known.studio != studio_of(address)

    def _project(self, tasks: Sequence[Mapping[str, Any]] = ()) -> Project | None:
        """The connected project that this request is for. Where several Label Studios have one of that name, it is the
        one with the label config and the ``tasks`` of the request."""
        if self.project_id is None:
            return None
        found = self.services.state.projects.named(self.project_id, self._key)
        return (
            max(found, key=lambda project: self._likeness(project, tasks))
            if len(found) > 1
            else next(iter(found), None)
        )

    def _likeness(self, project: Project, tasks: Sequence[Mapping[str, Any]]) -> tuple[int, bool]:
        data = {task["id"]: task.get("data") or {} for task in tasks if isinstance(task.get("id"), int)}
        sources = self.services.state.tasks.sources(project.id, data)
        same = sum(
            isinstance(data[task], Mapping) and source in data[task].values() for task, source in sources.items()
        )
        return same, project.label_config.strip() == self.label_config.strip()

    # -- /predict ----------------------------------------------------------------------------------------------------

    def predictions_for(self, tasks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """One prediction for each of ``tasks``, in order: stored, else fresh, else :data:`NO_PREDICTION`. Never
        raises."""
        entries: dict[int, dict[str, Any]] = {}
        try:
            known = [task for task in tasks if _number_of(task)]
            project = self._project(known)
            if project is not None:
                RequestedPredictions(self.services, project, self.label_config or "").fill(entries, known)
        except Exception as error:  # return the predictions that there are, rather than an error for all of them
            log.warning("No predictions for project %s: %s", self.project_id, error, exc_info=is_unexpected(error))
        return [entries.get(_number_of(task)) or dict(NO_PREDICTION) for task in tasks]

    # -- /webhook ----------------------------------------------------------------------------------------------------

    def handle_webhook(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Store a hint that something changed; a worker finds out what.

        Raises:
            events.MalformedEvent: the payload is not an event.
        """
        event = events.parse(payload)
        unknown = self.services.adopter.notice
        noted = self.services.write(lambda: events.record(self.services.state, event, unknown), WEBHOOK_SECONDS)
        return noted or {"status": "noted", "reason": "to be stored as soon as the database is free"}

    def current_version(self) -> str:
        """The name of the version that orders the queue; "" before there is one."""
        project = self._project()
        version = None if project is None else self.services.state.versions.current(project.id)
        return version.name if version else ""


def _number_of(task: Mapping[str, Any]) -> int:
    """A task's id; 0 if it is none that Label Studio gives, which a database could not hold either."""
    number = task.get("id")
    return number if type(number) is int and 0 < number <= events.LARGEST_ID else 0


def address_of_request() -> str:
    """Our address, as whoever sent the present request knows it; "" outside a request. A reverse proxy says so in
    ``X-Forwarded-…`` headers."""
    if not flask.has_request_context():
        return ""
    request = flask.request
    host = request.headers.get("X-Forwarded-Host", "").split(",")[0].strip() or request.host
    scheme = request.headers.get("X-Forwarded-Proto", "").split(",")[0].strip() or request.scheme
    path = request.headers.get("X-Forwarded-Prefix", "").strip() or request.root_path
    return f"{scheme}://{host}/{path.strip('/')}".rstrip("/")[:LONGEST_ADDRESS]
