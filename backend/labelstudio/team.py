"""The people who label: their names, and tasks that one more of them is to label."""

from __future__ import annotations

from backend.labelstudio.http import Connection


class Team:
    """The annotators of a Label Studio."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def names(self) -> dict[int, str]:
        """The id of each user of the key's organization → their name or, where they have none, their login."""
        users = self._connection.get("api/users/")
        return {int(user["id"]): _name(user) for user in users}

    def reopen(self, task_id: int, people: int) -> None:
        """Serve a task until so many ``people`` have annotated it; never to the same person twice. Its annotations stay
        as they are.

        Label Studio counts a task as finished by its own ``overlap``, and looks at that only when an annotation is
        made: so a task that it counts as finished has to be opened as well. Both stay when the project is saved or
        tasks are imported; a change of *Annotations per task* sets them back.
        """
        self.serve(task_id, people, finished=False)

    def serve(self, task_id: int, people: int, *, finished: bool) -> None:
        """Set for how many ``people`` a task is, and whether it counts as finished, in one write."""
        self._connection.patch(f"api/tasks/{task_id}/", {"overlap": people, "is_labeled": finished})


def _name(user: dict[str, object]) -> str:
    full = " ".join(str(user.get(part) or "") for part in ("first_name", "last_name")).strip()
    return full or str(user.get("username") or user.get("email") or "")
