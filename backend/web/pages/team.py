"""What the page of a project shows of its annotators: see :mod:`backend.reporting.agreement`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from backend.reporting.agreement import Agreement, agreement_of
from backend.reporting.relabeling import Relabeling, relabeling_of
from backend.state import Project, State, Version
from backend.web.pages.guard import Seal


@dataclass(frozen=True)
class TeamCard:
    """``tokens``: task → what its form to ask again proves that it comes from us with; ``withdrawals``: the same of the
    forms that take that back, of the tasks that wait. Both empty where nothing is changed from here."""

    agreement: Agreement | None
    relabeling: Relabeling | None
    tokens: Mapping[int, str]
    withdrawals: Mapping[int, str]

    @property
    def tasks(self) -> list[int]:
        """Those whose images are shown."""
        return _shown(self.agreement, self.relabeling)

    def asked(self, task: int) -> bool:
        """Whether it waits for one more annotator."""
        return self.relabeling is not None and task in self.relabeling.asked


def team_card(state: State, project: Project, version: Version | None, seal: Seal | None) -> TeamCard:
    """``seal``: None where nothing may be changed."""
    agreement, relabeling = agreement_of(state, project), relabeling_of(state, project, version)
    if seal is None:
        return TeamCard(agreement, relabeling, {}, {})
    waiting = relabeling.asked if relabeling else []
    return TeamCard(
        agreement,
        relabeling,
        {task: seal.of(*again(project, task)) for task in _shown(agreement, relabeling)},
        {task: seal.of(*withdrawal(project, task)) for task in waiting},
    )


def again(project: Project, task: int) -> tuple[str, ...]:
    """What a form is for that asks a task again."""
    return "again", project.key, project.studio, str(task)


def withdrawal(project: Project, task: int) -> tuple[str, ...]:
    """What a form is for that asks a task again no more."""
    return "not again", project.key, project.studio, str(task)


def _shown(agreement: Agreement | None, relabeling: Relabeling | None) -> list[int]:
    disagreed = [one.task for one in agreement.disagreed] if agreement else []
    proposed = [one.task for one in relabeling.proposed] if relabeling else []
    return list(dict.fromkeys([*disagreed, *proposed]))
