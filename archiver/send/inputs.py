"""Deliveries to send: bodies out of files, folders and standard input, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from archiver import segment
from archiver.errors import ConfigError, SourceError
from archiver.sources.decompress import portions
from archiver.sources.elements import Elements, Stretch
from archiver.sources.files import Format, format_of, read_file
from archiver.sources.filing import shown, told
from archiver.sources.lines import Lines

STANDARD_INPUT: Final = "-"
_BLOCK_BYTES: Final = 1024 * 1024
_MOST_TOLD: Final = 10


class Inputs:
    """The bodies of some inputs, one after another: iterate over it once.

    A segment gives each frame's body, byte for byte; files of JSON give what the spool would
    take out of them: a line, a value, or each element of an array. Stretches that hold none
    are left out and told.

    Attributes:
        total_bytes: Of all files together, if none is compressed and none is standard input; else None.
        unreadable: How many stretches were left out so far.
        problems: The first ten of them, for people.
    """

    def __init__(self, paths: Sequence[tuple[Path | None, Format]]) -> None:
        self._paths = paths
        self.unreadable = 0
        self.problems: list[str] = []
        self.total_bytes: int | None = None
        if all(path is not None and how.compression == "none" for path, how in paths):
            self.total_bytes = sum(path.stat().st_size for path, _ in paths if path is not None)

    @property
    def reads_standard_input(self) -> bool:
        return any(path is None for path, _ in self._paths)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bodies.

        Raises:
            SourceError: A file cannot be read. What came before it was given out.
        """
        for path, how in self._paths:
            if path is None:
                with os.fdopen(0, "rb", buffering=0, closefd=False) as file:
                    yield from self._lines(file)
            else:
                with told(path, "read it"), path.open("rb", buffering=0) as file:
                    if how.layout == "segment":
                        yield from self._frames(path, file)
                    else:
                        yield from self._elements(path, file, how)

    def _frames(self, path: Path, file: BinaryIO) -> Iterator[bytes]:
        for found in segment.read_runs(file):
            if isinstance(found, segment.BadStretch):
                self._leave_out(shown(path), found.reason, found.detail, found.offset)
            else:
                yield from found.bodies

    def _elements(self, path: Path, file: BinaryIO, how: Format) -> Iterator[bytes]:
        size = os.fstat(file.fileno()).st_size
        for block in read_file(file, how, size=size, block_bytes=_BLOCK_BYTES):
            yield from block.bodies
            for rejection in block.rejections:
                self._leave_out(shown(path), rejection.reason, rejection.detail, rejection.offset)

    def _lines(self, file: BinaryIO) -> Iterator[bytes]:
        splitter = Lines()
        try:
            for portion in portions(file, "none"):
                if isinstance(portion, bytes):
                    yield from self._found(splitter.feed(portion))
        except OSError as error:
            raise SourceError(f"standard input: cannot read it: {error.strerror}") from error
        yield from self._found(splitter.finish())

    def _found(self, pieces: list[Elements | Stretch]) -> Iterator[bytes]:
        for piece in pieces:
            if isinstance(piece, Stretch):
                self._leave_out("standard input", piece.reason, piece.detail, piece.offset)
            else:
                yield from piece.bodies

    def _leave_out(self, where: str, reason: str, detail: str, offset: int) -> None:
        self.unreadable += 1
        if len(self.problems) < _MOST_TOLD:
            self.problems.append(f"{where}: not sent, {reason} at byte {offset}: {detail}")


def open_inputs(names: Sequence[str | Path]) -> Inputs:
    """Return the bodies in these files and folders; `-` is standard input, as JSON lines.

    A folder stands for the files in it that a spool would read, by name; not for folders in
    it, nor for names that begin with a dot.

    Raises:
        ConfigError: One is not there or of no kind that is read; nothing was read yet.
    """
    paths: list[tuple[Path | None, Format]] = []
    for name in names:
        path = Path(name)
        if str(name) == STANDARD_INPUT:
            paths.append((None, Format("lines")))
        elif path.is_dir():
            paths += _files_in(path)
        else:
            how = format_of(path.name)
            if not path.is_file():
                raise ConfigError(f"{shown(path)}: no such file or folder")
            if how is None:
                hint = "it reads .seg; .jsonl, .ndjson and .json, also with .gz or .zst; and - for stdin"
                raise ConfigError(f"{shown(path)}: its name does not say what it holds", hint=hint)
            paths.append((path, how))
    if sum(path is None for path, _ in paths) > 1:
        raise ConfigError("standard input was named twice")
    return Inputs(paths)


def _files_in(folder: Path) -> list[tuple[Path | None, Format]]:
    with told(folder, "read the folder"):
        found = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    files = [(path, how) for path in found if (how := format_of(path.name))]
    if not files:
        raise ConfigError(f"{folder}: no file in it that a spool would read")
    return [*files]
