"""docs/papers.md: what each paper says, the command, ours, and where they differ."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.papers.command import STUDIES, saved_outcome, table
from benchmarks.papers.study import SCALES, Study


def papers_page() -> str:
    """The generated part of the page."""
    return "\n".join(line for study in STUDIES.values() for line in _section(study))


def _section(study: Study) -> Iterator[str]:
    yield from (f"## {study.name}", "", f"{study.paper}. {study.part}.", "", f"**The paper:** {study.claim}", "")
    for scale in SCALES:
        if found := saved_outcome(study.name, scale):
            command, outcome = found
            yield from (f"**Ours**, `{command}`:", "", *table(outcome), "", *outcome.notes)
            if outcome.picture:
                yield from ("", f"![{study.part}](../benchmarks/results/papers/{outcome.picture})")
            if outcome.facts:
                yield from ("", "; ".join(f"{name}: {value}" for name, value in outcome.facts.items()) + ".")
            yield ""
        else:
            yield from (f"Not run yet: `python -m benchmarks papers {study.name} --scale {scale}`.", "")
    if study.differs:
        yield from ("**Where they differ:**", "", *(f"- {words}" for words in study.differs), "")
