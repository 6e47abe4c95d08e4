"""A disk that is full, under the archive and under the spool: a clear error, and a rerun completes."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from archiver.store.local import LocalStore
from tests.faults.check import check_archive, spool_is_empty
from tests.faults.runs import Deliveries, finish, start_run
from tests.support import event

Disk = Callable[[str, int], Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mount a file system of some KiB at a new folder; mounting it again changes its size."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a full disk needs root, to mount a small file system; run the tests as root")
    mounted: list[Path] = []

    def mount(name: str, size_kib: int) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        how = f"size={size_kib}k" + (",remount" if folder in mounted else "")
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"a full disk needs the right to mount: {done.stderr.strip()[:100]}")
        if folder not in mounted:
            mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(folder: Path) -> Path:
    """Write a file until nothing more fits; its name is one that a spool leaves alone."""
    path = folder / ".filler"
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return path


def _held(spool: Path) -> dict[str, bytes]:
    """What of the deliveries lies in the spool, claimed or not."""
    found = {}
    for path in spool.rglob("*"):
        if path.is_file() and not path.name.startswith(".") and path.name not in ("lock", "batch.json"):
            found[path.name.partition("-")[2] or path.name] = path.read_bytes()
    return found


def test_a_full_archive_ends_the_run_and_a_rerun_completes(disk: Disk, tmp_path: Path) -> None:
    folder, spool = disk("archive", 600), tmp_path / "spool"
    spool.mkdir()
    draw = random.Random(5)
    bodies = [event(f"e{number}", note=draw.randbytes(400).hex()) for number in range(2_000)]
    for number in range(4):
        (spool / f"{number}.jsonl").write_bytes(b"\n".join(bodies[number::4]))
    before = _held(spool)

    code, _, err = finish(start_run(spool, str(folder)))

    assert code == 1, err
    assert "No space left on device" in err
    assert "make room and run again, nothing is lost" in err
    assert "Traceback" not in err
    assert _held(spool) == before
    disk("archive", 64 << 10)
    code, _, err = finish(start_run(spool, str(folder)))
    assert code == 0, err
    check_archive(LocalStore(folder), events={f"e{number}" for number in range(2_000)})
    assert spool_is_empty(spool)


def test_a_full_spool_ends_the_run_and_a_rerun_completes(disk: Disk, tmp_path: Path) -> None:
    spool, location = disk("spool", 512), str(tmp_path / "archive")
    deliveries = Deliveries(spool, random.Random(5))
    deliveries.deliver(50)
    assert finish(start_run(spool, location))[0] in (0, 3)
    deliveries.deliver(50)
    before = _held(spool)
    filler = _fill(spool)

    code, out, err = finish(start_run(spool, location))

    assert code == 1, (out, err)
    assert "No space left on device" in out + err
    assert "Traceback" not in err
    assert sorted(_held(spool).values()) == sorted(before.values())
    filler.unlink()
    code, _, err = finish(start_run(spool, location))
    assert code in (0, 3), err
    check_archive(LocalStore(tmp_path / "archive"), events=deliveries.ids, rejected=deliveries.rejected)
    assert spool_is_empty(spool)


def test_a_first_run_on_a_full_spool_ends_and_a_rerun_completes(disk: Disk, tmp_path: Path) -> None:
    spool = disk("spool", 512)
    deliveries = Deliveries(spool, random.Random(5))
    deliveries.deliver(50)
    filler = _fill(spool)
    code, _, err = finish(start_run(spool, str(tmp_path / "archive")))
    assert code == 1, err
    assert "No space left on device" in err
    filler.unlink()
    code, _, err = finish(start_run(spool, str(tmp_path / "archive")))
    assert code in (0, 3), err
    check_archive(LocalStore(tmp_path / "archive"), events=deliveries.ids, rejected=deliveries.rejected)
