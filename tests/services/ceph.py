"""A whole Ceph cluster of one monitor, one OSD and one RADOS gateway, in memory, for tests.

    with CephGateway.started() as ceph:
        ...  # S3 at ceph.endpoint, path style, ceph.access_key and ceph.secret_key

Needs the Debian packages radosgw, ceph-mon and ceph-osd. As root it runs as `nobody`.
Takes about twelve seconds to start. cephx stays on (the gateway hangs without) and
`tcp_nodelay` is set (small answers wait 40 ms for it otherwise).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services import process

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
MEMORY_BYTES = 4 << 30

_CONFIGURATION = """\
[global]
fsid = {cluster}
mon host = [v2:127.0.0.1:{mon_port},v1:127.0.0.1:{old_mon_port}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = {folder}/keyring
mon data = {folder}/mon
mon allow pool size one = true
mon data avail warn = 5
mon data avail crit = 1
mon max pg per osd = 1000
mon warn on pool no redundancy = false
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = {memory}
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw dynamic resharding = false
log file = {folder}/$name.log
run dir = {folder}
crash dir = {folder}
admin socket =
[osd]
keyring = {folder}/osd/keyring
"""


def missing_programs() -> list[str]:
    """Which of Ceph's programs are not on the path."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@dataclass(frozen=True, slots=True)
class CephGateway:
    """A running gateway and the user that owns its buckets."""

    endpoint: str
    access_key: str
    secret_key: str

    @classmethod
    @contextmanager
    def started(
        cls, access_key: str = "testkey", secret_key: str = "testsecret12345"
    ) -> Iterator[CephGateway]:
        """Start a cluster in a folder of its own; stop it and remove the folder at the end.

        Raises:
            ServiceError: Something did not come up.
        """
        folder = Path(tempfile.mkdtemp(prefix="archiver-ceph-"))
        running: list[subprocess.Popen[bytes]] = []
        try:
            port = _start(folder, running, access_key, secret_key)
            yield cls(f"http://127.0.0.1:{port}", access_key, secret_key)
        finally:
            process.stop(running[::-1])
            shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, running: list[subprocess.Popen[bytes]], access_key: str, secret_key: str) -> int:
    user = "nobody" if os.geteuid() == 0 else None
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    cluster, osd_id = str(uuid.uuid4()), str(uuid.uuid4())
    port, mon_port, old_mon_port = process.free_ports(3)
    configuration = folder / "ceph.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            cluster=cluster,
            folder=folder,
            memory=MEMORY_BYTES,
            mon_port=mon_port,
            old_mon_port=old_mon_port,
            port=port,
        )
    )
    if user:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, user, "nogroup")

    def run(*command: str, stdin: str = "") -> str:
        return process.run(command, folder=folder, user=user, stdin=stdin)

    def serve(name: str, *command: str) -> subprocess.Popen[bytes]:
        one = process.start(
            [*command, "-c", str(configuration), "-f"], output=folder / f"{name}.out", user=user
        )
        running.append(one)
        return one

    everything = ["--cap", "mon", "allow *", "--cap", "osd", "allow *"]
    run("ceph-authtool", "--create-keyring", "keyring", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    run("ceph-authtool", "keyring", "--gen-key", "-n", "client.admin", *everything)
    addresses = f"[v2:127.0.0.1:{mon_port},v1:127.0.0.1:{old_mon_port}]"
    run("monmaptool", "--create", "--addv", "a", addresses, "--fsid", cluster, "monmap")
    common = ("-c", str(configuration))
    run("ceph-mon", *common, "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring")
    serve("mon", "ceph-mon", "-i", "a")

    secret = run("ceph-authtool", "--gen-print-key").strip()
    run("ceph", *common, "osd", "new", osd_id, "-i", "-", stdin=json.dumps({"cephx_secret": secret}))
    run("ceph-authtool", "--create-keyring", "osd/keyring", "--name", "osd.0", "--add-key", secret)
    run("ceph-osd", *common, "-i", "0", "--mkfs", "--osd-uuid", osd_id)
    serve("osd", "ceph-osd", "-i", "0")

    gateway = serve("rgw", "radosgw", "-n", "client.admin")
    process.wait_for_http(f"http://127.0.0.1:{port}/", gateway, output=folder / "rgw.out", seconds=90)
    keys = ["--access-key", access_key, "--secret-key", secret_key]
    run("radosgw-admin", *common, "user", "create", "--uid=tests", "--display-name=tests", *keys)
    return port
