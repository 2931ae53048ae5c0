"""The container files, as far as they can be checked without a Docker engine.

The compose file is read by a strict parser of the compose specification (unknown keys and ill-typed values are
errors), the Dockerfile by hadolint; the rest keeps both in step with the Makefile, the settings and each other.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyOptions

from backend.settings.core import Settings

ROOT = Path(__file__).resolve().parent.parent
DOCKER = ROOT / "docker"
DOCKERFILE = DOCKER / "Dockerfile"
COMPOSE = DOCKER / "docker-compose.yml"
CPU = DOCKER / "docker-compose.cpu.yml"
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::([-?])([^}]*))?\}")


def example() -> dict[str, str]:
    """Name → value of .env.example."""
    lines = [line for line in (DOCKER / ".env.example").read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def filled_in() -> dict[str, str]:
    """.env.example as an owner would fill it in."""
    return {name: value or ("" if name == "SAMPLER" else "Filled1n") for name, value in example().items()}


def interpolate(text: str, values: Mapping[str, str]) -> str:
    """Puts variables in as Docker Compose does: ``${A}``, ``${A:-default}``, ``${A:?error}``."""

    def replace(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if values.get(name):
            return values[name]
        if kind == "?":
            raise KeyError(f"{name}: {rest}")
        return rest or ""

    return VARIABLE.sub(replace, text).replace("$$", "$")


def parsed(text: str) -> dict[str, Any]:
    """Through the parser of the specification, references between services, volumes and networks included."""
    compose = PyOptions(apply_merge=True).from_yaml(text)
    compose.validate()
    result: dict[str, Any] = compose.to_dict()
    return result


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return parsed(interpolate(COMPOSE.read_text(), filled_in()))


def environment(compose: dict[str, Any], service: str) -> dict[str, Any]:
    result: dict[str, Any] = compose["services"][service]["environment"]
    return result


def instructions(keyword: str) -> list[str]:
    """The Dockerfile's instructions of one kind, continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text())
    return [line.removeprefix(f"{keyword} ") for line in joined.splitlines() if line.startswith(f"{keyword} ")]


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    run = subprocess.run([str(hadolint), str(DOCKERFILE)], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (0, "")


def test_the_compose_file_follows_the_specification(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"label-studio", "backend", "worker", "database"}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("healthcheck:", "healthchek:"),
        ("count: 1", "count: several"),
        ("condition: service_healthy", "condition: service_happy"),
        ("backend-data:/data", "no-such-volume:/data"),
    ],
)
def test_the_check_would_notice(right: str, wrong: str) -> None:
    text = interpolate(COMPOSE.read_text(), filled_in())
    assert right in text
    with pytest.raises(ValueError):
        parsed(text.replace(right, wrong, 1))


