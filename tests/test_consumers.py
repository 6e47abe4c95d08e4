"""Other consumers than the archive: each gets its link, and none whose folder fails holds the archive up."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from archiver import clock, live
from archiver.doctor.streams import check_inbox
from archiver.live import LiveSegment, recover
from archiver.segment import frame_head
from archiver.sources.spool import SpoolSource
from archiver.sources.waiting import count_waiting
from archiver.store.health import Check
from tests.faults.disks import Disk, disk  # noqa: F401  (a fixture)
from tests.faults.receiving import check_received, deliver_once, ids_in
from tests.services.process import wait_until
from tests.services.receiving import ReceiverProcess
from tests.support import RECEIVED_US, event


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """With three consumers."""
    folder = tmp_path / "spool"
    for name in ("a", "b", "c"):
        (folder / live.CONSUMERS / name).mkdir(parents=True)
    return folder


def grown(spool: Path) -> LiveSegment:
    growing = LiveSegment(spool)
    growing.append([frame_head(event("e"), RECEIVED_US, "eu"), event("e")], 1)
    growing.sync()
    return growing


def abandon(growing: LiveSegment) -> None:
    os.close(growing._file)
    os.close(growing._lock)


def served(spool: Path) -> list[str]:
    return sorted(path.parent.name for path in (spool / live.CONSUMERS).glob("*/*.seg"))


def refuse(monkeypatch: pytest.MonkeyPatch, consumer: str, error: int) -> None:
    """Let links into one consumer's folder fail."""
    real = os.link

    def link(source: Path, target: Path, **options: bool) -> None:
        if target.parent.name == consumer:
            raise OSError(error, os.strerror(error))
        real(source, target, **options)

    monkeypatch.setattr(os, "link", link)


REFUSALS = [errno.EACCES, errno.EPERM, errno.EXDEV, errno.ENOSPC, errno.EDQUOT, errno.EMLINK, errno.EIO]


@pytest.mark.parametrize("error", REFUSALS)
def test_a_consumer_that_takes_no_link_holds_nobody_up(
    spool: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    refuse(monkeypatch, "b", error)
    growing = grown(spool)
    assert growing.seal() is not None
    assert growing.missed == (f"{spool}/consumers/b: {os.strerror(error)}",)
    assert served(spool) == ["a", "c"]
    abandon(grown(spool))
    (found,) = recover(spool)
    assert found.missed == growing.missed
    assert len(list(spool.glob("*.seg"))) == 2


@pytest.mark.parametrize("is_dead", [False, True])
def test_every_link_is_there_before_the_archive_can_take_the_segment(
    spool: Path, monkeypatch: pytest.MonkeyPatch, *, is_dead: bool
) -> None:
    """After the rename a run may delete it at any moment, and nothing would be left to link."""
    seen: list[list[str]] = []
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        seen.append(served(spool))
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    growing = grown(spool)
    if is_dead:
        abandon(growing)
        recover(spool)
    else:
        growing.seal()
    assert seen == [["a", "b", "c"]]


def test_a_folder_of_consumers_that_cannot_be_read_holds_nothing_up(tmp_path: Path) -> None:
    (tmp_path / live.CONSUMERS).write_text("not a folder")
    growing = grown(tmp_path)
    assert growing.seal() is not None
    assert growing.missed == (f"{tmp_path}/consumers: Not a directory",)


def test_a_consumer_that_goes_away_meanwhile_has_missed_nothing(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "b", errno.ENOENT)
    growing = grown(spool)
    assert growing.seal() is not None
    assert growing.missed == ()


def test_a_run_that_seals_for_a_dead_receiver_tells_who_misses_what(
    spool: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(monkeypatch, "b", errno.EPERM)
    abandon(grown(spool))
    (batch,) = SpoolSource(spool, settle_seconds=0).batches(lambda: 0)
    batch.release()
    (told,) = caplog.messages
    assert told.startswith(f"{spool}/consumers/b: Operation not permitted: this consumer misses 1")


def test_a_consumer_may_get_a_segment_again_after_a_crash(spool: Path) -> None:
    """It had read and unlinked it when its writer died, between the links and the rename."""
    growing = grown(spool)
    name = growing._live.name.removeprefix(".").removesuffix(live.SUFFIX)
    os.link(growing._live, spool / live.CONSUMERS / "a" / name)
    (spool / live.CONSUMERS / "a" / name).unlink()
    abandon(growing)
    recover(spool)
    assert [path.name for path in (spool / live.CONSUMERS / "a").iterdir()] == [name]


def test_a_consumer_that_cannot_be_counted_hides_nothing_else(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown(spool).seal()
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "b":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = count_waiting(spool)
    assert found.archive.files == 1
    assert {name: (one.files, one.is_complete) for name, one in found.consumers.items()} == {
        "a": (1, True),
        "b": (0, False),
        "c": (1, True),
    }


def inbox(spool: Path) -> dict[str, Check]:
    found = check_inbox(spool, clock.now_us())
    return {check.name.removeprefix(f"spool {spool}: "): check for check in found}


def test_doctor_is_red_for_a_consumer_that_may_not_be_written_to(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {name: check.status for name, check in inbox(spool).items()} == {
        "live segments": "ok",
        "consumer a": "ok",
        "consumer b": "ok",
        "consumer c": "ok",
    }
    refuse(monkeypatch, "b", errno.EACCES)
    found = inbox(spool)["consumer b"]
    assert found.status == "failed"
    assert "misses segments" in found.found
    assert [path.name for path in spool.rglob(".*")] == [], "the trial leaves nothing"
    monkeypatch.undo()
    shutil.rmtree(spool / live.CONSUMERS)
    assert inbox(spool).keys() == {"live segments"}
    (spool / live.CONSUMERS).write_text("not a folder")
    assert inbox(spool)["consumers"].status == "failed"


def test_a_consumer_on_another_file_system_is_told_of_everywhere_and_delays_nothing(
    spool: Path,
    tmp_path: Path,
    disk: Disk,  # noqa: F811
) -> None:
    far = disk("spool/consumers/far", 1024)
    with ReceiverProcess(spool, words=("--seal-seconds", "0.1")) as receiver:
        for number in range(3):
            assert deliver_once(receiver.url, f"e{number}")[0] == 204
            wait_until("it is sealed", lambda number=number: len(list(spool.glob("*.seg"))) > number)  # type: ignore[misc]
        missed = "archiver_consumer_links_missed_total"
        counted = receiver.metrics()
        assert [value for name, value in counted.items() if name.startswith(missed)] == [3]
        assert receiver.terminate() == 0
        said = receiver.said.read_text()
        assert said.count("this consumer misses segments") == 1
        assert f"{far}: " in said
    three = {"e0", "e1", "e2"}
    assert ids_in(spool / live.CONSUMERS / "a") == three
    assert inbox(spool)["consumer far"].status == "failed"
    check_received(spool, tmp_path / "archive", acknowledged=three, sent=three)
