"""Every check of `doctor` passes on a healthy place, and fails on one that has its fault."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from archiver import clock
from archiver.archive import init_archive
from archiver.cli.doctor import doctor_command
from archiver.doctor import Check, DoctorReport
from archiver.doctor.machine import check_versions
from archiver.doctor.storage import check_clock, check_ledger_clock
from archiver.errors import PermissionDeniedError, StoreError
from archiver.sources.spool import SpoolSource
from archiver.store.base import Deleted, ObjectInfo, PutMode
from archiver.store.local import LocalStore
from archiver.store.s3_doctor import provider_of
from tests.conftest import S3Place, S3Server
from tests.examining import examine, spool

__all__ = ["spool"]  # fixtures: pytest finds them here by name

# --- well --------------------------------------------------------------------------------------------


def test_a_healthy_archive_and_spool_fail_nothing(tmp_path: Path, spool: Path) -> None:
    store = LocalStore(tmp_path / "archive")
    archive = init_archive(store, rounds=0)
    SpoolSource(spool, name="spool").remember_archive(
        archive.id, store.location, head=0, head_digest=archive.ledger.snapshot.digest
    )
    (spool / "one.jsonl").write_text("{}\n")
    before = sorted(tmp_path.rglob("*"))
    checks = examine(store, spool)
    assert [check for check in checks.values() if check.status == "failed"] == []
    assert checks["archive"].status == "ok"
    assert checks[f"spool {spool}: archive"].status == "ok"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_mistyped_location_is_told_and_does_not_come_into_being(tmp_path: Path) -> None:
    checks = examine(LocalStore(tmp_path / "archvie"))
    assert checks["archive"].status == "warning"
    assert "archiver init" in checks["archive"].fix
    assert not (tmp_path / "archvie").exists()


def test_every_check_that_is_not_well_says_what_to_do(tmp_path: Path) -> None:
    for check in examine(LocalStore(tmp_path / "archive"), tmp_path / "absent").values():
        assert check.status == "ok" or check.fix or check.status == "skipped"


def test_the_command_exits_with_1_when_a_check_failed(tmp_path: Path, spool: Path) -> None:
    archive = str(tmp_path / "archive")
    init_archive(LocalStore(Path(archive)), rounds=0)
    well = CliRunner().invoke(doctor_command, ["--archive", archive, "--spool", str(spool)])
    assert well.exit_code == 0
    ill = CliRunner().invoke(doctor_command, ["--archive", archive, "--spool", str(spool / "x"), "--json"])
    assert ill.exit_code == 1
    assert json.loads(ill.stdout)["message_type"] == "doctor_report"
    text = CliRunner().invoke(doctor_command, ["--archive", archive, "--spool", str(spool / "x")])
    assert "FAIL" in text.stdout
    assert "mkdir -p" in text.stdout


def test_a_command_without_an_archive_still_looks_at_the_spool(
    spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(doctor_command, ["--spool", str(spool), "--json"])
    assert done.exit_code == 1
    checks = {one["name"]: one["status"] for one in json.loads(done.stdout)["checks"]}
    assert checks["archive location"] == "failed"
    assert checks[f"spool {spool}: space"] != "skipped"


# --- the store -----------------------------------------------------------------------------------------


class Refusing(LocalStore):
    """A store that refuses one kind of call."""

    refused = ""

    def _refuse(self, call: str) -> None:
        if call == self.refused:
            raise PermissionDeniedError(f"{call} refused", hint=f"grant {call}")

    def put(self, key: str, content: bytes, *, mode: PutMode = "create") -> None:
        self._refuse("put")
        super().put(key, content, mode=mode)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self._refuse("get")
        return super().get(key, start=start, length=length)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        self._refuse("list")
        return super().list(prefix, start_after=start_after)

    def delete(self, keys: Any) -> Deleted:
        self._refuse("delete")
        return super().delete(keys)


@pytest.mark.parametrize(
    ("call", "name", "status"),
    [
        ("put", "write", "failed"),
        ("get", "read", "failed"),
        ("list", "list", "failed"),
        ("delete", "delete", "warning"),
    ],
)
def test_a_right_that_is_missing_is_named(tmp_path: Path, call: str, name: str, status: str) -> None:
    store = Refusing(tmp_path / "archive")
    store.refused = call
    check = examine(store)[name]
    assert check.status == status
    assert call in check.found
    assert check.fix == f"grant {call}"


def test_a_folder_that_is_read_only_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    folder.chmod(0o500)
    code = "import sys; from archiver.cli.main import main; sys.argv[0] = 'archiver'; main()"
    command = [sys.executable, "-c", code, "doctor", "--archive", str(folder), "--json"]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv (of util-linux) is not there; root may write anywhere")
        # Root may write anywhere; without that capability the modes of folders bind it, too.
        command = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override", "--", *command]
        os.chown(folder, 65534, 65534)
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent
    )
    folder.chmod(0o700)
    checks = {one["name"]: one for one in json.loads(done.stdout)["checks"]}
    assert checks["write"]["status"] == "failed", done.stdout
    assert done.returncode == 1


def test_a_store_that_ignores_the_condition_fails_the_race(tmp_path: Path) -> None:
    class Overwriting(LocalStore):
        def put_once(self, key: str, content: bytes) -> None:
            self.put(key, content, mode="overwrite")

    check = examine(Overwriting(tmp_path / "archive"))["conditional create"]
    assert check.status == "failed"
    assert "expected one" in check.found


def test_a_store_that_cannot_be_written_while_racing_fails_the_race(tmp_path: Path) -> None:
    class Full(LocalStore):
        def put_once(self, key: str, content: bytes) -> None:
            raise StoreError("the disk is full")

    assert examine(Full(tmp_path / "archive"))["conditional create"].status == "failed"


@pytest.mark.parametrize(
    ("seconds", "status"),
    [(0, "ok"), (59, "ok"), (-61, "warning"), (61, "warning"), (-901, "failed"), (901, "failed")],
)
def test_clocks_may_be_a_minute_apart_and_not_a_quarter_of_an_hour(seconds: int, status: str) -> None:
    now = datetime(2026, 3, 26, tzinfo=UTC)
    assert check_clock(now + timedelta(seconds=seconds), clock.to_us(now)).status == status


def test_a_wrong_clock_here_is_found_through_the_store(tmp_path: Path) -> None:
    checks = examine(LocalStore(tmp_path / "archive"), now_us=lambda: clock.now_us() - 3_600_000_000)
    assert checks["clock"].status == "failed"


def test_a_commit_of_the_future_is_a_warning() -> None:
    assert check_ledger_clock(clock.now_us() + 3_600_000_000, clock.now_us()).status == "warning"
    assert check_ledger_clock(clock.now_us(), clock.now_us()).status == "ok"


def test_an_archive_of_an_unknown_format_cannot_be_read(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "archive")
    init_archive(store, rounds=0)
    first = tmp_path / "archive" / "_ledger" / f"{0:020d}.json"
    first.write_bytes(first.read_bytes().replace(b'"format":1', b'"format":2'))
    check = examine(store)["archive"]
    assert check.status == "failed"
    assert "format" in check.found
    assert check.fix


# --- S3 ------------------------------------------------------------------------------------------------


def test_a_bucket_of_a_real_server_is_well(s3_bucket: S3Place) -> None:
    checks = examine(s3_bucket.store())
    assert [check for check in checks.values() if check.status == "failed"] == []
    assert checks["credentials"].found == "found by env, accepted"
    assert checks["versioning"].status in ("ok", "warning")
    assert checks["conditional create"].status == "ok"


def test_wrong_credentials_are_not_accepted_by_a_real_server(
    s3_bucket: S3Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not the secret")
    checks = examine(s3_bucket.store())
    assert checks["credentials"].status == "failed"
    assert "not accepted" in checks["credentials"].found
    assert "write" not in checks
    assert checks["archive"].status == "skipped"
    assert "not the secret" not in str(checks)


def test_absent_credentials_are_told(s3_bucket: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    check = examine(s3_bucket.store())["credentials"]
    assert check.status == "failed"
    assert "AWS_ACCESS_KEY_ID" in check.fix


@pytest.mark.parametrize("server", ["moto", pytest.param("s3_server", marks=pytest.mark.s3)])
def test_a_bucket_that_does_not_exist_is_told(server: str, request: pytest.FixtureRequest) -> None:
    place = S3Place(request.getfixturevalue(server), "no-such-bucket-anywhere", "x")
    checks = examine(place.store())
    assert checks["bucket"].status == "failed"
    assert "no such bucket" in checks["bucket"].found


def test_a_server_that_cannot_be_reached_is_told() -> None:
    place = S3Place(S3Server("http://127.0.0.1:1", "", "", "none"), "bucket", "x")
    checks = examine(place.store(attempts=1, connect_timeout_seconds=1))
    assert checks["bucket"].status == "failed"
    assert "endpoint" in checks["bucket"].fix


@pytest.fixture
def client(moto: S3Server) -> Any:
    import boto3  # noqa: PLC0415  (slow to import)

    return boto3.client("s3", endpoint_url=moto.endpoint)


def test_a_default_retention_is_a_warning(moto: S3Server, client: Any) -> None:
    for bucket in ("locked", "locked-by-default"):
        client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 7}}
    client.put_object_lock_configuration(
        Bucket="locked-by-default",
        ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule},
    )
    checks = examine(S3Place(moto, "locked", "x").store())
    assert checks["write once"].status == "ok"
    assert checks["versioning"].status == "ok"
    check = examine(S3Place(moto, "locked-by-default", "x").store())["write once"]
    assert check.status == "warning"
    assert "GOVERNANCE, 7 days" in check.found


def test_a_bucket_without_versions_is_a_warning(moto_bucket: S3Place) -> None:
    checks = examine(moto_bucket.store())
    assert checks["versioning"].status == "warning"
    assert checks["write once"].status == "ok"


@pytest.mark.parametrize(
    ("endpoint", "provider"),
    [
        ("https://s3.eu-central-1.amazonaws.com", "AWS"),
        ("https://0123.r2.cloudflarestorage.com", "Cloudflare R2"),
        ("https://amazonaws.com.example.com", "an S3-compatible server"),
    ],
)
def test_the_provider_is_guessed_by_the_end_of_the_host_name(endpoint: str, provider: str) -> None:
    assert provider_of(endpoint) == provider


# --- versions -------------------------------------------------------------------------------------------


def test_libraries_that_are_too_old_or_absent_fail() -> None:
    ok = check_versions(["pyarrow>=1.0", "pytest>=10000; extra == 'test'", "jsonschema[format-nongpl]>=4"])
    assert ok.status == "ok"
    assert "pyarrow" in ok.found
    assert "pyarrow" in check_versions(["pyarrow>=9999.1"]).found
    assert check_versions(["pyarrow>=9999.1"]).status == "failed"
    assert check_versions(["no-such-library>=1"]).status == "failed"


def test_a_python_that_is_too_old_fails() -> None:
    assert check_versions([], (3, 10, 4)).status == "failed"
    assert check_versions([], (3, 11)).status == "ok"


def test_a_report_is_well_unless_a_check_failed() -> None:
    assert DoctorReport([Check("a", "warning", "")]).is_well
    assert not DoctorReport([Check("a", "ok", ""), Check("b", "failed", "")]).is_well
