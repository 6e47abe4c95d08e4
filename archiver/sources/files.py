"""One file of the spool, whatever it holds, as blocks of elements; in bounded memory.

    *.seg                        the archiver's own segments
    *.jsonl, *.ndjson            an element a line
    *.json                       lines, if the first is a JSON value by itself; else values laid out freely
    each of the last two         plain, or with .gz or .zst behind

What holds no element becomes a rejection that keeps its bytes, cut into pieces of at
most 16 MiB. Of a file that cannot be decompressed to its end, what came out is read,
and the file as it lies on disk is kept besides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

import orjson

from archiver import segment
from archiver.block import Block, Reason, Rejection
from archiver.sources.decompress import Compression, portions
from archiver.sources.documents import Documents, add_text
from archiver.sources.elements import (
    LONGEST_ELEMENT_BYTES,
    WHITE_SPACE,
    CutShort,
    Elements,
    Splitter,
    Stretch,
    part_of,
)
from archiver.sources.lines import Lines

BLOCK_BYTES = 4 * 1024 * 1024

_SUFFIXES: dict[str, Literal["lines", "any"]] = {".json": "any", ".jsonl": "lines", ".ndjson": "lines"}
_COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd"}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_FIRST_LINE_BYTES = 2 * 1024 * 1024
# What an element costs beside its bytes: its object, and an entry in five lists.
_ELEMENT_COST_BYTES = 128
_MOST_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class Format:
    layout: Literal["segment", "lines", "any"]
    compression: Compression = "none"


def format_of(name: str) -> Format | None:
    """Say how to read a file by its name; None if it is none of ours."""
    lower = name.lower()
    if lower.endswith(segment.SUFFIX):
        return Format("segment")
    compression: Compression = "none"
    for suffix, value in _COMPRESSIONS.items():
        if lower.endswith(suffix):
            lower, compression = lower.removesuffix(suffix), value
    for ending, layout in _SUFFIXES.items():
        if lower.endswith(ending):
            return Format(layout, compression)
    return None


def read_file(
    file: BinaryIO,
    how: Format,
    *,
    size: int,
    input_number: int = 0,
    first_ordinal: int = 0,
    received_at: int = 0,
    block_bytes: int = BLOCK_BYTES,
    limit: int = LONGEST_ELEMENT_BYTES,
) -> Iterator[Block]:
    """Yield the elements of `file` in blocks of about `block_bytes`.

    The ordinals of elements and rejections together are consecutive from `first_ordinal`.
    The blocks' `input_bytes` sum to `size`; the last block may hold nothing else.

    Args:
        file: Opened for binary reading, unbuffered, at its start; it can be sought.
        how: From `format_of`.
        size: Of the file, in bytes, as it lies on disk.
        received_at: For elements that do not bring their own, in microseconds since 1970.
        limit: The longest element of a file that is not a segment, in bytes.

    Raises:
        OSError: The file cannot be read.
    """
    out = _Blocks(file, input_number, first_ordinal, received_at, block_bytes)
    if how.layout == "segment":
        yield from _read_segment(file, out)
    else:
        yield from _read_text(file, how, out, limit)
    yield out.take(size)


class _Blocks:
    """Collects what was found in a file until it makes a block."""

    def __init__(self, file: BinaryIO, number: int, ordinal: int, received_at: int, block_bytes: int) -> None:
        self.received_at = received_at
        self._file = file
        self._number = number
        self._ordinal = ordinal
        self._block_bytes = block_bytes
        self._reported = 0
        self._size = 0
        self._block = Block(number)

    def add(self, found: Elements, received_at: list[int], streams: list[str | None]) -> None:
        block, count = self._block, len(found.bodies)
        block.bodies += found.bodies
        block.offsets += found.offsets
        block.received_at += received_at
        block.streams += streams
        block.ordinals += range(self._ordinal, self._ordinal + count)
        self._ordinal += count
        self._size += sum(map(len, found.bodies)) + count * _ELEMENT_COST_BYTES

    def reject(
        self,
        reason: Reason,
        detail: str,
        offset: int,
        content: bytes,
        *,
        received_at: int | None = None,
        stream: str | None = None,
    ) -> None:
        when = self.received_at if received_at is None else received_at
        self._block.rejections.append(
            Rejection(self._ordinal, reason, detail, content, self._number, offset, when, stream)
        )
        self._ordinal += 1
        self._size += len(content) + 4 * _ELEMENT_COST_BYTES

    def add_pieces(self, found: list[Elements | Stretch]) -> Iterator[Block]:
        for piece in found:
            if isinstance(piece, Stretch):
                self.reject(piece.reason, piece.detail, piece.offset, piece.content)
            else:
                count = len(piece.bodies)
                self.add(piece, [self.received_at] * count, [None] * count)
            yield from self.full()

    def full(self) -> Iterator[Block]:
        if self._size >= self._block_bytes:
            yield self.take(self._file.tell())

    def take(self, position: int) -> Block:
        """Return what was collected; `position` is how far the file on disk was read for it."""
        block = self._block
        block.input_bytes = max(position - self._reported, 0)
        self._reported += block.input_bytes
        self._block, self._size = Block(self._number), 0
        return block


def _read_segment(file: BinaryIO, out: _Blocks) -> Iterator[Block]:
    for found in segment.read_runs(file):
        if isinstance(found, segment.BadStretch):
            out.reject(found.reason, found.detail, found.offset, found.content)
        else:
            start = 0
            for odd in [number for number, body in enumerate(found.bodies) if body[:1] != b"{"]:
                _add_frames(found, start, odd, out)
                start = odd + 1
                yield from _add_odd_frame(found, odd, out)
            _add_frames(found, start, len(found.bodies), out)
        yield from out.full()


def _add_frames(found: segment.Frames, start: int, end: int, out: _Blocks) -> None:
    """Add frames each of which is one element."""
    elements = Elements(found.bodies[start:end], found.offsets[start:end])
    out.add(elements, found.received_at[start:end], found.streams[start:end])


def _add_odd_frame(found: segment.Frames, number: int, out: _Blocks) -> Iterator[Block]:
    """Add a frame that may hold an array, or nothing."""
    body, offset = found.bodies[number], found.offsets[number]
    received_at, stream = found.received_at[number], found.streams[number]
    if not body.strip(WHITE_SPACE):
        # Somebody sent it and was told that it is kept, so it is accounted for.
        out.reject("not_json", "an empty delivery", offset, body, received_at=received_at, stream=stream)
        return
    inner = Elements([], [])
    add_text(inner, body, offset)
    for start in range(0, len(inner.bodies), _MOST_AT_ONCE):
        part = Elements(
            inner.bodies[start : start + _MOST_AT_ONCE], inner.offsets[start : start + _MOST_AT_ONCE]
        )
        count = len(part.bodies)
        out.add(part, [received_at] * count, [stream] * count)
        yield from out.full()


def _read_text(file: BinaryIO, how: Format, out: _Blocks, limit: int) -> Iterator[Block]:
    splitter = _Text(how.layout, limit)
    cut_short: CutShort | None = None
    detail = ""
    for portion in portions(file, how.compression):
        if isinstance(portion, bytes):
            yield from out.add_pieces(splitter.feed(portion))
        else:
            cut_short, detail = portion
    yield from out.add_pieces(splitter.finish(cut_short))
    if cut_short:
        file.seek(0)
        part = at = 0
        while content := file.read(LONGEST_ELEMENT_BYTES):
            part += 1
            out.reject(
                cut_short, f"{detail}; the file itself, {part_of('compressed', part, at)}", at, content
            )
            at += len(content)
            yield from out.full()


class _Text:
    """Chooses the splitter when it has seen enough; skips a byte order mark."""

    def __init__(self, layout: str, limit: int) -> None:
        self._lines = layout == "lines"
        self._limit = limit
        self._seen = b""
        self._splitter: Splitter | None = None

    def feed(self, portion: bytes) -> list[Elements | Stretch]:
        if self._splitter is not None:
            return self._splitter.feed(portion)
        self._seen += portion
        if len(self._seen) < 3 or not (self._lines or self._first_line_known()):
            return []
        self._splitter, seen = self._choose()
        return self._splitter.feed(seen)

    def finish(self, cut_short: CutShort | None) -> list[Elements | Stretch]:
        if self._splitter is not None:
            return self._splitter.finish(cut_short)
        splitter, seen = self._choose()
        return splitter.feed(seen) + splitter.finish(cut_short)

    def _first_line_known(self) -> bool:
        """Whether the first line that is not blank was seen to its end, and more behind it."""
        rest = self._seen.lstrip(WHITE_SPACE).partition(b"\n")[2]
        return len(self._seen) > _FIRST_LINE_BYTES or bool(rest.strip(WHITE_SPACE))

    def _choose(self) -> tuple[Splitter, bytes]:
        seen, self._seen = self._seen, b""
        offset = len(_BYTE_ORDER_MARK) if seen.startswith(_BYTE_ORDER_MARK) else 0
        seen = seen[offset:]
        if self._lines or _begins_with_whole_line(seen):
            return Lines(limit=self._limit, offset=offset), seen
        return Documents(limit=self._limit, offset=offset), seen


def _begins_with_whole_line(text: bytes) -> bool:
    """Whether the first line that is not blank is a JSON value by itself and another begins behind it."""
    line, _, rest = text.lstrip(WHITE_SPACE).partition(b"\n")
    if not rest or len(line) > _FIRST_LINE_BYTES:
        return False
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True
