"""What the tests of the documentation need of Markdown: headings and their anchors, links, code, and tables."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])

_FENCE = re.compile(r" *(```+|~~~+) *(\w*)")
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Page:
    """A Markdown text taken apart: ``outside`` of its fenced code blocks, and the ``blocks`` as (language, content)."""

    outside: str
    blocks: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, text: str) -> Page:
        outside: list[str] = []
        blocks: list[tuple[str, str]] = []
        fence, language, content = "", "", [""]
        for line in text.splitlines():
            mark = _FENCE.match(line)
            if mark and not fence:
                fence, language, content = mark[1], mark[2], []
            elif mark and mark[1].startswith(fence):
                blocks.append((language, "\n".join(content)))
                fence = ""
            elif fence:
                content.append(line)
            else:
                outside.append(line)
        return cls("\n".join(outside), blocks)

    @classmethod
    def read(cls, path: Path) -> Page:
        return cls.of(path.read_text())

    @property
    def spans(self) -> list[str]:
        """The inline code; a span that goes over a line break is joined."""
        return [" ".join(content.split()) for content in _SPAN.findall(self.outside)]

    @property
    def prose(self) -> str:
        """The text without any code."""
        return _SPAN.sub("", self.outside)

    @property
    def code(self) -> list[str]:
        """Every line of code: of the blocks, without comments and with continued lines joined, and the inline code."""
        joined = re.sub(r"\\\n\s*", "", "\n".join(content for _, content in self.blocks))
        lines = [re.split(r"(?:^|\s)#\s", line)[0].strip() for line in joined.splitlines()]
        return [line for line in lines if line] + self.spans

    @property
    def anchors(self) -> set[str]:
        """The anchors that GitHub gives the headings; the second one of a name gets ``-1``."""
        seen: Counter[str] = Counter()
        found = set()
        for title in re.findall(r"^#{1,6} +(.+?) *#*$", self.outside, re.MULTILINE):
            slug = slug_of(title)
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
        return found

    @property
    def links(self) -> list[str]:
        """The targets of links and pictures."""
        return _LINK.findall(self.prose)


def slug_of(title: str) -> str:
    """GitHub's anchor of a heading: its text in lower case, without punctuation, with hyphens for spaces."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", title)
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def broken_links(path: Path, root: Path) -> list[str]:
    """The relative links of a page that lead nowhere: out of ``root``, to no file, or to no heading."""
    return [link for link in Page.read(path).links if not re.match(r"[a-z]+:", link) and not _leads(path, link, root)]


def _leads(path: Path, link: str, root: Path) -> bool:
    name, _, anchor = link.partition("#")
    target = (path.parent / unquote(name)).resolve() if name else path.resolve()
    if not target.is_relative_to(root.resolve()) or not target.exists():
        return False
    return not anchor or (target.suffix == ".md" and anchor in Page.read(target).anchors)


def between(text: str, name: str) -> str:
    """What stands between ``<!-- name -->`` and ``<!-- /name -->``."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    return text[text.index(start) + len(start) : text.index(end)]


def rows(table: str) -> list[list[str]]:
    """The cells of a table's rows, without its heading."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in lines[2:]]
