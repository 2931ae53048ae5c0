"""Runs pip-audit over lock files: ``python .ci/audit.py requirements.txt …``.

Exit code 1 means that a vulnerability was found, and nothing else does: where the advisory service or the auditor
itself cannot be had, that is said in words and the exit code is 0. The auditor runs in an environment of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

AUDITOR = "pip-audit==2.10.1"


def findings(report: str) -> list[str] | None:
    """One line for each vulnerability in pip-audit's JSON report; None when ``report`` is not one."""
    try:
        packages = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return None
    return [
        f"{package['name']} {package['version']}: {found['id']}, "
        f"fixed in {', '.join(found['fix_versions']) or 'no version'}"
        for package in packages
        for found in package.get("vulns", [])
    ]


def audit(lock: Path) -> list[str] | None:
    """The findings for one lock file, or None (and a word on stderr) when it could not be audited."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        auditor = [sys.executable, "-m", "uv", "tool", "run", "--quiet", "--from", AUDITOR, "pip-audit"]
        options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
        run = subprocess.run(
            [*auditor, *options, "--requirement", str(lock), "--output", str(report)],
            capture_output=True,
            text=True,
        )
        found = findings(report.read_text()) if report.exists() else None
    if found is None:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"{lock}: not audited: the advisory service could not be reached ({last})", file=sys.stderr)
    return found


def main(locks: list[str]) -> int:
    results = [(lock, audit(Path(lock))) for lock in locks]
    for lock, found in results:
        if found is not None:
            print(f"{lock}: {len(found)} known vulnerabilities")
            print("".join(f"  {line}\n" for line in found), end="")
    return int(any(found for _, found in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
