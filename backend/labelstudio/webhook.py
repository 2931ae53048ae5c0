"""The webhook that Label Studio creates for a connected backend."""

from __future__ import annotations

from collections.abc import Mapping

from backend.labelstudio.http import Connection


def update_webhook_headers(
    connection: Connection, project_id: int, headers: Mapping[str, str], url_suffix: str = "/webhook"
) -> int:
    """Add ``headers`` to the project's webhooks that Label Studio created for a backend with basic auth.

    Only webhooks at ``url_suffix`` below the address of such a backend are changed, so that no other receiver is sent
    the credentials.

    Returns:
        The number of webhooks changed.
    """
    backends = connection.get("api/ml/", project=project_id)
    ours = {item["url"].rstrip("/") + url_suffix for item in backends if item.get("auth_method") == "BASIC_AUTH"}
    changed = 0
    for webhook in connection.get("api/webhooks/", project=project_id):
        merged = {**(webhook["headers"] or {}), **headers}
        if webhook["url"] in ours and merged != webhook["headers"]:
            # its actions have to be sent along, or Label Studio resets them
            kept = {name: webhook[name] for name in ("actions", "send_for_all_actions")}
            connection.patch(f"api/webhooks/{webhook['id']}/", {"headers": merged, **kept})
            changed += 1
    return changed
