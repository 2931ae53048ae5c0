"""Links from the pages into Label Studio."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from backend.settings.core import Settings
from backend.state import Project
from backend.state.records import CONNECTED


@dataclass(frozen=True)
class Links:
    """The addresses of a project's places in Label Studio, each "" where it is not known.

    ``base``: Label Studio's address, as it gives it to browsers.
    """

    base: str
    number: int
    queue_tab: int | None

    @classmethod
    def of(cls, project: Project, settings: Settings) -> Links:
        """Of a project that Label Studio has confirmed: what a request alone says leads nowhere. Label Studio's own
        address came with the connection; it may differ from the one at which the backend reaches it."""
        known = (project.url, settings.label_studio_url) if project.standing == CONNECTED else ()
        base = next((one for one in known if _is_web_address(one)), "")
        return cls(base.rstrip("/"), project.number, project.queue_tab)

    @property
    def project(self) -> str:
        return f"{self.base}/projects/{self.number}/data" if self.base else ""

    @property
    def tab(self) -> str:
        """The tab with the queue. The tab's id may be out of date for as long as the worker does not compare."""
        return f"{self.project}?tab={self.queue_tab}" if self.base and self.queue_tab else ""

    @property
    def label(self) -> str:
        """Where labeling begins in the order of that tab. Label Studio serves its first task, which it does not lock,
        or, to a browser in which *Label All Tasks* was pressed last, as that does. Without the tab, the address would
        lead to whatever tab is the first, and serve by number."""
        return f"{self.tab}&labeling=1" if self.tab else ""

    @property
    def model(self) -> str:
        """Where the connection is."""
        return f"{self.base}/projects/{self.number}/settings/ml" if self.base else ""

    def task(self, task: int) -> str:
        return f"{self.project}?task={task}" if self.base else ""


def _is_web_address(address: str) -> bool:
    """Whether it may stand in a link: a script may not."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and address.isprintable() and " " not in address
