"""Forgets a project: deletes what the backend keeps of it. Nothing in Label Studio is touched."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

from backend.errors import BackendError, OwnerError
from backend.files import project_folder
from backend.labelstudio.client import LabelStudio
from backend.labelstudio.webhook import same_address
from backend.settings.core import Settings
from backend.state import Project, State
from backend.worker import storing

LEASE_SECONDS = 60.0
LIST_SECONDS = 15.0


def forget(
    settings: Settings, state: State, name: str, confirm: Callable[[str], bool], say: Callable[[str], None]
) -> None:
    """Delete the project's versions, history, checkpoints and cached images here.

    Waits while a worker holds the project. ``confirm`` is asked before anything is deleted that cannot be had again,
    with a question that says what; ``say`` receives what the owner has to know. ``name``: as
    :meth:`backend.state.projects.Projects.find` takes it; projects that were set aside are found too.

    Raises:
        OwnerError: the project is not known here, or ``confirm`` said no.
    """
    project_id = state.projects.find(name, kept=True).id
    owner = f"{socket.gethostname()}:{os.getpid()}:forget"
    waiting = False
    while not state.leases.take(project_id, owner, LEASE_SECONDS):
        if not waiting:
            say(f"A worker is busy with project {name}; waiting for it.")
        waiting = True
        time.sleep(settings.poll_seconds)
    try:
        project = state.projects.get(project_id)
        if project is None:
            return
        folder = project_folder(settings.model_dir, project.folder_key)
        if still_listed(settings, project):
            say(
                "Label Studio still lists this backend in the project. Remove it there first, under Settings > Model;"
                " otherwise the project comes back, empty, at Label Studio's next request."
            )
        lost = what_is_lost(state, project, folder)
        titled = f"{project.name} {project.title}".strip()
        if lost and not confirm(f"This deletes {lost} of project {titled} here, for good."):
            raise OwnerError(f"Nothing was deleted. To forget project {project.name} all the same, add --yes.")
        state.projects.remove(project_id)
        shutil.rmtree(folder, ignore_errors=True)
        storing.remove(settings, project)
    finally:
        state.leases.release(project_id, owner)
    say(
        f"Project {titled} is forgotten. What is in Label Studio stays: annotations; predictions, to be deleted under"
        " Settings > Predictions; and the webhook to this backend, under Settings > Webhooks."
    )


def what_is_lost(state: State, project: Project, folder: Path) -> str:
    """What could not be had again, in words; "" if that is nothing."""
    versions = len(state.versions.of_project(project.id))
    checkpoints = len(list(folder.glob("checkpoints/*.pt")))
    counts = {"version": versions, "trained network": checkpoints}
    return " and ".join(f"{count} {what}{'s' * (count != 1)}" for what, count in counts.items() if count)


def still_listed(settings: Settings, project: Project) -> bool:
    """Whether Label Studio lists a connection at our address. False too if it does not say."""
    try:
        rows = LabelStudio.of_project(settings, project, timeout=LIST_SECONDS).connections.of_project(project.number)
    except BackendError:
        return False
    ours = (project.connection_url, project.address)
    return any(same_address(row.url, address) for row in rows for address in ours)
