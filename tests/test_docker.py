"""The container files, as far as they can be checked without a Docker engine.

The compose file is read by a strict parser of the compose specification (unknown keys and ill-typed values are
errors), the Dockerfile by hadolint; the rest keeps both in step with the Makefile, the settings and each other.
"""

from __future__ import annotations

import os
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
from tests.docs.markdown import Page

ROOT = Path(__file__).resolve().parent.parent
DOCKER = ROOT / "docker"
DOCKERFILE = DOCKER / "Dockerfile"
COMPOSE = DOCKER / "docker-compose.yml"
CPU = DOCKER / "docker-compose.cpu.yml"
EXISTING = DOCKER / "docker-compose.existing.yml"
SCALE = DOCKER / "docker-compose.scale.yml"
EXAMPLES = {COMPOSE: DOCKER / ".env.example", EXISTING: DOCKER / ".env.existing.example"}
LAYERS = {COMPOSE: [COMPOSE, SCALE], EXISTING: [EXISTING]}
"""The files whose variables are in one example."""
MAY_BE_EMPTY = (
    *("BASIC_AUTH_USER", "BASIC_AUTH_PASS", "IMAGE_HOSTS", "SAMPLER"),
    *("LABEL_STUDIO_HOST", "CSRF_TRUSTED_ORIGINS", "EXTRAS", "RAY_ADDRESS"),
)
"""In the main file; the other one requires the password, because there the backend is reached from outside."""
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::([-?])([^}]*))?\}")


def variables(path: Path) -> dict[str, str]:
    """Name → value of a file for the environment."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def example(file: Path = COMPOSE) -> dict[str, str]:
    """The variables of the example that goes with a compose file."""
    return variables(EXAMPLES[file])


def variables_of(file: Path) -> list[tuple[str, str, str]]:
    """Name, kind and rest of each variable in a compose file and what may be put on top of it."""
    return [found for layer in LAYERS[file] for found in VARIABLE.findall(layer.read_text())]


def filled_in(file: Path = COMPOSE) -> dict[str, str]:
    """The example as an owner would fill it in."""
    values = {"SAMPLER": "", "EXTRAS": "", "RAY_ADDRESS": "", "LABEL_STUDIO_URL": "http://label-studio:8080"}
    return {name: value or values.get(name, "Filled1n") for name, value in example(file).items()}


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
    """Through the parser of the specification, references between services, volumes and networks included. It does not
    know Docker's word for the machine itself."""
    text = text.replace(":host-gateway", ":192.0.2.1")
    compose = PyOptions(apply_merge=True).from_yaml(text)
    compose.validate()
    result: dict[str, Any] = compose.to_dict()
    return result


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return parsed(interpolate(COMPOSE.read_text(), filled_in()))


@pytest.fixture(scope="module")
def existing() -> dict[str, Any]:
    return parsed(interpolate(EXISTING.read_text(), filled_in(EXISTING)))


@pytest.fixture(params=[COMPOSE, EXISTING], ids=lambda path: path.name)
def either(request: pytest.FixtureRequest) -> dict[str, Any]:
    return parsed(interpolate(request.param.read_text(), filled_in(request.param)))


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


def test_the_file_for_a_label_studio_that_runs_already_brings_none(existing: dict[str, Any]) -> None:
    assert set(existing["services"]) == {"backend", "worker"}


def test_every_service_has_a_limit_of_memory_and_is_asked_for_its_health(either: dict[str, Any]) -> None:
    for name, service in either["services"].items():
        assert re.fullmatch(r"\d+gb", str(service.get("mem_limit"))), name
        check = service["healthcheck"]
        assert check.get("test") and not check.get("disable"), name
        assert service["restart"] == "unless-stopped", name


