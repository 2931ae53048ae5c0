"""The webhook that Label Studio creates for each backend of a project."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from backend.labelstudio.http import Connection

WEBHOOK_PATH = "/webhook"
NEEDED = frozenset(
    {
        "ANNOTATION_CREATED",
        "ANNOTATIONS_CREATED",
        "ANNOTATION_UPDATED",
        "ANNOTATIONS_DELETED",
        "TASKS_CREATED",
        "TASKS_DELETED",
        "PROJECT_UPDATED",
    }
)
"""The actions that a webhook has to send for the backend to hear of changes at once."""


def same_address(one: str, other: str) -> bool:
    """Whether two addresses name the same host, port and path. The scheme may differ, because a proxy may end TLS."""
    return bool(one) and _place(one) == _place(other)


def _place(url: str) -> tuple[str, str]:
    parts = urlsplit(url.strip())
    host = parts.netloc.rpartition("@")[2].lower()
    for port in (":80", ":443"):
        host = host.removesuffix(port)
    return host, parts.path.rstrip("/")


def basic_auth(user: str, password: str) -> dict[str, str]:
    """The header that a webhook has to send to a backend with basic auth; none if there is no ``user``."""
    if not user:
        return {}
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def repair_webhook(
    connection: Connection, project_id: int, addresses: Collection[str], headers: Mapping[str, str]
) -> list[str] | None:
    """Set right the project's webhooks to the backend at one of ``addresses``, and only those: no other receiver is
    sent our credentials. They have to be active, carry ``headers``, and send the project and what changed.

    Returns:
        What was wrong, in words; None if there is no such webhook.
    """
    ours = [address.rstrip("/") + WEBHOOK_PATH for address in addresses if address]
    found = connection.get("api/webhooks/", project=project_id)
    hooks = [hook for hook in found if any(same_address(hook["url"], url) for url in ours)]
    wrong: list[str] = []
    for hook in hooks:
        merged = {**(hook["headers"] or {}), **headers}
        complete = hook["send_for_all_actions"] or set(hook["actions"] or ()) >= NEEDED
        faults = {
            "its header for basic auth was missing": merged != (hook["headers"] or {}),
            "it was switched off": not hook["is_active"],
            "it left out what happened": not hook["send_payload"],
            "it left out actions": not complete,
        }
        reasons = [words for words, is_wrong in faults.items() if is_wrong]
        if not reasons:
            continue
        body = {
            "headers": merged,
            "is_active": True,
            "send_payload": True,
            # its actions have to be sent along, or Label Studio resets them
            "send_for_all_actions": hook["send_for_all_actions"] or not complete,
            "actions": hook["actions"],
        }
        connection.patch(f"api/webhooks/{hook['id']}/", body)
        wrong += reasons
    return wrong if hooks else None


def create_webhook(connection: Connection, project_id: int, address: str, headers: Mapping[str, str]) -> None:
    """Create the webhook as Label Studio does when a backend is connected, with ``headers``."""
    body = {"project": project_id, "url": address.rstrip("/") + WEBHOOK_PATH, "headers": dict(headers)}
    connection.post("api/webhooks/", body | {"send_payload": True, "send_for_all_actions": True})
