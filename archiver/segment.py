"""The archiver's own spool files: deliveries in frames, sealed under a name only when complete.

    file   = "ARCHSEG1" frame*
    frame  = header stream body                    all integers little-endian
    header = body bytes u32 | stream bytes u16 | flags u16 (0) | received_at i64 | crc u32

`received_at` is in microseconds since 1970, UTC; `stream` is UTF-8, empty for none;
`crc` is the CRC-32 of zlib over the header's first 16 bytes, the stream and the body.
A body is what one delivery carried, byte for byte, line breaks included.

The reader trusts nothing: what it cannot make out becomes a `BadStretch` that keeps
the bytes. It never searches for the next frame inside a damaged one, because a body
may hold the image of a frame, with another stream's name on it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, NamedTuple, Self

from archiver import durable
from archiver.errors import SourceError

MAGIC = b"ARCHSEG1"
SUFFIX = ".seg"
_OWN_NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}\.seg", re.ASCII)
LARGEST_BODY_BYTES = 32 * 1024 * 1024
LONGEST_STREAM_BYTES = 255
LARGEST_PIECE_BYTES = 16 * 1024 * 1024

_HEADER = struct.Struct("<IHHqI")
_CHECKED = struct.Struct("<IHHq")
_LAST_INSTANT = 253_402_300_800_000_000  # the year 10000 in microseconds
_CHUNK_BYTES = 2048 * 1024
_LOOK_BYTES = 64 * 1024
_WRITE_BUFFER_BYTES = 1024 * 1024


def is_own_name(name: str) -> bool:
    """Whether `SegmentWriter` gives such names: only to files that are complete."""
    return _OWN_NAME.fullmatch(name) is not None


class Frame(NamedTuple):
    """One delivery. `offset` is where its body begins in the file."""

    body: bytes
    received_at: int
    stream: str | None
    offset: int


class Frames(NamedTuple):
    """A run of deliveries as parallel lists; fields as in `Frame`."""

    bodies: list[bytes]
    received_at: list[int]
    streams: list[str | None]
    offsets: list[int]


class BadStretch(NamedTuple):
    """Bytes that hold no frame, at most 16 MiB of them; longer stretches come in several pieces."""

    reason: Literal["torn_frame", "damaged_frame"]
    detail: str
    offset: int
    content: bytes


def frame_head(body: bytes | bytearray, received_at_us: int, stream: str | None = None) -> bytes:
    """Return what stands before `body` in its frame; both together are the frame.

    Raises:
        SourceError: It is longer than 32 MiB, the stream's name is longer than 255 bytes
            or has no UTF-8, or the time is not within 1970 to 9999.
    """
    try:
        name = stream.encode() if stream else b""
    except UnicodeEncodeError:
        raise SourceError("a stream's name with a lone surrogate") from None
    if len(body) > LARGEST_BODY_BYTES or len(name) > LONGEST_STREAM_BYTES:
        raise SourceError(
            f"a delivery of {len(body)} bytes of stream name {len(name)} bytes long does not fit a frame:"
            f" at most {LARGEST_BODY_BYTES} and {LONGEST_STREAM_BYTES}"
        )
    if not 0 <= received_at_us < _LAST_INSTANT:
        raise SourceError(f"received_at {received_at_us} is not within the years 1970 to 9999")
    head = _CHECKED.pack(len(body), len(name), 0, received_at_us)
    check = zlib.crc32(body, zlib.crc32(head + name))
    return b"".join((head, check.to_bytes(4, "little"), name))


class SegmentWriter:
    """Writes one segment; readers see it when it is sealed, whole, and not before.

    Until then it lies under a dot-name that no reader touches. As a context manager it
    seals at the end, and discards when an exception passes through.

    Args:
        folder: The spool folder; created when it is missing.
    """

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder)
        name = f"{time.time_ns():016x}-{secrets.token_hex(8)}{SUFFIX}"
        self._open_path = self._folder / f".{name}.open"
        self._sealed_path = self._folder / name
        self._sealed = False
        self.frames = 0
        self.bytes = len(MAGIC)
        try:
            durable.make_folders(self._folder)
            handle = os.open(self._open_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
            self._file = os.fdopen(handle, "wb", buffering=_WRITE_BUFFER_BYTES)
            self._file.write(MAGIC)
        except OSError as error:
            raise SourceError(f"{self._folder}: cannot start a segment: {error.strerror}") from error

    def append(self, body: bytes, received_at_us: int, stream: str | None = None) -> None:
        """Add a delivery. It is durable only after `seal`.

        Raises:
            SourceError: It is longer than 32 MiB, the stream's name is longer than 255 bytes
                or has no UTF-8, the time is not within 1970 to 9999, or the disk refused.
                Of the first three nothing was written.
        """
        head = frame_head(body, received_at_us, stream)
        try:
            self._file.write(head + body)
        except OSError as error:
            raise SourceError(f"{self._open_path}: cannot write: {error.strerror}") from error
        self.frames += 1
        self.bytes += len(head) + len(body)

    def seal(self) -> Path:
        """Make the segment durable and visible, and return its path. Nothing can be added afterwards.

        Raises:
            SourceError: It was discarded, or the disk refused: do not count on the segment.
        """
        if self._sealed:
            return self._sealed_path
        if self._file.closed:
            raise SourceError(f"{self._sealed_path}: was discarded")
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._open_path.rename(self._sealed_path)
            durable.sync_folder(self._folder)
        except OSError as error:
            raise SourceError(f"{self._open_path}: cannot seal: {error.strerror}") from error
        self._sealed = True
        return self._sealed_path

    def discard(self) -> None:
        """Give the unsealed segment up, with all that was appended."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._open_path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.seal()
        else:
            self.discard()


