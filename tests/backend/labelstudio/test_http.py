"""How connections to Label Studio are made."""

from __future__ import annotations

import ssl

import pytest

from backend.labelstudio import tls
from backend.labelstudio.http import Connection


@pytest.mark.parametrize(("url", "times"), [("http://127.0.0.1:9", 0), ("https://127.0.0.1:9", 1)])
def test_who_is_trusted_is_read_only_for_encrypted_connections(
    monkeypatch: pytest.MonkeyPatch, url: str, times: int
) -> None:
    """It takes 50 ms, which a command line would spend for nothing."""
    read: list[ssl.SSLContext] = []
    context = tls.context
    monkeypatch.setattr(tls, "context", lambda: read.append(context()) or read[-1])
    connection = Connection(url, "0" * 40, 1.0)
    assert connection.authorization() == f"Token {'0' * 40}"
    assert len(read) == times
