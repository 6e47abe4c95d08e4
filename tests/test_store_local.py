"""What only a folder has: crashes between system calls, full disks, folders that vanish."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from archiver import durable
from archiver.errors import (
    PermissionDeniedError,
    PreconditionFailedError,
    StoreError,
    WriteOutcomeUnknownError,
)
from archiver.store.local import LocalStore


def fail_with(number: int) -> Callable[..., None]:
    def fail(*arguments: object, **_: object) -> None:
        raise OSError(number, os.strerror(number), str(arguments[0]))

    return fail


@pytest.mark.parametrize(
    ("number", "kind", "hint"),
    [
        (errno.ENOSPC, StoreError, "full"),
        (errno.EDQUOT, StoreError, "quota"),
        (errno.EROFS, StoreError, "read-only"),
        (errno.EACCES, PermissionDeniedError, "right"),
        (errno.EPERM, PermissionDeniedError, "right"),
        (errno.EIO, StoreError, "disk"),
    ],
)
def test_a_disk_that_refuses_is_told_with_the_path_and_what_to_do(
    local_store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[StoreError], hint: str
) -> None:
    local_store.put("a/first", b"1")
    monkeypatch.setattr(durable, "_write_temporary", fail_with(number))
    for put in (local_store.put, local_store.put_once):
        with pytest.raises(StoreError, match="archive/a/b: ") as caught:
            put("a/b", b"1")
        assert type(caught.value) is kind
        assert hint in caught.value.hint
    assert [one.key for one in local_store.list()] == ["a/first"]


def test_a_full_disk_leaves_no_temporary_file(
    local_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", fail_with(errno.ENOSPC))
    with pytest.raises(StoreError):
        local_store.put("a", b"1")
    monkeypatch.undo()
    local_store.put("a", b"1")
    assert [path.name for path in Path(local_store.location).iterdir()] == ["a"]


def test_a_commit_that_was_linked_but_not_made_durable_has_an_unknown_outcome(
    local_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_store.put("_ledger/0", b"0")
    monkeypatch.setattr(durable, "sync_folder", fail_with(errno.EIO))
    with pytest.raises(WriteOutcomeUnknownError, match="_ledger/1"):
        local_store.put_once("_ledger/1", b"1")
    assert local_store.get("_ledger/1") == b"1"


def test_everything_is_durable_before_the_put_returns(
    local_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(local_store.location)
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    local_store.put("a/b/c", b"1")
    folders = [path for path in synced if durable.TEMPORARY_PREFIX not in path]
    assert sorted(folders) == [str(root.parent), str(root), str(root / "a"), str(root / "a/b")]
    assert durable.TEMPORARY_PREFIX in synced[synced.index(str(root / "a/b")) - 1]  # bytes before name
    synced.clear()
    local_store.put("a/b/d", b"1")
    assert len(synced) == 2
    synced.clear()
    LocalStore(root).put("a/b/d", b"1")  # found, made by another: made durable here too
    assert synced[-1] == str(root / "a/b")
    assert str(root / "a") in synced


def test_two_processes_may_create_the_same_folder_at_once(tmp_path: Path) -> None:
    stores = [LocalStore(tmp_path / "new" / "archive") for _ in range(8)]
    line = threading.Barrier(8)

    def put(number: int) -> None:
        line.wait()
        stores[number].put(f"a/b/c/{number}", b"1")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(put, range(8)))
    assert len(list(stores[0].list())) == 8


def test_deletion_removes_the_folders_that_it_empties_but_never_the_root(local_store: LocalStore) -> None:
    root = Path(local_store.location)
    local_store.put("a/b/c", b"1")
    local_store.put("a/d", b"1")
    local_store.delete(["a/b/c"])
    assert not (root / "a/b").exists()
    local_store.delete(["a/d"])
    assert list(root.iterdir()) == []
    local_store.put("a/b/c", b"1")  # the store thought that it knew this folder
    assert local_store.get("a/b/c") == b"1"


def test_puts_survive_a_collect_that_removes_their_folders_again_and_again(tmp_path: Path) -> None:
    writer, collector = LocalStore(tmp_path), LocalStore(tmp_path)
    done = threading.Event()

    def collect() -> None:
        while not done.is_set():
            collector.delete(["a/b/never", "a/b/c/never"])
            time.sleep(0.001)

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        for number in range(100):
            writer.put("a/b/c/x", b"%d" % number)
            writer.delete(["a/b/c/x"])
    finally:
        done.set()
        thread.join()


def test_an_archive_whose_disk_was_unmounted_is_not_made_anew(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "disk" / "archive")
    store.put("a", b"1")
    (tmp_path / "disk").rename(tmp_path / "away")
    (tmp_path / "disk").mkdir()
    for key in ("b", "a/c"):
        with pytest.raises(StoreError, match="vanishes") as caught:
            store.put(key, b"1")
        assert "mounted" in caught.value.hint
    assert list((tmp_path / "disk").iterdir()) == []


def test_temporary_files_of_dead_writers_are_not_listed_and_can_be_deleted(local_store: LocalStore) -> None:
    local_store.put("a/b", b"1")
    dead = Path(local_store.location) / "a" / f"{durable.TEMPORARY_PREFIX}0123"
    dead.write_bytes(b"half")
    assert [one.key for one in local_store.list()] == ["a/b"]
    assert local_store.delete_temporaries(older_than_seconds=3600) == 0
    old = time.time() - 7200
    os.utime(dead, (old, old))
    assert local_store.delete_temporaries(older_than_seconds=3600) == 1
    assert not dead.exists()
    assert local_store.get("a/b") == b"1"


def test_symbolic_links_are_no_way_out(local_store: LocalStore, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_bytes(b"secret")
    root = Path(local_store.location)
    local_store.put("a", b"1")
    (root / "file").symlink_to(secret / "file")
    (root / "folder").symlink_to(secret)
    assert [one.key for one in local_store.list()] == ["a", "file", "folder"]
    with pytest.raises(StoreError, match="file") as caught:
        local_store.get("file")
    assert "symbolic" in caught.value.hint
    with pytest.raises(PreconditionFailedError):
        local_store.put_once("file", b"other")
    assert (secret / "file").read_bytes() == b"secret"


def test_a_root_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        store = LocalStore(root)
        for put in (store.put, store.put_once):
            with pytest.raises(StoreError, match="file"):
                put("a/b", b"1")


def test_a_key_through_an_object_is_refused(local_store: LocalStore) -> None:
    local_store.put("a", b"1")
    with pytest.raises(StoreError, match="a/b"):
        local_store.put("a/b", b"1")
    assert local_store.get("a") == b"1"


def test_a_writer_killed_at_any_moment_leaves_whole_objects_or_none(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from archiver.store.local import LocalStore\n"
        "store = LocalStore(Path(sys.argv[1])); print('go', flush=True)\n"
        "for n in range(10**6): store.put(f'a/{n % 7}/{n}', bytes(100_000))\n"
    )
    for delay in (0.01, 0.03, 0.05):
        writer = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
        assert writer.stdout
        writer.stdout.readline()
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        store = LocalStore(tmp_path)
        objects = list(store.list())
        assert {one.bytes for one in objects} <= {100_000}
        store.delete(one.key for one in objects)
