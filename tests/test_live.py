"""Live segments: what was synced is there whatever becomes of the writer; whoever finds it seals it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from archiver import live, segment
from archiver.errors import SourceError
from archiver.live import LiveSegment, recover
from archiver.segment import frame_head, read_frames
from tests.support import RECEIVED_US


def pieces(*bodies: bytes) -> list[bytes]:
    return [piece for body in bodies for piece in (frame_head(body, RECEIVED_US, "eu"), body)]


def bodies_in(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return [found.body for found in read_frames(file) if isinstance(found, segment.Frame)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def abandon(growing: LiveSegment) -> None:
    """Leave it as a killed process does: handles closed by the kernel, nothing else."""
    os.close(growing._file)
    os.close(growing._lock)


def test_a_sealed_segment_has_every_delivery_and_a_segments_name(tmp_path: Path) -> None:
    growing = LiveSegment(tmp_path)
    growing.append(pieces(b"one", b"two\n", b""), 3)
    growing.sync()
    sealed = growing.seal()
    assert sealed is not None
    assert segment.is_own_name(sealed.name)
    assert bodies_in(sealed) == [b"one", b"two\n", b""]
    assert names(tmp_path) == [sealed.name]


def test_a_segment_without_deliveries_leaves_nothing(tmp_path: Path) -> None:
    growing = LiveSegment(tmp_path)
    growing.sync()
    assert growing.seal() is None
    assert names(tmp_path) == []


def test_what_lives_is_not_recovered(tmp_path: Path) -> None:
    growing = LiveSegment(tmp_path)
    growing.append(pieces(b"one"), 1)
    growing.sync()
    assert recover(tmp_path) == []
    assert growing.seal() is not None


def test_what_a_dead_writer_left_is_sealed_once(tmp_path: Path) -> None:
    growing = LiveSegment(tmp_path)
    growing.append(pieces(b"one", b"two"), 2)
    growing.sync()
    abandon(growing)
    (found,) = recover(tmp_path)
    assert (found.deliveries, found.torn_bytes) == (2, 0)
    assert bodies_in(found.path) == [b"one", b"two"]
    assert recover(tmp_path) == []


def test_a_torn_tail_is_counted_and_stays_for_its_reader(tmp_path: Path) -> None:
    growing = LiveSegment(tmp_path)
    growing.append([*pieces(b"one"), *pieces(b"of this only a part was written")[:1], b"of thi"], 2)
    abandon(growing)
    (found,) = recover(tmp_path)
    assert found.deliveries == 1
    assert found.torn_bytes > 6
    with found.path.open("rb") as file:
        *_, torn = read_frames(file)
    assert isinstance(torn, segment.BadStretch)
    assert torn.reason == "torn_frame"


def test_a_tail_of_zeros_is_one_torn_stretch(tmp_path: Path) -> None:
    path = tmp_path / "0000000000000000-0000000000000000.seg"
    path.write_bytes(segment.MAGIC + b"".join(pieces(b"one")) + bytes(100_000))
    with path.open("rb") as file:
        first, torn = read_frames(file)
    assert isinstance(first, segment.Frame)
    assert first.body == b"one"
    assert isinstance(torn, segment.BadStretch)
    assert (torn.reason, len(torn.content)) == ("torn_frame", 100_000)


@pytest.mark.parametrize("size", [0, 3, 8])
def test_a_file_that_died_before_its_first_delivery_is_taken_away(tmp_path: Path, size: int) -> None:
    (tmp_path / ".0123456789abcdef-0123456789abcdef.seg.live").write_bytes(segment.MAGIC[:size])
    assert recover(tmp_path) == []
    assert names(tmp_path) == []


def test_other_peoples_dot_files_are_not_touched(tmp_path: Path) -> None:
    for name in (".something.live", ".0123456789abcdef-0123456789abcdef.seg.open", "x.live"):
        (tmp_path / name).write_bytes(b"ARCHSEG1 and more")
    before = names(tmp_path)
    assert recover(tmp_path) == []
    assert names(tmp_path) == before


def test_each_consumer_gets_a_link_and_may_unlink_it(tmp_path: Path) -> None:
    for consumer in ("splunk", "elastic", ".not-ready"):
        (tmp_path / live.CONSUMERS / consumer).mkdir(parents=True)
    growing = LiveSegment(tmp_path)
    growing.append(pieces(b"one"), 1)
    growing.sync()
    sealed = growing.seal()
    assert sealed is not None
    copies = sorted((tmp_path / live.CONSUMERS).glob("*/*.seg"))
    assert [copy.parent.name for copy in copies] == ["elastic", "splunk"]
    assert {copy.stat().st_ino for copy in copies} == {sealed.stat().st_ino}
    sealed.unlink()
    assert bodies_in(copies[0]) == [b"one"]


def test_recovery_links_for_consumers_that_the_dead_writer_did_not_reach(tmp_path: Path) -> None:
    for consumer in ("a", "b"):
        (tmp_path / live.CONSUMERS / consumer).mkdir(parents=True)
    growing = LiveSegment(tmp_path)
    growing.append(pieces(b"one"), 1)
    growing.sync()
    name = growing._live.name.removeprefix(".").removesuffix(live.SUFFIX)
    os.link(growing._live, tmp_path / live.CONSUMERS / "a" / name)
    abandon(growing)
    recover(tmp_path)
    assert sorted(path.parent.name for path in (tmp_path / live.CONSUMERS).glob("*/*.seg")) == ["a", "b"]


def test_after_a_failed_fsync_nothing_is_added_nor_synced_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    growing = LiveSegment(tmp_path)
    growing.append(pieces(b"durable"), 1)
    growing.sync()
    growing.append(pieces(b"doubtful"), 1)
    calls = []

    def failing(handle: int) -> None:
        calls.append(handle)
        raise OSError(5, "Input/output error")

    file = growing._file
    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(SourceError, match="cannot fsync"):
        growing.sync()
    with pytest.raises(SourceError, match="broken"):
        growing.append(pieces(b"more"), 1)
    with pytest.raises(SourceError, match="broken"):
        growing.sync()
    assert calls == [file]
    monkeypatch.setattr("archiver.durable.sync_folder", lambda _: None)
    sealed = growing.seal()
    assert calls == [file]
    assert sealed is not None
    assert bodies_in(sealed)[0] == b"durable"


def test_a_failed_write_leaves_what_was_durable_and_no_torn_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    growing = LiveSegment(tmp_path)
    growing.append(pieces(b"durable"), 1)
    growing.sync()
    real = os.write
    monkeypatch.setattr(live, "_LARGEST_COPY_BYTES", 0)

    def full(handle: int, content: bytes) -> int:
        if len(content) > 100:
            raise OSError(28, "No space left on device")
        return real(handle, content)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(SourceError, match="cannot write"):
        growing.append(pieces(b"fits", b"x" * 200), 2)
    sealed = growing.seal()
    assert sealed is not None
    with sealed.open("rb") as file:
        assert [found for found in read_frames(file) if isinstance(found, segment.BadStretch)] == []
    assert bodies_in(sealed) == [b"durable"]


def test_what_is_synced_into_a_deleted_file_is_not_called_durable(tmp_path: Path) -> None:
    growing = LiveSegment(tmp_path)
    growing.append(pieces(b"one"), 1)
    growing._live.unlink()
    with pytest.raises(SourceError, match="deleted"):
        growing.sync()
    assert growing.is_broken
    with pytest.raises(SourceError, match="cannot seal"):
        growing.seal()


def test_a_bounded_recovery_seals_one_at_least_and_leaves_the_rest(tmp_path: Path) -> None:
    for body in (b"one", b"two", b"three"):
        growing = LiveSegment(tmp_path)
        growing.append(pieces(body), 1)
        growing.sync()
        abandon(growing)
    assert [len(recover(tmp_path, seconds=0)) for _ in range(4)] == [1, 1, 1, 0]
    assert len(list(tmp_path.glob("*.seg"))) == 3


def test_what_is_no_file_under_a_live_name_is_told_and_stops_no_other(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".0000000000000000-0000000000000000.seg.live")
    (tmp_path / ".0000000000000001-0000000000000000.seg.live").mkdir()
    growing = LiveSegment(tmp_path)
    growing.append(pieces(b"one"), 1)
    growing.sync()
    abandon(growing)
    handles = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(SourceError, match="not a regular file"):
        recover(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == handles
    assert [bodies_in(path) for path in tmp_path.glob("*.seg")] == [[b"one"]]


def test_a_spool_that_is_gone_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="spool is gone"):
        LiveSegment(tmp_path / "not here")
