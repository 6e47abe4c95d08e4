"""The whole way on a real S3 server, by the command line in processes of its own; and what refuses us."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import S3Place
from tests.services.gateway import Gateway
from tests.support import event


@dataclass
class Terminal:
    """Runs `archiver` and keeps everything that it ever said."""

    place: S3Place
    folder: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    said: list[str] = field(default_factory=list)

    def __call__(self, *words: object, location: str | None = None, endpoint: str | None = None) -> Any:
        where = ["--archive", location or self.place.location]
        where += ["--endpoint-url", endpoint or self.place.server.endpoint, "--region", "us-east-1"]
        command = [sys.executable, "-m", "archiver", *map(str, words), *where]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, env=self.environment, check=False
        )
        self.said += [done.stdout, done.stderr]
        assert "Traceback" not in done.stderr, done.stderr
        return done


@pytest.fixture
def terminal(s3_bucket: S3Place, tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(s3_bucket, tmp_path)
    for name in [name for name in terminal.environment if name.startswith("ARCHIVER_")]:
        del terminal.environment[name]
    yield terminal
    told = "\n".join(terminal.said)
    assert s3_bucket.server.secret_key not in told
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or s3_bucket.server.secret_key.encode() not in path.read_bytes(), path


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(event("e1") + b"\n" + event("e2") + b"\n")
    return folder


def _client(place: S3Place) -> Any:
    return place.store().clients.repeating()


def _contents(path: Path) -> dict[str, bytes]:
    return {
        one.name: one.read_bytes()
        for one in path.rglob("*")
        if one.is_file() and not one.name.startswith(".") and one.name not in ("lock", "batch.json")
    }


def test_from_deliveries_to_an_archive_that_is_asked_and_proven(
    terminal: Terminal, s3_bucket: S3Place, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    generate = [
        sys.executable,
        "-m",
        "archiver",
        "generate",
        "--events",
        "300",
        "--out",
        str(spool),
        "--json",
    ]
    made = json.loads(subprocess.run(generate, capture_output=True, text=True, check=True).stdout)
    run = ("run", "--spool", spool, "--settle", "0", "--json", "--log-format", "json", "--verbose")

    first = terminal(*run)
    report = json.loads(first.stdout)
    assert first.returncode == (3 if made["invalid"] else 0), first.stderr
    assert report["read"] == 300
    assert report["read"] == report["archived"] + report["duplicates"] + report["quarantined"]
    again = terminal(*run)
    assert again.returncode == 0
    assert json.loads(again.stdout)["commits"] == []

    status = json.loads(terminal("status", "--spool", spool, "--json").stdout)
    assert (status["head"], status["head_digest"]) == (report["head"], report["head_digest"])
    assert status["spools"][0]["files"] == 0
    rows = sum(volume["rows"] for volume in status["datasets"].values())
    assert rows == report["archived"]
    answer = json.loads(terminal("sql", "SELECT count(*) AS n FROM events", "--json").stdout)
    assert answer["rows"] == [{"n": status["datasets"]["events"]["rows"]}]
    exported = tmp_path / "bodies.jsonl.gz"
    assert terminal("export", "--dataset", "all", "--output", exported).returncode == 0
    assert len(gzip.decompress(exported.read_bytes()).splitlines()) == rows
    expect = ("--expect", f"{report['head']}:{report['head_digest']}")
    assert terminal("verify", *expect).returncode == 0

    client = _client(s3_bucket)
    key = next(info.key for info in s3_bucket.store().list("events/workspace="))
    whole = {"Bucket": s3_bucket.bucket, "Key": f"{s3_bucket.prefix}/{key}"}
    content = bytearray(client.get_object(**whole)["Body"].read())
    content[len(content) // 2] ^= 1
    client.put_object(**whole, Body=bytes(content))

    damaged = terminal("verify")
    assert damaged.returncode == 20
    assert f"altered: {key}" in damaged.stdout
    doctor = terminal("doctor", "--spool", spool)
    assert doctor.returncode == 0, doctor.stdout
    assert "eight writers raced" in doctor.stdout
    secret = s3_bucket.server.secret_key.encode()
    objects = list(s3_bucket.store().list())
    assert len(objects) > 3
    for info in objects:
        stored = s3_bucket.store().get(info.key)
        assert secret not in stored, info.key
        if info.key.endswith(".gz"):
            assert secret not in gzip.decompress(stored), info.key


def test_wrong_credentials_end_with_1_and_the_spool_keeps_everything(
    terminal: Terminal, s3_bucket: S3Place, spool: Path
) -> None:
    if s3_bucket.server.kind == "external":
        pytest.skip("not every S3 server of somebody's own takes a wrong secret kindly")
    terminal.environment["AWS_SECRET_ACCESS_KEY"] = "wrong-and-secret-too"
    before = _contents(spool)
    done = terminal("run", "--spool", spool, "--settle", "0", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["kind"] == "permission_denied"
    assert s3_bucket.location in done.stderr
    assert "s3:" in done.stderr
    assert "the secret key is wrong" in done.stderr
    assert "wrong-and-secret-too" not in done.stdout + done.stderr
    assert _contents(spool) == before


def test_no_credentials_at_all_end_with_2_and_name_the_chain(terminal: Terminal, spool: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del terminal.environment[name]
    before = _contents(spool)
    done = terminal("run", "--spool", spool, "--settle", "0")
    assert done.returncode == 2
    assert "AWS_ACCESS_KEY_ID" in done.stderr
    assert _contents(spool) == before


def test_a_bucket_that_is_not_there_ends_with_1_and_is_named(terminal: Terminal, spool: Path) -> None:
    before = _contents(spool)
    done = terminal("run", "--spool", spool, "--settle", "0", location="s3://archiver-no-such-bucket/p")
    assert done.returncode == 1
    assert "archiver-no-such-bucket" in done.stderr
    assert "there is no such bucket" in done.stderr
    assert _contents(spool) == before


FIRST_RUN = "_ledger/00000000000000000001.json"


@pytest.fixture(params=["events/", FIRST_RUN], ids=["data files", "the commit"])
def denied(request: pytest.FixtureRequest, s3_bucket: S3Place) -> Iterator[str]:
    """What a bucket policy of the real server denies to everybody: all data files, or one commit."""
    if s3_bucket.server.kind != "ceph":
        pytest.skip("a bucket policy is only put on a server of our own")
    client = _client(s3_bucket)
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{s3_bucket.bucket}/{s3_bucket.prefix}/{request.param}*",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    client.put_bucket_policy(Bucket=s3_bucket.bucket, Policy=policy)
    yield request.param
    client.delete_bucket_policy(Bucket=s3_bucket.bucket)


def test_a_bucket_policy_that_denies_puts_ends_with_1_and_loses_nothing(
    terminal: Terminal, s3_bucket: S3Place, denied: str, spool: Path
) -> None:
    before = _contents(spool)
    done = terminal("run", "--spool", spool, "--settle", "0", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["kind"] == "permission_denied"
    assert f"{s3_bucket.location}/{denied}" in done.stderr
    assert "s3:PutObject answered 403 AccessDenied" in done.stderr
    assert sorted(_contents(spool).values()) == sorted(before.values())
    _client(s3_bucket).delete_bucket_policy(Bucket=s3_bucket.bucket)
    assert terminal("run", "--spool", spool, "--settle", "0").returncode == 0
    assert _contents(spool) == {}


def test_a_server_that_refuses_every_put_ends_with_1_and_loses_nothing(
    terminal: Terminal, s3_bucket: S3Place, spool: Path
) -> None:
    """A stub answers 403 to every PUT."""
    assert terminal("init", "--no-file").returncode == 0
    before = _contents(spool)
    with _Refusing.before(s3_bucket.server.endpoint) as gateway:
        done = terminal("run", "--spool", spool, "--settle", "0", endpoint=gateway.endpoint)
    assert done.returncode == 1
    assert s3_bucket.location in done.stderr
    assert "s3:PutObject answered 403 AccessDenied" in done.stderr
    assert sorted(_contents(spool).values()) == sorted(before.values())
    assert terminal("run", "--spool", spool, "--settle", "0").returncode == 0
    assert terminal("verify").returncode == 0


class _Refusing(Gateway):
    def take(self, method: str, headers: dict[str, str]) -> str:
        super().take(method, headers)
        return "403" if method == "PUT" else "pass"
