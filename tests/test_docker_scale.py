"""docker-compose.scale.yml on top of docker-compose.yml: Label Studio in several processes, as far as it can be checked
without a Docker engine. tests/integration/test_scaled_studio.py runs the same without Docker."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.rig import scaled_studio
from tests.test_docker import COMPOSE, CPU, DOCKER, environment, filled_in, interpolate, parsed

SCALE = DOCKER / "docker-compose.scale.yml"
ADDED = {"label-studio-jobs", "proxy", "redis"}
STUDIO = DOCKER / "label-studio"
RESET = object()


class Loader(yaml.SafeLoader):
    """Knows Docker Compose's ``!reset``."""


Loader.add_constructor("!reset", lambda loader, node: RESET)


def merged(under: Any, over: Any) -> Any:
    """Two files as Docker Compose puts them together: maps by key, lists one behind the other, commands and health
    checks replaced, and ``!reset`` takes out."""
    if not isinstance(under, Mapping) or not isinstance(over, Mapping):
        return over
    result = dict(under)
    for name, value in over.items():
        if value is RESET:
            result.pop(name, None)
        elif isinstance(value, list) and isinstance(result.get(name), list) and name not in ("command", "test"):
            result[name] = [*result[name], *value]
        else:
            result[name] = merged(result.get(name), value)
    return result


def layered(*files: Path) -> dict[str, Any]:
    """The files, the first one at the bottom, through the parser of the specification."""
    values = filled_in(COMPOSE)
    result: Any = {}
    for file in files:
        result = merged(result, yaml.load(interpolate(file.read_text(), values), Loader))
    return parsed(yaml.safe_dump({name: part for name, part in result.items() if not name.startswith("x-")}))


@pytest.fixture(scope="module")
def scaled() -> dict[str, Any]:
    return layered(COMPOSE, SCALE)


@pytest.mark.parametrize("files", [(COMPOSE, SCALE), (COMPOSE, SCALE, CPU)], ids=["gpu", "cpu"])
def test_the_files_together_follow_the_specification(files: tuple[Path, ...]) -> None:
    services = layered(*files)["services"]
    assert set(services) == {"label-studio", "backend", "worker", "database"} | ADDED
    for name, service in services.items():
        assert re.fullmatch(r"\d+gb", str(service.get("mem_limit"))), name
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"], name


def test_only_the_proxy_is_reachable_and_all_go_through_it(scaled: dict[str, Any]) -> None:
    services = scaled["services"]
    assert "ports" not in services["label-studio"] and "ports" not in services["redis"]
    (port,) = services["proxy"]["ports"]
    (before,) = layered(COMPOSE)["services"]["label-studio"]["ports"]
    assert str(port) == str(before), "with and without the file, Label Studio has the same address"
    for service in ("backend", "worker"):
        assert environment(scaled, service)["LABEL_STUDIO_URL"] == "http://proxy:8080"


def test_the_proxy_finds_label_studio_where_its_command_listens(scaled: dict[str, Any]) -> None:
    proxy = (STUDIO / "proxy.conf").read_text()
    assert scaled["services"]["label-studio"]["command"] == ["label-studio-uwsgi"]
    assert "http://label-studio:8000;" in proxy and "listen 8080;" in proxy
    assert "127.0.0.1:8000/health" in " ".join(scaled["services"]["label-studio"]["healthcheck"]["test"])
    assert "127.0.0.1:8080/health" in " ".join(scaled["services"]["proxy"]["healthcheck"]["test"])


def test_the_job_workers_are_the_same_label_studio(scaled: dict[str, Any]) -> None:
    """The same version, database, files, Redis, and settings, among them those that let webhooks out."""
    studio, jobs = scaled["services"]["label-studio"], scaled["services"]["label-studio-jobs"]
    assert jobs["image"] == studio["image"]
    assert sorted(map(str, jobs["volumes"])) == sorted(map(str, studio["volumes"]))
    of_studio, of_jobs = environment(scaled, "label-studio"), environment(scaled, "label-studio-jobs")
    assert of_jobs.items() <= of_studio.items()
    only_to_serve = re.compile(r"UWSGI_\w+|LABEL_STUDIO_(USER\w+|PASSWORD|ENABLE_LEGACY_API_TOKEN)|DISABLE_SIGNUP\w+")
    assert all(only_to_serve.fullmatch(name) for name in of_studio.keys() - of_jobs.keys())
    assert scaled["services"]["label-studio-jobs"]["deploy"]["replicas"] >= 2
    assert jobs["depends_on"]["label-studio"]["condition"] == "service_healthy", (
        "it makes the tables and the secret key"
    )


def test_the_settings_file_is_where_label_studio_looks_for_it(scaled: dict[str, Any]) -> None:
    given = environment(scaled, "label-studio")
    name = given["DJANGO_SETTINGS_MODULE"]
    assert any(f"{given['PYTHONPATH']}" in str(volume) for volume in scaled["services"]["label-studio"]["volumes"])
    text = (STUDIO / f"{name}.py").read_text()
    assert re.findall(r'os\.environ\["(\w+)"\]', text) == ["LABEL_STUDIO_REDIS_URL"]
    assert given["LABEL_STUDIO_REDIS_URL"].startswith("redis://redis:")


def test_what_runs_without_docker_in_the_tests_is_what_the_file_says(scaled: dict[str, Any]) -> None:
    given = environment(scaled, "label-studio")
    assert given["DJANGO_SETTINGS_MODULE"] == scaled_studio.WITH_REDIS
    assert str(given["UWSGI_THREADS"]) == str(scaled_studio.THREADS)
    command = scaled["services"]["label-studio-jobs"]["command"]
    assert command[-len(scaled_studio.JOBS) :] == scaled_studio.JOBS
    assert scaled["services"]["label-studio-jobs"]["healthcheck"]["test"][-1].endswith(scaled_studio.CHECK_JOBS.name)


def test_nginx_accepts_the_proxys_configuration(tmp_path: Path) -> None:
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if nginx is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    main = tmp_path / "nginx.conf"
    site = (STUDIO / "proxy.conf").read_text()
    main.write_text(f"pid {tmp_path}/nginx.pid;\nevents {{}}\nhttp {{\naccess_log off;\n{site}}}\n")
    run = subprocess.run([nginx, "-t", "-q", "-e", "stderr", "-c", str(main)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
