"""How an audit is read: its report is pip-audit 2.10's JSON format, its exit code says found vulnerabilities only."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "audit.py"


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(*found: tuple[str, list[str]]) -> str:
    vulnerabilities = [{"id": name, "fix_versions": fixed, "aliases": [], "description": ""} for name, fixed in found]
    package = {"name": "jinja2", "version": "3.0.3", "vulns": vulnerabilities}
    skipped = {"name": "local", "skip_reason": "not on the index"}
    return json.dumps({"dependencies": [package, skipped], "fixes": []})


def test_each_vulnerability_gets_a_line(audit: ModuleType) -> None:
    assert audit.findings(report(("PYSEC-1", ["3.1.6"]), ("PYSEC-2", []))) == [
        "jinja2 3.0.3: PYSEC-1, fixed in 3.1.6",
        "jinja2 3.0.3: PYSEC-2, fixed in no version",
    ]
    assert audit.findings(report()) == []


@pytest.mark.parametrize("text", ["", "connection refused", "[]", "{}"])
def test_what_is_no_report_is_not_a_clean_bill(audit: ModuleType, text: str) -> None:
    assert audit.findings(text) is None


def test_an_unreachable_service_is_said_and_is_no_failure(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("UV_CACHE_DIR", "/nonexistent/no-auditor-here")
    monkeypatch.setenv("UV_OFFLINE", "1")
    assert audit.main([str(SCRIPT.parents[1] / "requirements-uv.txt")]) == 0
    assert "not audited" in capsys.readouterr().err
