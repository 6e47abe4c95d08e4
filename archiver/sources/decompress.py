"""Decompressing what nobody vouches for: in portions, and only so far.

gzip and zstd carry their check sums at the end, so what comes before a damage has been
given out when the damage is seen. An altered byte may thus pass as text; the damaged
file is kept beside what it gave.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO, Literal, NamedTuple

import zstandard

from archiver.sources.elements import CutShort

Compression = Literal["none", "gzip", "zstd"]

PORTION_BYTES = 256 * 1024
LARGEST_EXPANSION = 200
EXPANSION_SLACK_BYTES = 16 * 1024 * 1024
LARGEST_WINDOW_BYTES = 128 * 1024 * 1024  # what the zstd program accepts by default

_GZIP_INPUT_BYTES = 16 * 1024
# A zstd block of four bytes may stand for 128 KiB, and the decoder gives all that its input
# stands for at once: 512 bytes of input are at most 16 MiB of output.
_ZSTD_INPUT_BYTES = 512


class Damage(NamedTuple):
    """Why a file was not decoded to its end."""

    reason: CutShort
    detail: str


def portions(file: BinaryIO, compression: Compression) -> Iterator[bytes | Damage]:
    """Yield the decoded bytes of `file`, about a quarter of a megabyte at a time; a `Damage` comes last.

    Raises:
        OSError: The file cannot be read.
    """
    if compression == "none":
        while portion := file.read(PORTION_BYTES):
            yield portion
        return
    steps = _gunzip(file) if compression == "gzip" else _unzstd(file)
    collected: list[bytes] = []
    size = produced = 0
    for output, consumed in steps:
        if isinstance(output, Damage):
            yield b"".join(collected)
            yield output
            return
        collected.append(output)
        size += len(output)
        produced += len(output)
        if produced > EXPANSION_SLACK_BYTES + LARGEST_EXPANSION * consumed:
            yield b"".join(collected)
            detail = f"{consumed} bytes decode to {produced} and more, over 1 to {LARGEST_EXPANSION}"
            yield Damage("expansion_limit", detail)
            return
        if size >= PORTION_BYTES:
            yield b"".join(collected)
            collected, size = [], 0
    yield b"".join(collected)


def _gunzip(file: BinaryIO) -> Iterator[tuple[bytes | Damage, int]]:
    """Yield decoded pieces, each with how many bytes of the file were used up by then."""
    consumed = 0
    decoder = None
    data = b""
    try:
        while True:
            if not data:
                data = file.read(_GZIP_INPUT_BYTES)
                if not data:
                    break
            decoder = decoder or zlib.decompressobj(wbits=31)
            before = len(data)
            output = decoder.decompress(data, PORTION_BYTES)
            data = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
            consumed += before - len(data)
            if decoder.eof:
                decoder = None  # what follows is another member, or damage
            yield output, consumed
        while decoder and (output := decoder.decompress(b"", PORTION_BYTES)):
            yield output, consumed
    except zlib.error as error:
        yield Damage("damaged_file", f"gzip, near byte {consumed}: {error}"), consumed
        return
    if decoder and not decoder.eof:
        yield Damage("damaged_file", f"gzip: the file ends inside its stream, at byte {consumed}"), consumed


def _unzstd(file: BinaryIO) -> Iterator[tuple[bytes | Damage, int]]:
    consumed = 0
    maker = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW_BYTES)
    decoder = None
    try:
        while read := file.read(PORTION_BYTES):
            for start in range(0, len(read), _ZSTD_INPUT_BYTES):
                data = read[start : start + _ZSTD_INPUT_BYTES]
                while data:
                    decoder = decoder or maker.decompressobj()
                    output = decoder.decompress(data)
                    rest = decoder.unused_data if decoder.eof else b""
                    if decoder.eof:
                        decoder = None
                    consumed += len(data) - len(rest)
                    data = rest
                    yield output, consumed
    except zstandard.ZstdError as error:
        yield Damage("damaged_file", f"zstd, near byte {consumed}: {error}"), consumed
        return
    if decoder:
        yield Damage("damaged_file", f"zstd: the file ends inside a frame, at byte {consumed}"), consumed
