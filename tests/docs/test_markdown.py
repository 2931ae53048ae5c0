"""The reader of Markdown that the other tests here rely on, on texts worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.markdown import Page, between, broken_links, rows, slug_of

PAGE = """\
# One page

See `make
demo` and [two](two.md).

```sh
make test    # a comment
serve --host 127.0.0.1 \\
    --port 9090
[no](link.md)
```

## One page

| a | b |
|---|---|
| `x` | 1 |
"""


@pytest.mark.parametrize(
    ("title", "anchor"),
    [
        ("Why there is no wheel", "why-there-is-no-wheel"),
        ("Use `uv pip sync`, not pip", "use-uv-pip-sync-not-pip"),
        ("[Linked](there.md) words", "linked-words"),
        ("A – B / C", "a--b--c"),
        ("`max-prob` and `vaal_width`", "max-prob-and-vaal_width"),
    ],
)
def test_anchors_are_those_that_github_makes(title: str, anchor: str) -> None:
    assert slug_of(title) == anchor


def test_a_page_is_taken_apart() -> None:
    page = Page.of(PAGE)
    assert page.code == ["make test", "serve --host 127.0.0.1 --port 9090", "[no](link.md)", "make demo", "x"]
    assert page.links == ["two.md"]
    assert page.anchors == {"one-page", "one-page-1"}
    assert [language for language, _ in page.blocks] == ["sh"]
    assert "make" not in page.prose


def test_rows_of_a_table_between_markers() -> None:
    assert rows(between(f"before\n<!-- t -->\n{PAGE}<!-- /t -->\nafter", "t")) == [["`x`", "1"]]


@pytest.mark.parametrize(
    ("link", "broken"),
    [
        ("two.md", False),
        ("two.md#there", False),
        ("#here", False),
        ("https://example.org/nowhere", False),
        ("two.md#here", True),
        ("#there", True),
        ("three.md", True),
        ("picture.png#there", True),
        ("../outside.md", True),
    ],
)
def test_links_that_lead_nowhere_are_found(tmp_path: Path, link: str, broken: bool) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside.md").write_text("# There\n")
    (root / "two.md").write_text("# There\n")
    (root / "picture.png").touch()
    (root / "one.md").write_text(f"# Here\n\nA [link with `code`]({link}) in it.\n")
    assert broken_links(root / "one.md", root) == ([link] if broken else [])
