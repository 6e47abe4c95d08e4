"""How far behind a destination is: counted within bounds, for whoever looks; no lock, no body read."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from archiver.archive import Archive
from archiver.config import Settings
from archiver.errors import ConfigError, SourceError
from archiver.forward.base import Lag
from archiver.forward.commits import in_order
from archiver.forward.cursor import Cursor, InArchive, InSpool, read_cursor
from archiver.forward.folders import folder_of
from archiver.forward.settings import Destination
from archiver.segment import is_own_name, received_times
from archiver.sources.filing import open_regular

MOST_SECONDS: Final = 0.5
MOST_COMMITS: Final = 2_000
_LOOK_EVERY: Final = 4_096


class _Segment(NamedTuple):
    """A segment that waits, and how many of its elements are taken."""

    name: str
    path: Path
    bytes: int
    taken: int


def reads_ledger(destination: Destination, cursor: Cursor | None) -> bool:
    """Whether its events come from the archive's ledger now, and not from its folders."""
    return destination.origin == "archive" or (cursor is not None and cursor.archive is not None)


def lag_of(settings: Settings, destination: Destination, archive: Archive | None, now_us: int) -> Lag:
    """Return how far behind a destination is.

    Of its folders each delivery that its cursor has not passed counts as one event, though it may hold
    several, or none that is valid. Of the ledger the archived events and alerts count.

    Args:
        archive: Followed to its head; asked only if the ledger is what the destination reads.

    Raises:
        SourceError: A folder or the cursor cannot be read.
        ConfigError: The ledger is read, and there is no archive; or no place for a cursor.
        ArchiverError: The ledger cannot be read.
    """
    cursor = read_cursor(settings.forward_folder / destination.name)
    lag = Lag()
    until = time.monotonic() + MOST_SECONDS
    segments: list[_Segment] = []
    if destination.origin == "deliveries":
        segments, lag.stuck = _waiting(settings, destination, cursor or Cursor())
        lag.bytes = sum(one.bytes for one in segments)
    if reads_ledger(destination, cursor):
        if archive is None:
            raise ConfigError(
                f"destination {destination.name} reads the archive, and none is open",
                hint="name it: --archive, or location under [archive]",
            )
        if cursor is not None and cursor.archive is not None:  # else it begins at the head
            listed = _count_commits(lag, archive, cursor.archive, now_us, until)
            # What the ledger lists is sent from there, and its link goes then.
            segments = [one for one in segments if one.name not in listed]
    _count_segments(lag, segments, now_us, until)
    return lag


def _waiting(settings: Settings, destination: Destination, cursor: Cursor) -> tuple[list[_Segment], int]:
    """List what waits for it, the oldest first; what is taken, but whose link is still there, is counted."""
    found, stuck = [], 0
    for spool in settings.spool_folders:
        folder = folder_of(spool, destination.name)
        position = cursor.spools.get(str(folder), InSpool())
        finished = frozenset(position.finished)
        for name, size in _links(folder):
            if name not in finished:
                taken = position.place if name == position.segment else 0
                found.append(_Segment(name, folder / name, size, taken))
            else:
                stuck += 1
    return sorted(found), stuck


def _links(folder: Path) -> Iterator[tuple[str, int]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not is_own_name(entry.name):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # taken at this moment
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield entry.name, status.st_size
    except FileNotFoundError:  # it has not begun
        return
    except OSError as error:
        raise SourceError(f"{folder}: cannot be listed: {error.strerror}") from error


def _count_segments(lag: Lag, segments: list[_Segment], now_us: int, until: float) -> None:
    oldest: int | None = None
    for one in segments:
        first, count, is_whole = None, 0, False
        # The age is always told: the first segment is begun, whatever the time.
        if oldest is None or time.monotonic() < until:
            first, count, is_whole = _counted(one, until)
        lag.events += count
        lag.is_complete = lag.is_complete and is_whole
        if first is not None:
            oldest = first if oldest is None else min(oldest, first)
        if not is_whole and time.monotonic() >= until:
            break
    if oldest is not None:
        lag.seconds = max(lag.seconds, (now_us - oldest) / 1_000_000)


def _counted(one: _Segment, until: float) -> tuple[int | None, int, bool]:
    """Return when the first delivery behind the cursor was received, how many there are, and if all."""
    try:
        handle = open_regular(one.path)
    except FileNotFoundError:
        return None, 0, True
    except OSError:
        return _begun_us(one.name), 0, False
    try:
        times = islice(received_times(handle), one.taken, None)
        first = next(times, None)
        if first is None:
            # An array's elements are more than its delivery, or the rest is torn: something is left.
            return _begun_us(one.name), 1, True
        count = 1
        while (more := sum(1 for _ in islice(times, _LOOK_EVERY))) == _LOOK_EVERY:
            count += more
            if time.monotonic() >= until:
                return first, count, False
        return first, count + more, True
    except OSError:
        return _begun_us(one.name), 0, False
    finally:
        os.close(handle)


def _begun_us(name: str) -> int:
    """Return when a segment was begun, as its name tells."""
    return int(name[:16], 16) // 1000


def _count_commits(lag: Lag, archive: Archive, at: InArchive, now_us: int, until: float) -> set[str]:
    """Count what the ledger has behind a cursor; return the names of the inputs of these commits."""
    oldest: int | None = None
    listed: set[str] = set()
    head = archive.ledger.snapshot.sequence
    for commit in archive.ledger.since(at.commit - 1):
        rows = [file.rows for file in in_order(commit)]
        if commit.sequence == at.commit:
            rows = rows[at.file :]
            left = max(sum(rows) - at.place, 0) if rows else 0
        else:
            left = sum(rows)
        lag.events += left
        if left and oldest is None:
            oldest = commit.committed_us
        listed.update(str(one.get("name", "")) for one in commit.content.inputs)
        is_enough = commit.sequence - at.commit >= MOST_COMMITS or time.monotonic() >= until
        if is_enough and commit.sequence < head:
            lag.is_complete = False
            break
    if oldest is not None:
        lag.seconds = max(lag.seconds, (now_us - oldest) / 1_000_000)
    return listed
