"""Segments: what was appended comes back, and what is damaged is kept."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver import segment
from archiver.errors import SourceError
from archiver.segment import BadStretch, Frame, SegmentWriter, read_frames

FRAMES = st.lists(
    st.tuples(
        st.binary(max_size=200),
        st.integers(0, 253_402_300_799_999_999),
        st.one_of(st.none(), st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)),
    ),
    max_size=8,
)


def written(folder: Path, frames: list[tuple[bytes, int, str | None]]) -> bytes:
    with SegmentWriter(folder) as writer:
        for frame in frames:
            writer.append(*frame)
    [path] = folder.glob("*.seg")
    content = path.read_bytes()
    path.unlink()
    return content


def read(content: bytes) -> list[Frame | BadStretch]:
    return list(read_frames(io.BytesIO(content)))


@given(frames=FRAMES)
def test_frames_come_back_as_they_were_appended(tmp_path_factory, frames):
    content = written(tmp_path_factory.mktemp("spool"), frames)
    found = read(content)
    assert [(f.body, f.received_at, f.stream) for f in found] == frames
    assert all(content[f.offset : f.offset + len(f.body)] == f.body for f in found)


@given(frames=FRAMES, data=st.data())
def test_no_byte_of_a_damaged_segment_is_lost_and_no_altered_frame_is_believed(
    tmp_path_factory, frames, data
):
    content = bytearray(written(tmp_path_factory.mktemp("spool"), frames))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    kept = 0
    for found in read(bytes(content)):
        if isinstance(found, Frame):
            assert (found.body, found.received_at, found.stream) in frames
            kept += 20 + len((found.stream or "").encode()) + len(found.body)
        else:
            assert content[found.offset : found.offset + len(found.content)] == found.content
            kept += len(found.content)
    assert kept == len(content) - (8 if at >= 8 else 0)


@given(frames=FRAMES, data=st.data())
def test_a_segment_cut_anywhere_gives_its_whole_frames_and_one_torn_stretch(tmp_path_factory, frames, data):
    content = written(tmp_path_factory.mktemp("spool"), frames)
    cut = data.draw(st.integers(0, len(content) - 1))
    found = read(content[:cut])
    whole = [f for f in found if isinstance(f, Frame)]
    assert [(f.body, f.received_at, f.stream) for f in whole] == frames[: len(whole)]
    torn = found[len(whole) :]
    assert [t.reason for t in torn] in ([], ["torn_frame"])
    used = 8 + sum(20 + len((f.stream or "").encode()) + len(f.body) for f in whole)
    assert bool(torn) == (0 < cut != used)
    if torn and cut > 8:
        assert torn[0].content == content[used:cut]


def test_reading_goes_on_behind_a_frame_whose_body_is_damaged(tmp_path):
    content = bytearray(written(tmp_path, [(b"first", 1, "a"), (b"second", 2, None), (b"third", 3, None)]))
    content[content.index(b"second")] ^= 1
    first, bad, third = read(bytes(content))
    assert (first.body, bad.reason, third.body) == (b"first", "damaged_frame", b"third")
    assert bad.content.endswith(b"recond")


def test_the_image_of_a_frame_inside_a_damaged_one_is_not_a_frame(tmp_path):
    inner = written(tmp_path, [(b"forged", 5, "other-tenant")])[8:]
    content = bytearray(written(tmp_path, [(b"x" * 9 + inner + b"y", 1, "a")]))
    content[8] ^= 4  # its length
    assert all(isinstance(f, BadStretch) for f in read(bytes(content)))


def test_a_segment_has_no_name_before_it_is_sealed(tmp_path):
    writer = SegmentWriter(tmp_path)
    writer.append(b"{}", 1)
    assert [p.name[0] for p in tmp_path.iterdir()] == ["."]
    path = writer.seal()
    assert list(tmp_path.iterdir()) == [path]
    assert writer.bytes == path.stat().st_size
    assert writer.frames == 1


def test_a_failed_writer_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), SegmentWriter(tmp_path) as writer:
        writer.append(b"{}", 1 // 0)
    assert list(tmp_path.iterdir()) == []


def test_segments_sort_by_the_time_they_were_begun(tmp_path):
    names = []
    for _ in range(5):
        with SegmentWriter(tmp_path) as writer:
            names.append(writer.seal().name)
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("body", "received_at", "stream"),
    [
        (bytes(32 * 1024 * 1024 + 1), 1, None),
        (b"{}", -1, None),
        (b"{}", 2**63 - 1, None),
        (b"{}", 1, "x" * 256),
        (b"{}", 1, "\ud800"),
    ],
)
def test_what_fits_no_frame_is_refused_and_changes_nothing(tmp_path, body, received_at, stream):
    writer = SegmentWriter(tmp_path)
    with pytest.raises(SourceError):
        writer.append(body, received_at, stream)
    writer.append(b"after", 2)
    writer.seal()
    [path] = tmp_path.iterdir()
    assert [f.body for f in read(path.read_bytes())] == [b"after"]


def test_a_body_of_32_mib_is_a_frame(tmp_path):
    body = b"[" + b"7" * (32 * 1024 * 1024 - 2) + b"]"
    [frame] = read(written(tmp_path, [(body, 1, None)]))
    assert frame.body == body


def test_rubbish_is_kept_in_pieces_of_16_mib():
    content = b"rubbish!" * (5 * 1024 * 1024)
    found = read(content)
    assert [len(f.content) for f in found] == [16 * 1024 * 1024, 16 * 1024 * 1024, 8 * 1024 * 1024]
    assert b"".join(f.content for f in found) == content
    assert ["part 1" in found[0].detail, "part 3" in found[2].detail] == [True, True]


def test_the_layout_is_the_documented_one(tmp_path):
    head = struct.pack("<IHHq", 2, 4, 0, 1_700_000_000_000_000)
    check = zlib.crc32(head + b"acme" + b"{}")
    expected = b"ARCHSEG1" + head + struct.pack("<I", check) + b"acme{}"
    assert written(tmp_path, [(b"{}", 1_700_000_000_000_000, "acme")]) == expected


def test_flags_of_a_later_version_are_not_read_over(tmp_path):
    head = struct.pack("<IHHq", 2, 0, 1, 5)
    content = b"ARCHSEG1" + head + struct.pack("<I", zlib.crc32(head + b"{}")) + b"{}"
    [bad] = read(content)
    assert bad.reason == "damaged_frame"
    assert segment.MAGIC not in bad.content