def read_frames(file: BinaryIO) -> Iterator[Frame | BadStretch]:
    """Yield the deliveries of a segment, and the stretches that hold none, in order."""
    for found in read_runs(file):
        if isinstance(found, BadStretch):
            yield found
        else:
            yield from map(Frame._make, zip(*found, strict=True))


def read_runs(file: BinaryIO) -> Iterator[Frames | BadStretch]:
    """As `read_frames`, some megabytes at a time: parallel lists cost a third of an object a frame."""
    return _Reader(file).read()


def received_times(handle: int) -> Iterator[int]:
    """Yield when each delivery was received, in microseconds since 1970, by the heads of the frames alone.

    Ends at the first head that cannot be. No checksum is looked at: it is for whoever counts.

    Raises:
        OSError: The file cannot be read.
    """
    data, before, position = os.pread(handle, _LOOK_BYTES, 0), 0, len(MAGIC)
    if not data.startswith(MAGIC):
        return
    unpack = _HEADER.unpack_from
    while True:
        if position + _HEADER.size > before + len(data):
            data, before = os.pread(handle, _LOOK_BYTES, position), position
            if len(data) < _HEADER.size:
                return
        length, name_length, flags, received_at, _ = unpack(data, position - before)
        too_long = length > LARGEST_BODY_BYTES or name_length > LONGEST_STREAM_BYTES
        # 0: the file goes on in zeros, as after a loss of power
        if flags or too_long or not 0 < received_at < _LAST_INSTANT:
            return
        position += _HEADER.size + length + name_length
        yield received_at


class _Names(dict[bytes, str | None]):
    """The streams' names seen so far, decoded once each."""

    def __missing__(self, name: bytes) -> str:
        self[name] = text = name.decode()
        return text


