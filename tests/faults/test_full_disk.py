"""A disk that is full, under the archive and under the spool: a clear error, and a rerun completes."""

from __future__ import annotations

import random
from pathlib import Path

from archiver.store.local import LocalStore
from tests.faults.check import check_archive, spool_is_empty
from tests.faults.disks import Disk, fill
from tests.faults.runs import Deliveries, finish, start_run
from tests.support import event


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
    filler = fill(spool)

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
    filler = fill(spool)
    code, _, err = finish(start_run(spool, str(tmp_path / "archive")))
    assert code == 1, err
    assert "No space left on device" in err
    filler.unlink()
    code, _, err = finish(start_run(spool, str(tmp_path / "archive")))
    assert code in (0, 3), err
    check_archive(LocalStore(tmp_path / "archive"), events=deliveries.ids, rejected=deliveries.rejected)
