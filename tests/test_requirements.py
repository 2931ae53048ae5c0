"""What is installed is what the lock files say, and what they say keeps the promises made in requirements.in."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements.txt", "requirements-dev.txt")


def requirements(name: str) -> list[Requirement]:
    """The requirement lines of a file, comments, hashes and options left out."""
    lines = (line.split(" #")[0].strip().removesuffix(" \\") for line in (ROOT / name).read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def locked(name: str) -> dict[str, str]:
    """Package → version, of those lines of a lock file that hold for this Python."""
    here = [line for line in requirements(name) if line.marker is None or line.marker.evaluate()]
    return {canonicalize_name(line.name): str(line.specifier).removeprefix("==") for line in here}


@pytest.mark.parametrize(("package", "lowest"), [("flask", "3.1"), ("werkzeug", "3.1"), ("jinja2", "3.1.6")])
def test_the_web_stack_is_a_current_one(package: str, lowest: str) -> None:
    assert Version(locked("requirements.txt")[package]) >= Version(lowest)
    assert Version(importlib.metadata.version(package)) >= Version(lowest)


@pytest.mark.parametrize("lock", LOCKS)
def test_the_environment_is_the_locked_one(lock: str) -> None:
    wanted = locked(lock)
    installed = {name: importlib.metadata.version(name) for name in wanted}
    assert installed == wanted


ALL_LOCKS = (*LOCKS, *(f"requirements-{name}.txt" for name in ("label-studio", "uv", "cpu", "ray")))


@pytest.mark.parametrize("lock", ALL_LOCKS)
def test_every_package_is_fixed_by_its_hashes(lock: str) -> None:
    """In the lock for the CPU all but torch and torchvision, whose builds for the CPU are other files."""
    text = re.sub(r" \\\n +", " ", (ROOT / lock).read_text())
    packages = [line for line in text.splitlines() if re.match(r"[a-z0-9]", line)]
    assert len(packages) == len(requirements(lock))
    bare = {line.split("==")[0] for line in packages if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", line)}
    assert bare == ({"torch", "torchvision"} if lock == "requirements-cpu.txt" else set())


def test_the_lock_for_the_cpu_is_the_other_one_without_cuda() -> None:
    script = [sys.executable, str(ROOT / ".ci" / "cpu_lock.py")]
    made = subprocess.run(script, input=(ROOT / "requirements.txt").read_text(), capture_output=True, text=True)
    assert made.stdout == (ROOT / "requirements-cpu.txt").read_text(), "run `make lock`"
    full, cpu = locked("requirements.txt"), locked("requirements-cpu.txt")
    assert cpu.items() <= full.items()
    left_out = full.keys() - cpu.keys()
    assert len(left_out) > 10 and all(re.match(r"nvidia-|cuda-|triton$", name) for name in left_out)
    needed_by = {
        name
        for name in cpu
        for line in importlib.metadata.requires(name) or []
        if canonicalize_name(Requirement(line).name) in left_out
        and (Requirement(line).marker is None or Requirement(line).marker.evaluate({"extra": ""}))  # type: ignore[union-attr]
    }
    assert needed_by == {"torch"}, "torch's build for the CPU does not need them"


@pytest.mark.parametrize("lock", ALL_LOCKS)
def test_locks_name_one_exact_version_and_no_host(lock: str) -> None:
    for requirement in requirements(lock):
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
        assert requirement.url is None
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert "index-url" not in text


@pytest.mark.parametrize(
    ("source", "lock"),
    [
        ("requirements.in", "requirements.txt"),
        ("requirements.in", "requirements-cpu.txt"),
        ("requirements-uv.in", "requirements-uv.txt"),
        ("requirements-ray.in", "requirements-ray.txt"),
        ("requirements-dev.in", "requirements-dev.txt"),
        ("requirements-label-studio.in", "requirements-label-studio.txt"),
    ],
)
def test_locks_satisfy_their_source(source: str, lock: str) -> None:
    versions = locked(lock)
    for requirement in requirements(source):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def test_lock_files_agree_with_each_other() -> None:
    runtime = locked("requirements.txt")
    for other in (locked("requirements-dev.txt"), locked("requirements-ray.txt")):
        shared = runtime.keys() & other.keys()
        assert {name: runtime[name] for name in shared} == {name: other[name] for name in shared}


def test_the_lock_needs_nothing_that_it_leaves_out() -> None:
    """Installed without dependency resolution, so nobody else would notice a missing one.

    ``attr`` is left out on purpose (requirements-overrides.txt): it is unrelated and takes the name of attrs' module.
    """
    versions = locked("requirements.txt")
    missing = set()
    for name in versions:
        for line in importlib.metadata.requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                missing |= {canonicalize_name(needed.name)} - versions.keys()
    assert missing == {"attr"}


def test_label_studio_ml_imports_on_it() -> None:
    program = "import label_studio_ml.model, label_studio_ml.api, attr; print(attr.__version__)"
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == locked("requirements.txt")["attrs"]
