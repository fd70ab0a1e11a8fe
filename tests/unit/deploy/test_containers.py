import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.load import load_settings
from config.version import current_version
from tests.support.service import ROOT

DOCKER = ROOT / "deploy" / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
MANIFESTS: list[dict[str, Any]] = [
    document
    for path in sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
DEPLOYMENTS = {manifest["metadata"]["name"]: manifest for manifest in MANIFESTS if manifest["kind"] == "Deployment"}
BY_NAME = pytest.mark.parametrize("deployment", DEPLOYMENTS.values(), ids=DEPLOYMENTS)
IMAGE = f"redconnect:{current_version()}"
SECRET = "a secret of thirty-two bytes, or even more"
SECRETS = {  # by key: a value of the right kind
    "turn-secret": SECRET,
    "locator-key": SECRET,
    "database-url": "postgresql+asyncpg://redconnect@db.example.org/redconnect",
    "redis-url": "rediss://redis.example.org:6379/0",
}


def copied() -> set[str]:
    """What the image takes from the checkout."""
    words = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return {name for line in words for name in line.split()[:-1]}


def pod(deployment: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    only: dict[str, Any]
    (only,) = pod(deployment)["containers"]
    return only


# The image


def test_what_the_image_copies_is_enough_to_run(tmp_path: Path) -> None:
    for name in copied():
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    entry = re.findall(r'^ENTRYPOINT \["python", (.+)\]$', DOCKERFILE, re.MULTILINE)
    words = [word.strip('"') for word in entry[-1].split(", ")]
    environment = {"PYTHONPATH": str(tmp_path), "REDCONNECT_STATE_DIR": str(tmp_path), "PATH": os.environ["PATH"]}
    # The check imports its parts only when it is called, and finds nothing to do.
    idle_check = ["check", "--no-ipv4", "--no-ipv6", "127.0.0.1"]
    for command, status in ((["--version"], 0), (["check-config"], 0), (["serve", "--help"], 0), (idle_check, 2)):
        done = subprocess.run(
            [sys.executable, *words, *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr


def test_the_builder_is_given_what_the_image_copies_and_nothing_else() -> None:
    lines = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    assert lines.index("*") < lines.index("!config")
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == copied()


def test_the_image_runs_as_nobody_of_importance() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    user = re.findall(r"^USER (\d+):(\d+)$", last, re.MULTILINE)
    assert user == [("10001", "10001")]
    assert "gcc" not in last


def test_compose_gives_the_container_nothing_that_it_does_not_need() -> None:
    service = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["redconnect"]
    assert service["image"] == IMAGE
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["network_mode"] == "host"
    assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == DOCKER / "Dockerfile"


def test_whoever_wants_the_kernel_gives_two_capabilities_and_a_state_of_its_own() -> None:
    given = yaml.safe_load((DOCKER / "compose.kernel-datapath.yaml").read_text())
    service = given["services"]["redconnect"]
    assert service["cap_add"] == ["BPF", "NET_ADMIN"]
    assert set(service) == {"user", "cap_add", "volumes"}, "all else stays as it is"
    assert service["volumes"] == ["kernel-state:/var/lib/redconnect"]


# Kubernetes


@BY_NAME
def test_a_pod_has_no_right_that_it_does_not_need(deployment: dict[str, Any]) -> None:
    assert pod(deployment)["automountServiceAccountToken"] is False
    assert pod(deployment)["securityContext"]["runAsNonRoot"] is True
    assert pod(deployment)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(deployment)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@BY_NAME
def test_probes_ask_whether_it_lives_and_whether_it_is_ready(deployment: dict[str, Any]) -> None:
    asked = {name: container(deployment)[name]["httpGet"]["path"] for name in ("livenessProbe", "readinessProbe")}
    assert asked == {"livenessProbe": "/livez", "readinessProbe": "/readyz"}
    assert container(deployment)["image"] == IMAGE


@BY_NAME
def test_the_settings_of_a_pod_are_right_and_it_has_the_time_to_drain(
    deployment: dict[str, Any], tmp_path: Path
) -> None:
    files = next(manifest["data"] for manifest in MANIFESTS if manifest["kind"] == "ConfigMap")
    mount = next(each for each in container(deployment)["volumeMounts"] if each["name"] == "settings")
    assert container(deployment)["args"][-1] == mount["mountPath"]
    config = tmp_path / "redconnect.yaml"
    config.write_text(files[mount["subPath"]])
    environment = {
        variable["name"]: SECRETS[variable["valueFrom"]["secretKeyRef"]["key"]]
        for variable in container(deployment)["env"]
    }
    settings = load_settings(config, environment)
    assert settings.services == (deployment["metadata"]["name"],)
    assert pod(deployment)["terminationGracePeriodSeconds"] > settings.relay.drain_seconds


@BY_NAME
def test_one_pod_at_least_stays_when_nodes_are_emptied(deployment: dict[str, Any]) -> None:
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    budgets = [
        manifest["spec"]
        for manifest in MANIFESTS
        if manifest["kind"] == "PodDisruptionBudget" and manifest["spec"]["selector"]["matchLabels"] == labels
    ]
    assert [budget["minAvailable"] for budget in budgets] == [1]
    assert deployment["spec"]["replicas"] > 1
    assert deployment["spec"]["selector"]["matchLabels"] == labels


def test_the_relay_is_in_the_network_of_its_node_and_alone_there() -> None:
    relay = DEPLOYMENTS["relay"]
    assert pod(relay)["hostNetwork"] is True
    assert relay["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0
    (rule,) = pod(relay)["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert rule["labelSelector"]["matchLabels"] == relay["spec"]["template"]["metadata"]["labels"]


def test_volumes_that_are_mounted_exist() -> None:
    for deployment in DEPLOYMENTS.values():
        mounted = {mount["name"] for mount in container(deployment)["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod(deployment)["volumes"]}