def test_the_health_checks_run(either: dict[str, Any]) -> None:
    """What they run exists: the command line's part, and the line of Python, which fails while nobody listens."""
    for name in ("backend", "worker", "label-studio"):
        if name in either["services"]:
            kind, _, *arguments = either["services"][name]["healthcheck"]["test"]
            assert kind == "CMD"
            if arguments[0] == "-c":
                compile(arguments[1], name, "exec")
                assert re.search(r"http://127\.0\.0\.1:\d+/health", arguments[1])
            else:
                assert arguments[:2] == ["-m", "backend"]
                shown = subprocess.run(
                    [sys.executable, *arguments, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
                )
                assert shown.returncode == 0, shown.stderr


def test_nobody_signs_up_uninvited(compose: dict[str, Any]) -> None:
    assert environment(compose, "label-studio")["DISABLE_SIGNUP_WITHOUT_LINK"] == "true"


# -- the instructions, in the order in which they are written ----------------------------------------------------------


def make_env(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs make-env.sh on a copy of docker/."""
    copy = directory / "docker"
    if not copy.exists():
        shutil.copytree(DOCKER, copy, ignore=shutil.ignore_patterns(".env", ".env.existing"))
    given = {"PATH": os.environ["PATH"], **environment}
    command = ["sh", "docker/make-env.sh", *arguments]
    return subprocess.run(command, cwd=directory, env=given, capture_output=True, text=True, timeout=60)


def steps(text: str) -> list[str]:
    """The commands of a file's heading, in order."""
    heading = text.split("\nname:")[0]
    return re.findall(
        r"(sh docker/make-env\.sh(?: existing)?|docker compose (?:-f|--env-file) \S+(?: -f \S+)*)", heading
    )


def test_the_instructions_work_in_the_order_in_which_they_are_written(tmp_path: Path) -> None:
    """All that the compose file asks for is there after the first step, before there is a Label Studio."""
    first, *others = steps(COMPOSE.read_text())
    assert first == "sh docker/make-env.sh"
    assert others == [
        "docker compose -f docker/docker-compose.yml",
        "docker compose -f docker/docker-compose.yml -f docker/docker-compose.cpu.yml",
    ]
    done = make_env(tmp_path)
    assert done.returncode == 0, done.stderr
    made = tmp_path / "docker" / ".env"  # Docker Compose reads it from beside the first compose file
    assert made.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in made.parent.iterdir() if path.name.startswith(".env.")) == sorted(
        path.name for path in EXAMPLES.values()
    )
    values = variables(made)
    compose = parsed(interpolate(COMPOSE.read_text(), values))
    settings = Settings.from_env({name: str(value or "") for name, value in environment(compose, "backend").items()})
    assert settings.basic_auth_user and len(settings.basic_auth_pass) >= 32
    assert re.fullmatch(r"[0-9a-f]{40}", settings.label_studio_api_key), "the form of Label Studio's own tokens"
    assert environment(compose, "label-studio")["LABEL_STUDIO_USER_TOKEN"] == settings.label_studio_api_key
    assert re.fullmatch(r"[A-Za-z0-9]+", values["POSTGRES_PASSWORD"]), "it becomes part of an address"
    assert "@" in values["LABEL_STUDIO_USERNAME"] and len(values["LABEL_STUDIO_PASSWORD"]) >= 8


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md"])
def test_the_documentation_says_what_the_files_say(page: str) -> None:
    """In the same order, with files that exist."""
    blocks = [content for _, content in Page.read(ROOT / page).blocks if "docker" in content]
    written = [command for block in blocks for command in steps(block)]
    by_file = [steps(path.read_text()) for path in (*EXAMPLES, SCALE)]
    assert written[:2] == by_file[0][:2]
    if page != "README.md":
        assert written == [command for commands in by_file for command in commands]
    for command in written:
        assert all((ROOT / path).exists() for path in re.findall(r"docker/[\w.-]+(?:yml|sh)", command))


def test_a_second_run_changes_nothing_and_two_installations_share_no_secret(tmp_path: Path) -> None:
    assert make_env(tmp_path).returncode == 0
    before = variables(tmp_path / "docker" / ".env")
    again = make_env(tmp_path)
    assert again.returncode == 1 and "exists already" in again.stderr
    assert variables(tmp_path / "docker" / ".env") == before
    (tmp_path / "docker" / ".env").unlink()
    assert make_env(tmp_path).returncode == 0
    other = variables(tmp_path / "docker" / ".env")
    secret = {"POSTGRES_PASSWORD", "LABEL_STUDIO_PASSWORD", "LABEL_STUDIO_API_KEY", "BASIC_AUTH_PASS"}
    assert {name for name in before if before[name] != other[name]} == secret


def test_beside_a_label_studio_that_runs_already_its_token_is_asked_for(tmp_path: Path) -> None:
    text = EXISTING.read_text()
    assert steps(text) == [
        "sh docker/make-env.sh existing",
        "docker compose --env-file docker/.env.existing -f docker/docker-compose.existing.yml",
    ]
    assert text.index("Personal Access Token") < text.index("LABEL_STUDIO_API_KEY=<the token>")
    without = make_env(tmp_path, "existing", LABEL_STUDIO_URL="http://label-studio:8080")
    assert without.returncode != 0 and "personal access token" in without.stderr
    assert not (tmp_path / "docker" / ".env.existing").exists()
    token = "eyJh.eyJ0-_&\\/.c2ln"
    done = make_env(tmp_path, "existing", LABEL_STUDIO_URL="http://label-studio:8080", LABEL_STUDIO_API_KEY=token)
    assert done.returncode == 0, done.stderr
    compose = parsed(interpolate(text, variables(tmp_path / "docker" / ".env.existing")))
    settings = Settings.from_env({name: str(value or "") for name, value in environment(compose, "worker").items()})
    assert (settings.label_studio_api_key, settings.basic_auth_user) == (token, "label-studio")


def test_the_backend_asks_for_a_password_where_it_is_reached_from_outside() -> None:
    values = filled_in(EXISTING)
    for name in ("BASIC_AUTH_USER", "BASIC_AUTH_PASS"):
        with pytest.raises(KeyError, match=name):
            interpolate(EXISTING.read_text(), {**values, name: ""})
    (port,) = parsed(interpolate(COMPOSE.read_text(), filled_in()))["services"]["backend"]["ports"]
    assert "127.0.0.1" in str(port), "in the other file, beyond the compose network it is this machine's alone"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("healthcheck:", "healthchek:"),
        ("count: all", "count: several"),
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
    for file in (COMPOSE, EXISTING):
        filled.write_text("".join(f"{name}={value}\n" for name, value in filled_in(file).items()))
        files = [part for layer in (*LAYERS[file], CPU) for part in ("-f", str(layer))]
        run = subprocess.run(
            [docker, "compose", "--env-file", str(filled), *files, "config", "--quiet"], capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr


def test_the_base_image_is_fixed_by_its_digest() -> None:
    assert re.search(r"^ARG BASE=python:3\.\d+\.\d+-slim@sha256:[0-9a-f]{64}$", DOCKERFILE.read_text(), re.MULTILINE)


def test_label_studio_is_pinned_and_lets_the_backend_in(compose: dict[str, Any]) -> None:
    locked = re.search(
        r"^label-studio\[uwsgi\]==(.+)$", (ROOT / "requirements-label-studio.in").read_text(), re.MULTILINE
    )
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
def test_the_environment_is_settings_that_exist_and_are_valid(either: dict[str, Any], service: str) -> None:
    given = {name: str(value or "") for name, value in environment(either, service).items()}
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


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda path: path.name)
def test_the_example_names_every_variable_and_no_other(file: Path) -> None:
    used = {name: kind for name, kind, _ in variables_of(file)}
    assert set(example(file)) == set(used)
    required = {name for name, kind in used.items() if kind == "?"}
    assert required == {
        name for name, value in example(file).items() if not value and (name not in MAY_BE_EMPTY or name in required)
    }
    with pytest.raises(KeyError, match=r"docker/\.env"):
        interpolate(file.read_text(), example(file))


def test_defaults_of_the_example_are_those_of_the_file() -> None:
    for file in EXAMPLES:
        for name, kind, rest in variables_of(file):
            assert kind != "-" or example(file)[name] == rest or name in MAY_BE_EMPTY, name


def test_web_and_worker_run_apart_over_one_volume_and_the_worker_has_the_gpu(either: dict[str, Any]) -> None:
    backend, worker = either["services"]["backend"], either["services"]["worker"]
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
    assert set(override["services"]) == {"backend", "worker"}
    for service in override["services"].values():
        assert service["image"] != "label-studio-active-learning", "another image needs another name"
        assert service["build"] == {"args": {"TORCH": "cpu"}}
    assert any(line.startswith("TORCH=") for line in instructions("ARG"))
    worker = override["services"]["worker"]
    assert worker["environment"] == {"DEVICE": "cpu"}
    assert "devices" in worker["deploy"]["resources"]["reservations"]
    assert resets == [[]]
    parsed(CPU.read_text().replace("!reset", ""))


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
        """Less the development tools and what an extra adds, and whatever the Python is called."""
        commands = [part.strip() for line in lines for part in re.split(r"&&|;|\bthen\b|\belse\b", line)]
        commands = [line for line in commands if re.search(r"-m (pip install|uv pip)", line)]
        return [re.sub(r"\S*\bpython\b", "PYTHON", line).replace(" requirements-dev.txt", "") for line in commands]

    made = install_commands(printed.stdout.splitlines())
    assert len(made) == 2
    extra = " ${EXTRAS:+requirements-$EXTRAS.txt}"
    first, *others = install_commands(instructions("RUN"))
    assert all(line.endswith(extra) for line in others) and "EXTRAS=" in instructions("ARG")
    for_cpu, otherwise = (line.removesuffix(extra) for line in others)
    assert made == [first, otherwise]
    assert for_cpu == otherwise.replace("--quiet", "--quiet --torch-backend cpu").replace(
        " requirements.txt", " requirements-cpu.txt"
    )


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
