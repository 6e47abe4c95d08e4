"""The image and the Kubernetes example of docs/deploy, as far as they can be proven without their engines.

The image is not built here. What it would run is run: its entry point with its environment, as its
user, with every file system read-only but the spool, and its health check. Of kubernetes.yaml the shape is
checked, and that its parts fit each other.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

import archiver
from archiver.config import read_settings
from archiver.streams import parse_listen
from tests.integration.proxies import DEPLOY, replaced
from tests.integration.test_deploy_systemd import deliver
from tests.services.process import free_ports
from tests.services.receiving import ReceiverProcess, bodies_of
from tests.support import event

ROOT = DEPLOY.parents[1]
PROGRAM = "/opt/archiver/bin/archiver"

# Every file system of this mount namespace becomes read-only, but the spool; then the image's user
# becomes us. That nothing else can be written to is tried, not believed.
READ_ONLY = """
set -eu
spool=$1 user=$2 stage=$3
shift 3
mount --make-rprivate /
mount --bind "$STAGE_PYTHON" "$stage/python"
mount --bind "$STAGE_BASE" "$stage/base"
mount --bind "$STAGE_SOURCE" "$stage/source"
mount --bind "$spool" "$spool"
awk '{print $2}' /proc/self/mounts | sort -u | while read -r place; do
    case $place in
        "$spool" | /proc | /proc/* | /sys | /sys/* | /dev | /dev/*) ;;
        *) mount -o remount,bind,ro "$place" 2>/dev/null || true ;;
    esac
done
drop="setpriv --reuid ${user%:*} --regid ${user#*:} --clear-groups"
drop="$drop --no-new-privs --bounding-set=-all --inh-caps=-all"
for folder in / /tmp /var/tmp "$stage" /run; do
    if $drop touch "$folder/archiver-was-here" 2>/dev/null; then
        echo "$folder can be written to" >&2
        exit 97
    fi
done
exec $drop "$@"
"""


MOUNTED = ("python", "base", "source")


class Image(NamedTuple):
    """What the last stage of the Dockerfile says."""

    user: str
    environment: dict[str, str]
    entrypoint: list[str]
    command: list[str]
    health: list[str]
    copied: list[str]


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


@pytest.fixture(scope="module")
def image() -> Image:
    found = instructions()
    last = max(number for number, (word, _) in enumerate(found) if word == "FROM")
    stage = dict(found[last:])
    health = stage["HEALTHCHECK"]
    return Image(
        user=stage["USER"],
        environment=dict(pair.split("=", 1) for pair in shlex.split(stage["ENV"])),
        entrypoint=json.loads(stage["ENTRYPOINT"]),
        command=json.loads(stage["CMD"]),
        health=json.loads(health[health.index("CMD") + 3 :]),
        copied=[one for word, rest in found[:last] if word == "COPY" for one in rest.split()[:-1]],
    )


def test_all_that_the_image_copies_is_there_and_is_sent_to_the_builder(image: Image) -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    for name in image.copied:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignored, name
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {project["project"]["readme"], *wheel["packages"], *wheel["force-include"]}
    assert needed <= set(image.copied)


def test_the_image_runs_as_a_number_that_is_not_root_and_needs_no_shell(image: Image) -> None:
    assert re.fullmatch(r"[1-9][0-9]{3,}:[1-9][0-9]{3,}", image.user)
    assert image.entrypoint == [PROGRAM]
    assert image.health[0] == "/opt/archiver/bin/python"
    assert ("STOPSIGNAL", "SIGTERM") in instructions()
    _, port = parse_listen(image.environment["ARCHIVER_LISTEN"])
    assert ("EXPOSE", str(port)) in instructions()
    assert ("VOLUME", image.environment["ARCHIVER_SPOOL"]) in instructions()


def health_of(image: Image, port: int) -> int:
    program, *words = image.health
    words = [replaced(word, ("8080", str(port))) if "HTTPConnection" in word else word for word in words]
    done = subprocess.run(
        [replaced(program, ("/opt/archiver/bin/python", sys.executable)), *words],
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode


def test_the_health_check_tells_a_receiver_from_none(image: Image, tmp_path: Path) -> None:
    with ReceiverProcess(tmp_path / "spool") as receiver:
        assert health_of(image, receiver.port) == 0
        assert receiver.terminate() == 0
        assert health_of(image, receiver.port) == 1


@pytest.fixture
def stage() -> Iterator[Path]:
    """A folder that every user may enter, for what is mounted."""
    folder = Path(tempfile.mkdtemp(prefix="archiver-image-"))
    folder.chmod(0o755)
    for name in (*MOUNTED, "spool"):
        (folder / name).mkdir()
    yield folder
    shutil.rmtree(folder / "spool")
    for name in MOUNTED:
        # Never a whole tree: if a mount were still here, that would be somebody's Python.
        (folder / name).rmdir()
    folder.rmdir()


def _why_not() -> str:
    if os.geteuid() != 0:
        return "a read-only root file system needs root; run the tests as root"
    missing = [name for name in ("unshare", "setpriv", "awk") if shutil.which(name) is None]
    if missing:
        return f"no {', '.join(missing)}"
    trial = ["unshare", "--mount", "mount", "--make-rprivate", "/"]
    tried = subprocess.run(trial, capture_output=True, timeout=60, check=False)
    return "" if tried.returncode == 0 else "mount namespaces are not allowed here"


def test_the_receiver_needs_to_write_to_its_spool_and_to_nothing_else(image: Image, stage: Path) -> None:
    if reason := _why_not():
        pytest.skip(reason)
    user, _, group = image.user.partition(":")
    spool = stage / "spool"
    os.chown(spool, int(user), int(group))
    (port,) = free_ports(1)
    base = Path(sys.base_prefix)
    python = stage / "base" / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = Path(pytest.__file__).parents[1].relative_to(sys.prefix)
    environment = image.environment | {
        "PATH": os.environ["PATH"],
        "ARCHIVER_SPOOL": str(spool),
        "ARCHIVER_LISTEN": f"127.0.0.1:{port}",
        "ARCHIVER_WEBHOOK_SECRET": "a secret for the tests, 32 bytes",
        # A Python that was built with a shared library of its own looks for it where it was installed.
        "LD_LIBRARY_PATH": str(stage / "base" / "lib"),
        "PYTHONHOME": str(stage / "base"),
        "PYTHONPATH": f"{stage / 'source'}:{stage / 'python' / packages}",
        "STAGE_PYTHON": sys.prefix,
        "STAGE_BASE": str(base),
        "STAGE_SOURCE": str(Path(archiver.__file__).parents[1]),
    }
    command = [str(python), "-m", "archiver", *image.command]
    running = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", str(spool), image.user, str(stage), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd="/",
    )
    try:
        assert running.stdout is not None
        line = running.stdout.readline().decode()
        if not line:
            pytest.fail(running.communicate(timeout=60)[1].decode())
        assert line == f"listening on http://127.0.0.1:{port}\n"
        status = Path(f"/proc/{running.pid}/status").read_text()
        assert re.search(rf"^Uid:\s+{user}\s", status, re.MULTILINE)
        assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
        assert deliver(port, event("e1")) == 204
        assert health_of(image, port) == 0
        running.terminate()
        assert running.wait(timeout=60) == 0
    finally:
        running.kill()
        running.communicate()
    assert bodies_of(spool) == [event("e1")]


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    found = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    assert all(one["apiVersion"] and one["metadata"]["name"] for one in found)
    return {one["kind"]: one for one in found}


@pytest.fixture(scope="module")
def pods(objects: dict[str, Any]) -> dict[str, Any]:
    """The two pods' specifications."""
    job = objects["CronJob"]["spec"]["jobTemplate"]["spec"]
    return {
        "receive": objects["Deployment"]["spec"]["template"]["spec"],
        "run": job["template"]["spec"],
    }


@pytest.mark.parametrize("name", ["receive", "run"])
def test_each_pod_is_as_narrow_as_it_can_be(pods: dict[str, Any], image: Image, name: str) -> None:
    pod = pods[name]
    (container,) = pod["containers"]
    user, _, group = image.user.partition(":")
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    told = [pod["securityContext"][key] for key in ("runAsUser", "runAsGroup", "fsGroup")]
    assert told == [int(user), int(group), int(group)]
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert "hostPath" not in json.dumps(pod)
    mounted = {one["name"] for one in container["volumeMounts"]}
    assert mounted == {one["name"] for one in pod["volumes"]}


def test_both_pods_have_the_spool_and_are_on_its_node(objects: dict[str, Any], pods: dict[str, Any]) -> None:
    claim = objects["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for pod in pods.values():
        volumes = {one["name"]: one for one in pod["volumes"]}
        assert volumes["spool"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        affinity = pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert affinity == [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}
        ]
    assert objects["CronJob"]["spec"]["concurrencyPolicy"] == "Forbid"


def test_an_update_stops_the_old_receiver_only_when_the_new_one_is_ready(
    objects: dict[str, Any], pods: dict[str, Any]
) -> None:
    told = objects["Deployment"]["spec"]
    assert told["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert told["selector"]["matchLabels"] == told["template"]["metadata"]["labels"]
    (container,) = pods["receive"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    # uvicorn's own grace is 25 s, and the last deliveries have a second.
    assert pods["receive"]["terminationGracePeriodSeconds"] >= waits + 40


def test_the_example_configuration_is_one_and_fits_its_pod(
    objects: dict[str, Any], pods: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "archiver.toml"
    path.write_text(objects["ConfigMap"]["data"]["archiver.toml"])
    settings = read_settings(path)
    (container,) = pods["receive"]["containers"]
    mounted = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert settings.spools == (mounted["spool"],)
    assert parse_listen(settings.receive.listen) == ("0.0.0.0", ports["deliveries"])
    assert parse_listen(settings.receive.metrics_listen or "") == ("0.0.0.0", ports["observing"])
    (stream,) = settings.streams.values()
    assert stream.secret_file == (f"{mounted['secret']}/secret",)
    (rule,) = objects["Ingress"]["spec"]["rules"]
    (path_told,) = rule["http"]["paths"]
    assert (path_told["path"], path_told["pathType"]) == (stream.path, "Exact")
    service = objects["Service"]
    assert path_told["backend"]["service"]["name"] == service["metadata"]["name"]
    assert [one["targetPort"] for one in service["spec"]["ports"]] == ["deliveries"]
    assert container["args"][-1] == f"{mounted['config']}/archiver.toml"