class _Reader:
    """`data[position:]` is what was read and not yet given out; `before` bytes precede `data` in the file."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.data = b""
        self.position = 0
        self.before = 0
        self.names = _Names({b"": None})

    def need(self, count: int) -> bool:
        """Have `count` bytes from `position` on in `data`; false if the file ends before."""
        missing = count - (len(self.data) - self.position)
        if missing <= 0:
            return True
        pieces = [self.data[self.position :]]
        self.before += self.position
        self.position = 0
        while missing > 0 and (piece := self.file.read(max(missing, _CHUNK_BYTES))):
            pieces.append(piece)
            missing -= len(piece)
        self.data = b"".join(pieces)
        return missing <= 0

    def read(self) -> Iterator[Frames | BadStretch]:
        if not self.need(len(MAGIC)):
            # An empty file holds nothing, so there is nothing to report either.
            yield from self.rest("torn_frame", "the file ends before its header does")
            return
        if not self.data.startswith(MAGIC):
            yield from self.rest("damaged_frame", "the file does not begin as a segment does")
            return
        self.position = len(MAGIC)
        while True:
            run = Frames([], [], [], [])
            stop = self.run(run)
            if run.bodies:
                yield run
            if stop == "checksum":
                yield from self.damaged()
            elif stop == "header":
                yield from self.rest("damaged_frame", "a frame's header that cannot be")
            elif stop == "zeros":
                yield from self.rest("torn_frame", "the file goes on in zeros, as after a loss of power")
            elif not self.need(_HEADER.size):
                yield from self.rest("torn_frame", "the file ends inside a frame's header")
                return
            elif not self.need(self.frame_bytes()):
                left = len(self.data) - self.position
                yield from self.rest(
                    "torn_frame", f"{left} bytes are left of a frame of {self.frame_bytes()}"
                )
                return

    def run(self, run: Frames) -> Literal["more", "header", "checksum", "zeros"]:
        """Take frames out of `data` until it ends or one is bad; `position` is then at that one."""
        data, names, crc32, unpack = self.data, self.names, zlib.crc32, _HEADER.unpack_from
        add_body, add_time = run.bodies.append, run.received_at.append
        add_stream, add_offset = run.streams.append, run.offsets.append
        position, before, size = self.position, self.before, len(data)
        stop: Literal["more", "header", "checksum", "zeros"] = "more"
        try:
            while (start := position + 20) <= size:
                length, name_length, flags, received_at, check = unpack(data, position)
                body_at = start + name_length
                end = body_at + length
                if end > size:
                    break
                name = data[start:body_at]
                body = data[body_at:end]
                if crc32(body, crc32(data[position : position + 16] + name)) != check:
                    stop = "checksum" if any(data[position:start]) else "zeros"
                    break
                if flags or not 0 <= received_at < _LAST_INSTANT:
                    break
                add_stream(names[name])
                add_body(body)
                add_time(received_at)
                add_offset(before + body_at)
                position = end
        except UnicodeDecodeError:
            stop = "checksum"
        self.position = position
        if size - position >= _HEADER.size and not self.sane(position):
            return "header"
        return stop

    def frame_bytes(self) -> int:
        """Length of the frame at `position` as its header, which is in `data`, says it."""
        length, name_length = _HEADER.unpack_from(self.data, self.position)[:2]
        return _HEADER.size + int(length) + int(name_length)

    def sane(self, position: int) -> bool:
        length, name_length, flags, received_at, _ = _HEADER.unpack_from(self.data, position)
        return (
            not flags
            and length <= LARGEST_BODY_BYTES
            and name_length <= LONGEST_STREAM_BYTES
            and 0 <= received_at < _LAST_INSTANT
        )

    def damaged(self) -> Iterator[BadStretch]:
        """Report the frame at `position`; stand behind it if its length can be believed."""
        length = self.frame_bytes()
        followed = self.need(length + _HEADER.size)
        ends_here = len(self.data) - self.position == length
        if ends_here or (followed and self.sane(self.position + length)):
            content = self.data[self.position : self.position + length]
            yield from _pieces("a frame's checksum is wrong", self.before + self.position, content)
            self.position += length
        else:
            yield from self.rest(
                "damaged_frame", "a frame's checksum is wrong, and no frame begins where it says that it ends"
            )

    def rest(self, reason: Literal["torn_frame", "damaged_frame"], detail: str) -> Iterator[BadStretch]:
        """Report all that is left of the file."""
        part = 1
        while self.need(1):
            self.need(LARGEST_PIECE_BYTES)
            content = self.data[self.position : self.position + LARGEST_PIECE_BYTES]
            at = self.before + self.position
            self.position += len(content)
            several = part > 1 or self.need(1)
            yield BadStretch(reason, _part(detail, part, at) if several else detail, at, content)
            part += 1


def _part(detail: str, part: int, offset: int) -> str:
    return f"{detail} (part {part}, from byte {offset})"


def _pieces(detail: str, offset: int, content: bytes) -> Iterator[BadStretch]:
    """Cut a damaged frame into pieces of at most 16 MiB."""
    starts = range(0, len(content), LARGEST_PIECE_BYTES)
    for part, start in enumerate(starts, 1):
        at = offset + start
        text = _part(detail, part, at) if len(starts) > 1 else detail
        yield BadStretch("damaged_frame", text, at, content[start : start + LARGEST_PIECE_BYTES])