def test_docker_compose_itself_accepts_the_files(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode != 0:
        pytest.skip("docker compose is not installed")
    filled = tmp_path / "filled.env"
    filled.write_text("".join(f"{name}={value}\n" for name, value in filled_in().items()))
    files = ["-f", str(COMPOSE), "-f", str(CPU)]
    run = subprocess.run(
        [docker, "compose", "--env-file", str(filled), *files, "config", "--quiet"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


def test_label_studio_is_pinned_and_lets_the_backend_in(compose: dict[str, Any]) -> None:
    locked = re.search(r"^label-studio==(.+)$", (ROOT / "requirements-label-studio.in").read_text(), re.MULTILINE)
    assert locked is not None
    assert compose["services"]["label-studio"]["image"] == f"heartexlabs/label-studio:{locked[1]}"
    assert environment(compose, "label-studio")["ML_BLOCK_LOCAL_IP"] == "false"
    assert environment(compose, "label-studio")["SSRF_PROTECTION_ENABLED"] == "false"


def test_both_use_their_own_database_on_one_server(compose: dict[str, Any]) -> None:
    database = environment(compose, "database")
    studio = environment(compose, "label-studio")
    assert studio["POSTGRE_NAME"] == database["POSTGRES_DB"]
    assert studio["POSTGRE_USER"] == database["POSTGRES_USER"]
    assert studio["POSTGRE_PASSWORD"] == database["POSTGRES_PASSWORD"]
    made = re.search(r"CREATE DATABASE (\w+);", (DOCKER / "databases.sql").read_text())
    assert made is not None and made[1] != database["POSTGRES_DB"]
    login = f"{database['POSTGRES_USER']}:{database['POSTGRES_PASSWORD']}"
    for service in ("backend", "worker"):
        assert environment(compose, service)["DATABASE_URL"] == f"postgresql://{login}@database:5432/{made[1]}"


def test_the_backend_is_let_into_label_studio(compose: dict[str, Any]) -> None:
    studio = environment(compose, "label-studio")
    for service in ("backend", "worker"):
        assert environment(compose, service)["LABEL_STUDIO_API_KEY"] == studio["LABEL_STUDIO_USER_TOKEN"]


@pytest.mark.parametrize("service", ["backend", "worker"])
def test_the_environment_is_settings_that_exist_and_are_valid(compose: dict[str, Any], service: str) -> None:
    given = {name: str(value or "") for name, value in environment(compose, service).items()}
    assert set(given) <= {field.name.upper() for field in fields(Settings)}
    settings = Settings.from_env(given)
    assert settings.model_dir == "/data"
    assert settings.label_studio_url == "http://label-studio:8080"


def test_an_empty_example_leaves_the_defaults() -> None:
    """What the example leaves empty, and must not be set, is as if it had not been there."""
    required = {name for name, kind, _ in VARIABLE.findall(COMPOSE.read_text()) if kind == "?"}
    values = dict.fromkeys(required, "Filled1n")
    compose = parsed(interpolate(COMPOSE.read_text(), values))
    defaults = Settings()
    settings = Settings.from_env({name: str(value or "") for name, value in environment(compose, "worker").items()})
    for name in ("sampler", "budget", "device", "log_level", "basic_auth_user", "basic_auth_pass"):
        assert getattr(settings, name) == getattr(defaults, name), name
    assert "sampler" not in settings.given, "each kind of task has its own default"


def test_the_example_names_every_variable_and_no_other() -> None:
    used = {name: kind for name, kind, _ in VARIABLE.findall(COMPOSE.read_text())}
    assert set(example()) == set(used)
    assert {name for name, kind in used.items() if kind == "?"} == {
        name for name, value in example().items() if not value and not name.startswith(("BASIC_AUTH", "SAMPLER"))
    }
    with pytest.raises(KeyError, match=r"docker/\.env"):
        interpolate(COMPOSE.read_text(), example())


def test_web_and_worker_run_apart_over_one_volume_and_the_worker_has_the_gpu(compose: dict[str, Any]) -> None:
    backend, worker = compose["services"]["backend"], compose["services"]["worker"]
    assert backend["image"] == worker["image"]
    assert [str(volume) for volume in backend["volumes"]] == [str(volume) for volume in worker["volumes"]]
    assert "--no-worker" in backend["command"]
    assert worker["command"] == ["worker"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert device["driver"] == "nvidia"
    assert "deploy" not in backend


def test_the_cpu_override_takes_the_gpu_back() -> None:
    class Reset(yaml.SafeLoader):
        """Knows Docker Compose's ``!reset``."""

    resets: list[Any] = []
    Reset.add_constructor("!reset", lambda loader, node: resets.append(loader.construct_sequence(node)))
    override = yaml.load(CPU.read_text(), Reset)
    (name,) = override["services"]
    assert override["services"][name]["environment"] == {"DEVICE": "cpu"}
    assert "devices" in override["services"][name]["deploy"]["resources"]["reservations"]
    assert resets == [[]]
    parsed(CPU.read_text().replace("!reset", "").replace("environment:", "image: any\n    environment:"))


@pytest.mark.parametrize("arguments", [["serve", "--no-worker", "--host", "0.0.0.0", "--port", "9090"], ["worker"]])
def test_the_commands_are_the_command_lines(compose: dict[str, Any], arguments: list[str]) -> None:
    service = "worker" if arguments == ["worker"] else "backend"
    assert compose["services"][service]["command"] == arguments
    options = [argument for argument in arguments if argument.startswith("--")]
    shown = subprocess.run(
        [sys.executable, "-m", "backend", arguments[0], "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert shown.returncode == 0, shown.stderr
    assert [option for option in options if option not in shown.stdout] == []


def test_makefile_and_dockerfile_install_alike(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for source in ROOT.glob("requirements*.txt"):
        shutil.copy(source, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    printed = subprocess.run(
        ["make", "--dry-run", ".venv/.installed"], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    def install_commands(lines: list[str]) -> list[str]:
        """Less the development tools, and whatever the Python is called."""
        commands = [part.strip() for line in lines for part in line.split("&&")]
        commands = [line for line in commands if re.search(r"-m (pip install|uv pip)", line)]
        return [re.sub(r"\S*\bpython\b", "PYTHON", line).replace(" requirements-dev.txt", "") for line in commands]

    made = install_commands(printed.stdout.splitlines())
    assert len(made) == 2
    assert made == install_commands(instructions("RUN"))


def test_the_image_has_all_that_the_backend_imports(tmp_path: Path) -> None:
    """The files that the Dockerfile copies (and .dockerignore lets through) are enough to start."""
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for instruction in instructions("COPY"):
        *sources, target = instruction.split()
        for source in sources:
            assert source in let_through
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, tmp_path / target)
    modules = "backend.__main__, backend.web.app, backend.worker.worker, backend.cycle"
    program = f"import {modules}; print(backend.cycle.__file__)"
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip().startswith(str(tmp_path))


def test_the_image_runs_as_nobody_special_and_is_asked_for_its_health() -> None:
    (user,) = instructions("USER")
    assert user.isdigit() and int(user) > 0
    assert f"--uid {user} " in " ".join(instructions("RUN"))
    (health,) = instructions("HEALTHCHECK")
    assert ":9090/health" in health
    assert instructions("EXPOSE") == ["9090"]
    assert "--preload" not in " ".join(instructions("CMD") + instructions("ENTRYPOINT"))
