"""Finds the projects again that name this backend in Label Studio, after its state was lost, moved, or set back.

Asked which backends a project names, Label Studio calls ``/setup`` of each. So whichever project names this backend is
connected again by the usual way, with all its checks, while it is being asked about: nobody has to know under which
address Label Studio reaches us. Only where it does not reach us now, the setting ``backend_url`` tells what is ours.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from backend.errors import LabelStudioRefused, OwnerError
from backend.labelstudio.client import LabelStudio
from backend.labelstudio.pause import Pause
from backend.labelstudio.records import MLBackend
from backend.labelstudio.webhook import same_address
from backend.settings.core import Settings
from backend.settings.values import parse_extra_params
from backend.state import State
from backend.state.identities import studio_of
from backend.tasks import kind_of

log = logging.getLogger(__name__)


def gateway_of(settings: Settings) -> LabelStudio | None:
    """Label Studio, by our own address and key. None if they are not set: nobody else's key is asked with."""
    if not settings.label_studio_api_key:
        return None
    return LabelStudio(settings.label_studio_url, settings.label_studio_api_key)


def is_known(state: State, number: int, gateway: LabelStudio) -> bool:
    """Whether the project with this number at that Label Studio is connected."""
    studio = studio_of(gateway.url)
    return any(project.studio == studio for project in state.projects.named(number))


def adopt_all(state: State, settings: Settings, gateway: LabelStudio) -> list[int]:
    """Look at all projects that are not connected. Returns the numbers of those that should be looked at again, because
    Label Studio did not reach one of the backends that they name: it may be this one, still starting.

    Raises:
        LabelStudioUnavailable, LabelStudioRefused: Label Studio could not be asked.
    """
    again = []
    pause = Pause()
    for number in list(gateway.connections.project_numbers()):
        if is_known(state, number, gateway):
            continue
        try:
            named = adopt(state, settings, gateway, number)
        except OwnerError as error:  # it was deleted just now, or cannot be served as it is; the others still can
            log.info("Project %d is not connected: %s", number, error)
            continue
        if named and not is_known(state, number, gateway) and not all(one.answers for one in named):
            again.append(number)
        pause()
    return again


def adopt(
    state: State, settings: Settings, gateway: LabelStudio, number: int, *, by_hand: bool = False
) -> Sequence[MLBackend]:
    """Connect the project with this number again if it names this backend. Returns the backends that it names.

    ``by_hand``: the owner says that it does. If it names exactly one backend, that is this one.

    Raises:
        NotFound: there is no such project.
        OwnerError: it names this backend, but cannot be served as it is.
    """
    named = gateway.connections.of_project(number)  # meanwhile Label Studio calls our /setup, if it can
    if is_known(state, number, gateway):
        log.info("Project %d names this backend in Label Studio: it is connected again", number)
        return named
    ours = _ours(named, settings.backend_url)
    if ours is None and by_hand and len(named) == 1:
        ours = named[0]
    if ours is not None:
        _connect(state, settings, gateway, number, ours)
    return named


def _ours(named: Iterable[MLBackend], url: str) -> MLBackend | None:
    same = [one for one in named if same_address(one.url, url)]
    return same[0] if same else None


def _connect(state: State, settings: Settings, gateway: LabelStudio, number: int, ours: MLBackend) -> None:
    info = gateway.project(number)
    params = dict(parse_extra_params(ours.extra_params))
    kind_of(info.label_config, settings.for_project(params))
    state.projects.connect(number, info.key, info.label_config, params, gateway.url, "", studio=gateway.url, moved=True)
    log.info("Project %d names this backend, at %s, in Label Studio: it is connected again", number, ours.url)


def adopt_by_hand(state: State, settings: Settings, number: int | None) -> list[str]:
    """What ``adopt`` does: look at one project, or at all. Returns what was found, a line for each project.

    Raises:
        OwnerError: no address and key of Label Studio are set, or the project cannot be connected; says why.
    """
    gateway = gateway_of(settings)
    if gateway is None:
        raise OwnerError(
            "Set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY: only Label Studio knows which projects are ours."
        )
    if number is not None:
        named = adopt(state, settings, gateway, number, by_hand=True)
        if not is_known(state, number, gateway):
            raise OwnerError(_why_not(number, named))
        return [f"project {number}: connected"]
    lines = []
    for one in list(gateway.connections.project_numbers()):
        before = is_known(state, one, gateway)
        try:
            named = () if before else adopt(state, settings, gateway, one)
        except LabelStudioRefused:
            raise
        except OwnerError as error:
            lines.append(f"project {one}: not connected: {error}")
            continue
        if is_known(state, one, gateway):
            lines.append(f"project {one}: {'connected already' if before else 'connected'}")
        elif named:
            lines.append(f"project {one}: not connected: {_why_not(one, named)}")
    return lines


def _why_not(number: int, named: Sequence[MLBackend]) -> str:
    if not named:
        return f"Project {number} names no backend: connect it in its Settings → Model."
    shown = ", ".join(
        f"{one.url} ({one.error or ('responds' if one.answers else 'does not respond')})" for one in named
    )
    return f"Project {number} names {shown}. If one of them is this backend, start it, or set BACKEND_URL to that."
