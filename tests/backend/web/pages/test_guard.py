"""Who sees the pages, and what cannot be guessed."""

from __future__ import annotations

from typing import Any

import pytest

from backend.exposure import names_this_machine
from backend.web.accept import asks_for_page
from backend.web.pages.guard import FORWARDED, Seal, came_from_elsewhere, is_this_machine

HERE = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:9090"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"HTTP_HOST": "localhost"},
        {"REMOTE_ADDR": "::1", "HTTP_HOST": "[::1]:9090"},
        {"REMOTE_ADDR": "::ffff:127.0.0.1"},
    ],
)
def test_a_request_of_this_machine(changes: dict[str, str]) -> None:
    assert is_this_machine(HERE | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"REMOTE_ADDR": "10.0.0.7"},
        {"REMOTE_ADDR": ""},
        {"HTTP_HOST": "rebound.example"},  # a site whose name was made to lead here
        {"HTTP_HOST": "127.0.0.1.rebound.example"},
        {"HTTP_HOST": ""},
        {"HTTP_X_FORWARDED_FOR": "203.0.113.9"},
        {"HTTP_FORWARDED": "for=203.0.113.9"},
        {"HTTP_VIA": "1.1 proxy"},
        {FORWARDED: True},
    ],
)
def test_a_request_of_another_machine(changes: dict[str, Any]) -> None:
    assert not is_this_machine(HERE | changes)


def test_no_name_is_looked_up_to_tell_whether_it_is_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: pytest.fail("looked up"))
    assert not names_this_machine("rebound.example:9090") and names_this_machine("app.localhost:9090")


def test_a_seal_holds_for_its_parts_alone() -> None:
    seal, other = Seal(b"k" * 32), Seal(b"o" * 32)
    made = seal.of("image", "1", "23")
    assert seal.holds(made, "image", "1", "23")
    assert not seal.holds(made, "image", "12", "3"), "where a part ends is sealed, too"
    assert not seal.holds(made, "cycle", "1", "23")
    assert not seal.holds("", "image", "1", "23") and not seal.holds("ü" * 32, "image", "1", "23")
    assert other.of("image", "1", "23") != made


@pytest.mark.parametrize(
    ("site", "elsewhere"),
    [(None, False), ("same-origin", False), ("none", False), ("cross-site", True), ("same-site", True)],
)
def test_a_form_of_another_site_is_recognized(site: str | None, elsewhere: bool) -> None:
    assert came_from_elsewhere({} if site is None else {"Sec-Fetch-Site": site}) is elsewhere


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("TEXT/HTML; q=0.9", True),
        ("*/*", False),
        ("", False),
        ("application/json, text/plain", False),
        ("text/html-sandboxed", False),
    ],
)
def test_a_browser_is_known_by_what_it_accepts(accept: str, page: bool) -> None:
    assert asks_for_page(accept) is page
