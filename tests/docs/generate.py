"""The generated parts of the documentation: ``python -m tests.docs.generate`` brings them up to date.

Each stands between ``<!-- name -->`` and ``<!-- /name -->`` in a page of docs/; a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields

from backend.settings.table import settings_table
from benchmarks import scale
from benchmarks.curves import suite
from benchmarks.papers.pages import papers_page
from samplers import SAMPLERS
from samplers.base import TASKS
from samplers.options import about
from tests.docs.markdown import ROOT, between


def table(heading: Sequence[str], lines: Iterator[Sequence[str]]) -> str:
    texts = [" | ".join(line) for line in (heading, *lines)]
    texts.insert(1, "|".join(["---"] * len(heading)))
    return "".join(f"|{text}|\n" if text.startswith("---") else f"| {text} |\n" for text in texts)


def samplers_table() -> str:
    heading = ("sampler", "labels first", "source", "trains, besides the task network", "tasks")
    return table(
        heading,
        (
            (f"`{name}`", sampler.summary, sampler.source, sampler.trains, served(sampler.tasks))
            for name, sampler in SAMPLERS.items()
        ),
    )


def served(tasks: Sequence[str]) -> str:
    return "all" if set(tasks) == set(TASKS) else ", ".join(tasks)


def options_table() -> str:
    of = {name: [item.name for item in fields(sampler.Options) if about(item)] for name, sampler in SAMPLERS.items()}
    return table(
        ("sampler", "options"),
        ((f"`{name}`", ", ".join(f"`{option}`" for option in options)) for name, options in of.items() if options),
    )


def presets_table() -> str:
    """A row for each setting, a column for each preset."""
    presets = {
        preset: {"sampler": name} | dict(values)
        for name, sampler in SAMPLERS.items()
        for preset, values in sampler.presets.items()
    }
    keys = dict.fromkeys(key for values in presets.values() for key in values)
    return table(
        ("setting", *(f"`{preset}`" for preset in presets)),
        ((f"`{key}`", *(shown(values.get(key, "")) for values in presets.values())) for key in keys),
    )


def shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def features() -> str:
    return "\n".join(suite.tables(suite.stored(), "../benchmarks/results/features/")) + "\n"


def papers() -> str:
    return papers_page() + "\n"


def scale_plan() -> str:
    return scale.tables(scale.IMAGES, scale.ANNOTATORS, scale.SECONDS, scale.LABELS, scale.PRICE) + "\n"


def neighbors() -> str:
    """The tables of the page, without its head."""
    page = (ROOT / "benchmarks" / "results" / "neighbors.md").read_text()
    return page[page.index("## ") :].replace("## ", "#### ")


def candidates() -> str:
    """What candidates cost, of the page of their curves."""
    page = (ROOT / "benchmarks" / "results" / "candidates" / "curves.md").read_text()
    part = page[page.index("## What candidates cost") :].split("\n\n")[1]
    return part + "\n"


PARTS: dict[tuple[str, str], Callable[[], str]] = {
    ("settings.md", "settings"): settings_table,
    ("samplers.md", "samplers"): samplers_table,
    ("samplers.md", "options"): options_table,
    ("samplers.md", "presets"): presets_table,
    ("papers.md", "papers"): papers,
    ("results.md", "features"): features,
    ("scale.md", "plan"): scale_plan,
    ("scale.md", "neighbors"): neighbors,
    ("samplers.md", "candidates"): candidates,
}
"""(page of docs/, name of the part) → what belongs there."""


def main() -> None:
    for (page, name), generated in PARTS.items():
        path = ROOT / "docs" / page
        text = path.read_text()
        opening, closing = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        path.write_text(text.replace(opening + between(text, name) + closing, opening + generated() + closing))


if __name__ == "__main__":
    main()
