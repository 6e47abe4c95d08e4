"""What lies in a spool and waits, for the archive and for each other consumer; counted within bounds.

For whoever watches: counting must cost little however much there is.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from archiver import clock, live
from archiver.errors import SourceError
from archiver.segment import is_own_name
from archiver.sources.claim import CLAIMS, LOCK, RECORD
from archiver.sources.files import format_of
from archiver.sources.names import printable

MOST_CONSUMERS: Final = 20


@dataclass(slots=True)
class Waiting:
    """Files that somebody has not read yet.

    Attributes:
        oldest_at: When the oldest was last written, in microseconds since 1970.
        is_complete: False: there were more names than were to be looked at, or the folder cannot be
            read; there is, or may be, more than this.
    """

    files: int = 0
    bytes: int = 0
    oldest_at: int | None = None
    is_complete: bool = True

    def add(self, status: os.stat_result) -> None:
        written_at = clock.nearest(status.st_mtime_ns // 1000)
        self.files += 1
        self.bytes += status.st_size
        self.oldest_at = written_at if self.oldest_at is None else min(self.oldest_at, written_at)

    def oldest_seconds(self, now_us: int) -> float:
        """The age of the oldest; 0 if nothing waits."""
        return 0.0 if self.oldest_at is None else max(now_us - self.oldest_at, 0) / 1_000_000

    def to_json(self) -> dict[str, Any]:
        oldest = None if self.oldest_at is None else clock.to_text(self.oldest_at)
        return {"files": self.files, "bytes": self.bytes, "oldest_at": oldest, "complete": self.is_complete}


@dataclass(slots=True)
class SpoolWaiting:
    """Of one spool.

    Attributes:
        archive: What `run` has not archived, or not acknowledged.
        consumers: The same for the folders under `consumers/`, the first twenty by name; none, if
            that folder cannot be read.
        live_segments, live_bytes: What receivers write at this moment, or have left.
    """

    archive: Waiting = field(default_factory=Waiting)
    consumers: dict[str, Waiting] = field(default_factory=dict)
    live_segments: int = 0
    live_bytes: int = 0


class _Looks:
    """How many names may still be looked at."""

    def __init__(self, most: int | None) -> None:
        self.left = most

    def taken(self) -> bool:
        if self.left is None:
            return True
        self.left -= 1
        return self.left >= 0


def count_waiting(folder: Path, *, most_names: int | None = None) -> SpoolWaiting:
    """Count what waits in a spool.

    Args:
        most_names: How many names are looked at in each place, at most; None: all.

    Raises:
        SourceError: A folder cannot be read.
    """
    found = SpoolWaiting()
    consumers: list[Path] = []
    looks = _Looks(most_names)

    def sort(entry: os.DirEntry[str]) -> None:
        if live.is_live_name(entry.name):
            found.live_segments += 1
            found.live_bytes += entry.stat(follow_symlinks=False).st_size
        elif not entry.name.startswith(".") and format_of(entry.name) is not None:
            _add(found.archive, entry)

    def claimed(entry: os.DirEntry[str]) -> None:
        if entry.name not in (LOCK, RECORD):
            _add(found.archive, entry)

    def consume(waiting: Waiting) -> Callable[[os.DirEntry[str]], None]:
        return lambda entry: _add(waiting, entry) if is_own_name(entry.name) else None

    found.archive.is_complete = _each(folder, looks, sort, may_be_gone=False)
    for claim in _folders(folder / CLAIMS):
        if not looks.taken() or not _each(claim, looks, claimed):
            found.archive.is_complete = False
            break
    with contextlib.suppress(SourceError):
        consumers = _folders(folder / live.CONSUMERS)
    for consumer in consumers[:MOST_CONSUMERS]:
        waiting = found.consumers[printable(consumer.name)] = Waiting()
        try:
            waiting.is_complete = _each(consumer, _Looks(most_names), consume(waiting))
        except SourceError:  # it may be its reader's alone; that must not hide what waits for the archive
            waiting.is_complete = False
    return found


def _each(
    folder: Path, looks: _Looks, use: Callable[[os.DirEntry[str]], None], *, may_be_gone: bool = True
) -> bool:
    """Hand out the names in a folder; false if there were too many."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not looks.taken():
                    return False
                with contextlib.suppress(FileNotFoundError):  # taken by somebody at this moment
                    use(entry)
    except OSError as error:
        if may_be_gone and isinstance(error, FileNotFoundError):  # a claim that is put away at this moment
            return True
        hint = "is the path right, and its disk mounted?"
        raise SourceError(f"{folder}: cannot be listed: {error.strerror}", hint=hint) from error
    return True


def _add(waiting: Waiting, entry: os.DirEntry[str]) -> None:
    status = entry.stat(follow_symlinks=False)
    if stat.S_ISREG(status.st_mode):
        waiting.add(status)


def _folders(top: Path) -> list[Path]:
    return sorted(_subfolders(top))


def _subfolders(top: Path) -> Iterator[Path]:
    try:
        with os.scandir(top) as entries:
            yield from (
                Path(entry.path)
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
            )
    except FileNotFoundError:
        return
    except OSError as error:
        raise SourceError(f"{top}: cannot be listed: {error.strerror}") from error
