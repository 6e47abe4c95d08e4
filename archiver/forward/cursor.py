"""How far a destination was served, in two small files that survive any death of the process.

    <state>/<destination>/cursor.json       durable, at most a second old
    <state>/<destination>/cursor.now.json   written with each acknowledgement; the page cache keeps
                                            it when the process is killed, a loss of power may not

The newer one that is whole counts. An older one only means that events are sent again.
"""

from __future__ import annotations

import json
import time
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from archiver import durable
from archiver.errors import SourceError

FILE: Final = "cursor.json"
NOW_FILE: Final = "cursor.now.json"
SYNC_SECONDS: Final = 1.0
_FORMAT: Final = 1
_LARGEST_BYTES: Final = 16 << 20


@dataclass(slots=True)
class InSpool:
    """In one folder of waiting segments.

    Attributes:
        segment: The one that is read, or empty.
        place: How many of its elements are taken.
        finished: Segments that are taken whole, and whose links may still be there.
    """

    segment: str = ""
    place: int = 0
    finished: list[str] = field(default_factory=list)


@dataclass(slots=True)
class InArchive:
    """In the ledger.

    Attributes:
        commit: The one that is read: all before it are taken.
        file: Number of its data file that is read, in the reader's order.
        place: How many of that file's rows are taken.
    """

    commit: int
    file: int = 0
    place: int = 0


@dataclass(slots=True)
class Cursor:
    """Where a destination stands.

    Attributes:
        spools: By folder of waiting segments.
        archive: Set where the ledger is read, and not the folders.
        archive_id: Whose ledger that is.
        counter: Goes up with each writing.
    """

    spools: dict[str, InSpool] = field(default_factory=dict)
    archive: InArchive | None = None
    archive_id: str = ""
    counter: int = 0


class CursorFile:
    """The cursor of one destination. One process at a time writes it: who has the destination's lock.

    Args:
        folder: The destination's, which exists.

    Raises:
        SourceError: What is there is no cursor, or cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.is_new, self.cursor = _read(folder)
        self._synced_at = time.monotonic() - SYNC_SECONDS

    def write(self, *, sync: bool = False) -> None:
        """Write the cursor as it is now.

        Args:
            sync: Whether it must survive a loss of power, too; happens once a second anyway.

        Raises:
            SourceError: The disk refused.
        """
        self.cursor.counter += 1
        content = _encoded(self.cursor)
        now = time.monotonic()
        try:
            if sync or now - self._synced_at >= SYNC_SECONDS:
                durable.replace(self._folder / FILE, content)
                self._synced_at = now
            else:
                _put(self._folder / NOW_FILE, content)
        except OSError as error:
            raise SourceError(f"{self._folder}: cannot write the cursor: {error.strerror}") from error
        self.is_new = False


def read_cursor(folder: Path) -> Cursor | None:
    """Return the cursor in a destination's folder; None if it has none yet. For whoever only looks.

    Raises:
        SourceError: What is there is no cursor, or cannot be read.
    """
    is_new, cursor = _read(folder)
    return None if is_new else cursor


def _put(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(content)
    temporary.replace(path)


def _encoded(cursor: Cursor) -> bytes:
    text = json.dumps({"format": _FORMAT, **asdict(cursor)}, sort_keys=True)
    return f'{{"check": {zlib.crc32(text.encode())}, "cursor": {text}}}\n'.encode()


def _read(folder: Path) -> tuple[bool, Cursor]:
    found = []
    is_there = False
    for name in (FILE, NOW_FILE):
        path = folder / name
        try:
            with path.open("rb") as file:
                content = file.read(_LARGEST_BYTES)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
        is_there = True
        cursor = _decoded(content)
        if cursor is not None:
            found.append(cursor)
    if found:
        return False, max(found, key=lambda cursor: cursor.counter)
    if is_there:
        raise SourceError(
            f"{folder / FILE}: is no cursor of this program",
            hint="was it altered? remove it to begin anew: what is in the folder of waiting segments is sent"
            " again, and what is not there any more can be replayed from the archive",
        )
    return True, Cursor()


def _decoded(content: bytes) -> Cursor | None:
    try:
        tree = json.loads(content)
        told: dict[str, Any] = tree["cursor"]
        if zlib.crc32(json.dumps(told, sort_keys=True).encode()) != tree["check"]:
            return None
        if told["format"] != _FORMAT:
            return None
        archive = told["archive"]
        return Cursor(
            {folder: InSpool(**members) for folder, members in told["spools"].items()},
            None if archive is None else InArchive(**archive),
            str(told["archive_id"]),
            told["counter"],
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
