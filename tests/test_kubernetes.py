"""The Kubernetes manifests, as far as they can be checked without a cluster.

Each object is validated by the schemas of Kubernetes' own API, strictly: unknown fields are errors. Nothing here runs
kustomize, so the rest follows what it would put together: which names refer to which objects, and the same settings,
commands and checks as in the compose files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from backend.settings.core import Settings
from tests.test_docker import EXISTING, ROOT, filled_in, interpolate, parsed, variables

KUBERNETES = ROOT / "docker" / "kubernetes"
BASE, GPU = KUBERNETES / "base", KUBERNETES / "gpu"
OWN = {"HOME"}
"""In the ConfigMap, but no setting of the backend."""


def documents(path: Path) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all(path.read_text())


def kustomization(folder: Path) -> dict[str, Any]:
    (found,) = documents(folder / "kustomization.yaml")
    return found


OBJECTS = [one for name in kustomization(BASE)["resources"] for one in documents(BASE / name)]


def named(kind: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in OBJECTS if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def pod(part: str) -> dict[str, Any]:
    spec: dict[str, Any] = named("Deployment", f"active-learning-{part}")["spec"]["template"]["spec"]
    return spec


def container(part: str) -> dict[str, Any]:
    (found,) = pod(part)["containers"]
    return dict(found)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    services: dict[str, Any] = parsed(interpolate(EXISTING.read_text(), filled_in(EXISTING)))["services"]
    return services


@pytest.mark.parametrize("version", ["1.29", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("one", OBJECTS, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_every_object_is_one_of_kubernetes(one: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(one, version, strict=True)
    if one["kind"] == "Deployment":
        broken = one | {"spec": one["spec"] | {"replica": 1}}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(broken, version, strict=True)


def test_every_file_is_a_resource() -> None:
    files = {path.name for path in BASE.glob("*.yaml")} - {"kustomization.yaml"}
    assert files == set(kustomization(BASE)["resources"])
    assert kustomization(GPU)["resources"] == ["../base"]


@pytest.mark.parametrize("part", ["web", "worker"])
def test_names_refer_to_what_is_there(part: str) -> None:
    secrets = {one["name"] for one in kustomization(BASE)["secretGenerator"]}
    assert kustomization(BASE)["secretGenerator"][0]["envs"] == ["secret.env"]
    maps, keys = container(part)["envFrom"]
    assert named("ConfigMap", maps["configMapRef"]["name"]) and keys["secretRef"]["name"] in secrets
    mounted = {one["name"]: one["mountPath"] for one in container(part)["volumeMounts"]}
    claims = {one["name"]: one.get("persistentVolumeClaim") for one in pod(part)["volumes"]}
    assert mounted == {"data": named("ConfigMap", "active-learning")["data"]["MODEL_DIR"], "tmp": "/tmp"}
    assert claims == {"data": {"claimName": "active-learning-data"}, "tmp": None}
    assert named("PersistentVolumeClaim", "active-learning-data")["spec"]["accessModes"] == ["ReadWriteMany"]
    labels = named("Deployment", f"active-learning-{part}")["spec"]["template"]["metadata"]["labels"]
    assert named("Deployment", f"active-learning-{part}")["spec"]["selector"]["matchLabels"] == labels
    images = {one["name"] for one in kustomization(BASE)["images"]}
    assert container(part)["image"] in images


def test_label_studio_reaches_the_web_process_alone() -> None:
    service = named("Service", "active-learning")
    web, worker = (
        named("Deployment", f"active-learning-{part}")["spec"]["template"]["metadata"]["labels"]
        for part in ("web", "worker")
    )
    assert service["spec"]["selector"] == web != worker
    (port,) = service["spec"]["ports"]
    (open_port,) = container("web")["ports"]
    assert (port["port"], port["targetPort"]) == (open_port["containerPort"], open_port["name"]) == (9090, "http")
    assert "ports" not in container("worker")


def test_values_are_settings_and_secrets_are_none_of_the_config_map() -> None:
    config = named("ConfigMap", "active-learning")["data"]
    secret = variables(BASE / "secret.env.example")
    settings = Settings.from_env({name: value for name, value in config.items() if name not in OWN})
    assert (str(settings.model_dir), settings.budget) == ("/data", 50)
    assert set(secret) == {"LABEL_STUDIO_API_KEY", "BASIC_AUTH_USER", "BASIC_AUTH_PASS", "DATABASE_URL"}
    assert not set(secret.values()) - {""} and not set(secret) & set(config)
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "docker/kubernetes/base/secret.env" in ignored


def test_commands_and_checks_are_those_of_the_compose_files(compose: dict[str, Any]) -> None:
    for part, service in (("web", "backend"), ("worker", "worker")):
        assert container(part)["args"] == compose[service]["command"]
    check = compose["worker"]["healthcheck"]["test"][1:]
    for probe in ("startupProbe", "livenessProbe"):
        assert container("worker")[probe]["exec"]["command"] == check
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container("web")[probe]["httpGet"] == {"path": "/health", "port": "http"}
    assert pod("worker")["terminationGracePeriodSeconds"] == 60


@pytest.mark.parametrize("part", ["web", "worker"])
def test_a_container_may_do_no_more_than_it_has_to(part: str) -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    user = pod(part)["securityContext"]["runAsUser"]
    assert f"USER {user}" in dockerfile and pod(part)["securityContext"]["runAsNonRoot"]
    confined = container(part)["securityContext"]
    assert confined["readOnlyRootFilesystem"] and not confined["allowPrivilegeEscalation"]
    assert confined["capabilities"] == {"drop": ["ALL"]}
    assert container(part)["resources"]["limits"]["memory"]


def test_with_gpus_each_worker_has_one() -> None:
    found = kustomization(GPU)
    assert "images" not in found, "an owner names the image in one place, the base"
    (patch,) = found["patches"]
    assert named(patch["target"]["kind"], patch["target"]["name"])
    worker = container("worker")
    worker["resources"] = {"requests": worker["resources"]["requests"], "limits": dict(worker["resources"]["limits"])}
    for change in yaml.safe_load(patch["patch"]):
        path = change["path"].removeprefix("/spec/template/spec/containers/0/").split("/")
        if change["op"] == "replace":
            name, place, key = path
            assert worker[name][int(place)]["name"] == "DEVICE" and key == "value" and change["value"] == "cuda"
        else:
            assert path[:2] == ["resources", "limits"]
            worker["resources"]["limits"][path[2].replace("~1", "/")] = change["value"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == 1
