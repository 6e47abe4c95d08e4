"""What `doctor` finds in a spool and in the file system below it."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archiver.archive import init_archive
from archiver.doctor import Check
from archiver.doctor.spool import check_spool, file_system_of
from archiver.sources.spool import REMEMBERED, SpoolSource
from archiver.store.local import LocalStore
from tests.examining import examine, spool

__all__ = ["spool"]  # fixtures: pytest finds them here by name


def spool_checks(folder: Path, **options: Any) -> dict[str, Check]:
    checks = check_spool(folder, None, **options)
    return {check.name.removeprefix(f"spool {folder}: "): check for check in checks}


def test_an_absent_spool_fails(tmp_path: Path) -> None:
    (check,) = check_spool(tmp_path / "absent", None)
    assert check.status == "failed"


def _mounts(tmp_path: Path, *lines: tuple[Path | str, str]) -> Path:
    table = tmp_path / "mountinfo"
    table.write_text(
        "".join(f"36 35 98:0 / {place} rw,noatime shared:1 - {kind} server:/x rw\n" for place, kind in lines)
    )
    return table


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smbfs", "fuse.sshfs", "9p", "fuse.s3fs"])
def test_a_network_file_system_fails(tmp_path: Path, spool: Path, kind: str) -> None:
    mounts = _mounts(tmp_path, ("/", "ext4"), (spool, kind))
    check = spool_checks(spool, mounts=mounts)["file system"]
    assert check.status == "failed"
    assert kind in check.found


def test_the_innermost_and_newest_mount_decides(tmp_path: Path, spool: Path) -> None:
    spaced = spool / "a b"
    spaced.mkdir()
    table = _mounts(
        tmp_path,
        ("/", "nfs"),
        (spool, "cifs"),
        (spool, "xfs"),
        (str(spaced).replace(" ", "\\040"), "nfs4"),
        (f"{spool}x", "9p"),
    )
    assert file_system_of(spool, table) == "xfs"
    assert file_system_of(spaced, table) == "nfs4"
    assert spool_checks(spool, mounts=table)["file system"].status == "ok"


def test_a_spool_in_memory_is_a_warning(tmp_path: Path, spool: Path) -> None:
    assert spool_checks(spool, mounts=_mounts(tmp_path, (spool, "tmpfs")))["file system"].status == "warning"


def test_the_table_of_this_machine_can_be_read(spool: Path) -> None:
    assert file_system_of(spool) is not None
    assert spool_checks(spool, mounts=spool / "absent")["file system"].status == "skipped"


@pytest.mark.parametrize("call", ["link", "fsync", "open", "rename"])
def test_what_a_run_needs_to_do_in_a_spool_is_tried(
    spool: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    if call == "rename":
        monkeypatch.setattr(Path, "rename", refuse)
    else:
        monkeypatch.setattr(f"archiver.doctor.spool.os.{call}", refuse)
    check = next(one for one in check_spool(spool, None) if one.name.endswith("permissions"))
    monkeypatch.undo()
    assert check.status == "failed"
    assert "Permission denied" in check.found
    assert list(spool.iterdir()) == []


def test_a_file_system_without_locks_fails(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("archiver.doctor.spool.fcntl.flock", refuse)
    assert "flock" in spool_checks(spool)["permissions"].found


def test_a_file_system_without_leases_is_a_warning(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archiver.doctor.spool.writers_of", lambda _: "unknown")
    assert spool_checks(spool)["permissions"].status == "warning"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system cannot be mounted here (needs CAP_SYS_ADMIN)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_really_full_fails(small_disk: Path) -> None:
    (small_disk / "fill.json").write_bytes(b"x" * (4 << 20))
    checks = spool_checks(small_disk)
    assert checks["space"].status == "failed"
    assert checks["file system"].status == "warning"
    assert checks["permissions"].status == "failed"
    assert "No space" in checks["permissions"].found


@pytest.mark.parametrize(
    ("free", "inodes", "status"),
    [
        (1 << 35, 10**6, "ok"),
        (1 << 29, 10**6, "warning"),
        (1 << 20, 10**6, "failed"),
        (1 << 35, 10, "failed"),
    ],
)
def test_space_and_inodes_are_both_looked_at(
    spool: Path, monkeypatch: pytest.MonkeyPatch, free: int, inodes: int, status: str
) -> None:
    found = os.statvfs_result((4096, 4096, 1 << 30, free >> 12, free >> 12, 10**7, inodes, inodes, 0, 255))
    monkeypatch.setattr("archiver.doctor.spool.os.statvfs", lambda _: found)
    assert spool_checks(spool)["space"].status == status


def test_a_file_system_without_a_number_of_inodes_is_well(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = os.statvfs_result((4096, 4096, 1 << 30, 1 << 25, 1 << 25, 0, 0, 0, 0, 255))
    monkeypatch.setattr("archiver.doctor.spool.os.statvfs", lambda _: found)
    assert spool_checks(spool)["space"].status == "ok"


def test_files_of_another_user_are_a_warning_unless_we_are_root(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spool / "theirs.json").write_text("{}")
    monkeypatch.setattr("archiver.doctor.spool.os.geteuid", lambda: os.getuid() + 4711)
    assert spool_checks(spool)["owners"].status == "warning"
    monkeypatch.setattr("archiver.doctor.spool.os.geteuid", lambda: 0)
    assert spool_checks(spool)["owners"].status == "ok"


def test_files_that_may_not_be_read_fail(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (spool / "closed.json").write_text("{}")
    monkeypatch.setattr("archiver.doctor.spool.os.access", lambda *_: False)
    assert "closed.json" in spool_checks(spool)["readable"].found


def test_names_of_no_known_kind_are_a_warning_and_shown_as_data(spool: Path) -> None:
    for name in ("a.csv", "b\x1b[31m.txt", ".hidden", "good.jsonl.gz"):
        (spool / name).write_text("")
    check = spool_checks(spool)["names"]
    assert check.status == "warning"
    assert "'a.csv'" in check.found
    assert "\x1b" not in check.found
    assert "hidden" not in check.found


def test_claims_of_dead_runs_are_a_warning_and_those_of_live_ones_are_not(spool: Path) -> None:
    claim = spool / "claims" / "one"
    claim.mkdir(parents=True)
    with (claim / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert spool_checks(spool)["claims"].status == "ok"
    assert spool_checks(spool)["claims"].status == "warning"
    (claim / "lock").unlink()
    assert spool_checks(spool)["claims"].status == "warning"


def test_a_spool_that_remembers_another_archive_fails(tmp_path: Path, spool: Path) -> None:
    store = LocalStore(tmp_path / "archive")
    elsewhere = ("00000000-0000-4000-8000-000000000000", "s3://elsewhere/audit")
    SpoolSource(spool, name="spool").remember_archive(*elsewhere, head=0, head_digest="")
    name = f"spool {spool}: archive"
    absent = examine(store, spool)[name]
    assert absent.status == "failed"
    assert "s3://elsewhere/audit" in absent.found
    store = LocalStore(tmp_path / "archive")
    init_archive(store, rounds=0)
    assert examine(store, spool)[name].status == "failed"
    (spool / REMEMBERED).write_text("[]")
    assert examine(store, spool)[name].status == "failed"
