"""When to write into a project that people label: between the requests of an annotator.

On SQLite, Label Studio puts a request that meets a locked database off for a second, and for longer at each further
time. A single prediction locks it for some hundredths of a second. So however slowly predictions are written, as many
requests of the annotators are put off in the end, unless writes and requests keep out of each other's way.

An annotator's requests come together: Submit, of which a webhook tells us, and the next task; then there are none for
as long as it takes to label that one, which is about as long as it took before. In between is the time to write.
"""

from __future__ import annotations

import time
from collections import deque

from backend.labelstudio.pause import Pause
from backend.worker.job import Job

AFTER_SECONDS = 0.7
"""After an annotation, the annotator's page asks for the next task and what it needs of it."""

SHARE = 0.7
"""Of the usual time between two annotations: from then on the next one is to be expected."""

QUIET_SECONDS = 15.0
"""After so long without an annotation nobody labels."""

PATIENCE_SECONDS = 2.0
"""How long one write waits for a gap. Several annotators leave none: after QUIET_SECONDS without one, writes wait no
more, until there is one again."""

LOOK_SECONDS = 0.1
"""How often to look whether an annotation has arrived."""

BETWEEN_SECONDS = 2.0
"""The time between two annotations of somebody who is quick, until more is known."""


class Gaps:
    """Waits before each write until it is a good moment for those who label in the same Label Studio, also in other
    projects of it."""

    def __init__(self, job: Job, in_stock: int | None = None) -> None:
        """``in_stock``: how many tasks are ready to be labeled already. When annotators are about to use up these and
        what is written here, fewer than the shortlist, there is no waiting. None: nobody needs what is written."""
        self._job, self._in_stock = job, in_stock
        self._pause = Pause()
        self._between: deque[float] = deque(maxlen=9)
        self._last = 0.0
        self._gap_at = time.monotonic()
        self._stepped_aside = 0.0
        self._began_with = job.reread().project.annotation_events
        self._written = 0

    def wait(self) -> None:
        """Return when the next prediction may be written. Raises what the job's check does."""
        began, waited = time.monotonic(), False
        while (seconds := self._seconds()) > 0:
            soon = seconds <= AFTER_SECONDS  # worth waiting for, also when patience ends
            patience = PATIENCE_SECONDS + (AFTER_SECONDS if soon else 0.0)
            if time.monotonic() - began >= patience or began - self._gap_at >= QUIET_SECONDS:
                break
            waited = True
            self._job.check()
            time.sleep(min(seconds, LOOK_SECONDS))
        else:
            self._gap_at = time.monotonic()
        if not waited and (seconds > 0 or self._job.state.now() - self._last >= QUIET_SECONDS):
            self._pause()  # whoever else uses Label Studio has it for as long as we do
        self._written += 1

    def step_aside(self) -> None:
        """Before a write that people wait for: return when the requests that follow a Submit are over. Not longer than
        the patience of one write in all. Raises what the job's check does."""
        while self._stepped_aside < PATIENCE_SECONDS:
            latest = self._job.state.hints.annotated_at(self._job.project.url)
            if not 0 <= self._job.state.now() - latest < AFTER_SECONDS:
                return
            self._job.check()
            time.sleep(LOOK_SECONDS)
            self._stepped_aside += LOOK_SECONDS

    @property
    def in_stock(self) -> int:
        """How many tasks are ready by now."""
        used = self._job.reread().project.annotation_events - self._began_with
        return (self._in_stock or 0) + self._written - used

    def _seconds(self) -> float:
        """Until the next good moment, as far as that can be told."""
        latest = self._job.state.hints.annotated_at(self._job.project.url)
        if latest != self._last:
            if 0 < latest - self._last < QUIET_SECONDS:
                self._between.append(latest - self._last)
            self._last = latest
        if self._in_stock is not None and self.in_stock < self._job.settings.shortlist:
            return 0.0
        since = self._job.state.now() - self._last
        if not 0 <= since < QUIET_SECONDS:
            return 0.0
        if since < AFTER_SECONDS:
            return AFTER_SECONDS - since
        return 0.0 if since < SHARE * self._usual() else QUIET_SECONDS - since

    def _usual(self) -> float:
        """Seconds between two annotations: the lower quartile of those seen here."""
        return sorted(self._between)[len(self._between) // 4] if self._between else BETWEEN_SECONDS
