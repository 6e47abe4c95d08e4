"""Sending a time of the archive again: what it would be, the rows, and how far it came.

    <state>/<destination>/replays/<id>.json

A replay reads one snapshot from its beginning to its end, by day, workspace and file, the rows of
each file by time. The same command again goes on where the last one stopped, in the same
snapshot, as long as the archive keeps it.
"""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from archiver import clock, durable
from archiver.archive import Archive
from archiver.errors import ConfigError, ObjectNotFoundError, SourceError
from archiver.forward.base import Limits, Portion
from archiver.forward.datafiles import DATASETS, Choice, Want, events_of, intact
from archiver.forward.events import portions
from archiver.ledger.entry import DataFile
from archiver.ledger.snapshot import Snapshot

FOLDER: Final = "replays"
SYNC_SECONDS: Final = 1.0
_FORMAT: Final = 1
_LARGEST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Scope:
    """What is to be sent again. Times are of `event_time`, in microseconds since 1970.

    Attributes:
        since_us, until_us: At or after, and before; None is open.
        workspaces: Only these; None is all.
        event_types: Only these; empty is all.
        actions: Patterns; empty is all.
        words: Both times as somebody wrote them: `30d` is another moment each time, and the same replay.
    """

    since_us: int | None = None
    until_us: int | None = None
    workspaces: tuple[str, ...] | None = None
    event_types: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    words: tuple[str | None, str | None] = (None, None)

    def at_times_of(self, position: ReplayPosition) -> Scope:
        """Return this scope with the moments at which a replay that goes on now began and ends."""

        def us(name: str) -> int | None:
            told = position.arguments.get(name)
            return clock.from_text(told) if isinstance(told, str) else None

        return replace(self, since_us=us("since"), until_us=us("until"))

    def to_json(self) -> dict[str, Any]:
        return {
            "since": None if self.since_us is None else clock.to_text(clock.nearest(self.since_us)),
            "until": None if self.until_us is None else clock.to_text(clock.nearest(self.until_us)),
            "workspaces": None if self.workspaces is None else sorted(self.workspaces),
            "event_types": sorted(self.event_types),
            "actions": sorted(self.actions),
        }


@dataclass(slots=True)
class Estimate:
    """What a replay would read, by the ledger's word alone.

    Attributes:
        events: At most; filters by action and event type are not applied.
        files, bytes: That would be read, bytes as they lie in the archive.
        oldest_us, newest_us: Of the events, at most so far apart; None if there are none.
        days: Day -> events of it, at most.
    """

    events: int = 0
    files: int = 0
    bytes: int = 0
    oldest_us: int | None = None
    newest_us: int | None = None
    days: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        def told(us: int | None) -> str | None:
            return None if us is None else clock.to_text(us)

        return {
            "events_at_most": self.events,
            "files": self.files,
            "bytes": self.bytes,
            "oldest": told(self.oldest_us),
            "newest": told(self.newest_us),
            "days": len(self.days),
        }


def plan(archive: Archive, scope: Scope) -> Estimate:
    """Return what a replay of the present snapshot would read. No data file is opened."""
    found = Estimate()
    oldest: list[int] = []
    newest: list[int] = []
    for file in chosen(archive.ledger.snapshot, scope, digests=False):
        found.events += file.rows
        found.files += 1
        found.bytes += file.bytes
        found.days[file.partition.dt] = found.days.get(file.partition.dt, 0) + file.rows
        oldest.append(file.min_us if scope.since_us is None else max(file.min_us, scope.since_us))
        newest.append(file.max_us if scope.until_us is None else min(file.max_us, scope.until_us - 1))
    found.oldest_us, found.newest_us = min(oldest, default=None), max(newest, default=None)
    return found


def chosen(snapshot: Snapshot, scope: Scope, *, digests: bool = True) -> list[DataFile]:
    """Return the files that can hold what is meant, in the order of reading: day, workspace, key."""
    # An alert has no action: `actions` leaves alerts out, unless their event type is named.
    datasets = DATASETS if scope.event_types or not scope.actions else ("events",)
    found = [
        (file.partition, file)
        for dataset in datasets
        for file in snapshot.files.select(
            dataset,
            workspaces=scope.workspaces,
            since_us=scope.since_us,
            until_us=scope.until_us,
            digests=digests,
        )
    ]
    found.sort(key=lambda pair: (pair[0].dt, pair[0].workspace, pair[1].key))
    return [file for _, file in found]


@dataclass(slots=True)
class ReplayPosition:
    """How far a replay came.

    Attributes:
        id: Follows from the archive and the arguments.
        sequence: Of the commit whose snapshot is read.
        arguments: As of `Scope.to_json`.
        key, place: The data file that is read, and how many of its rows were taken; empty at first.
        rows: Of all files that were read.
        taken: Events that the receiver took.
        started_us: When it began, in microseconds since 1970.
        finished: Whether it came to its end.
    """

    id: str
    sequence: int
    arguments: dict[str, Any]
    started_us: int
    key: str = ""
    place: int = 0
    rows: int = 0
    taken: int = 0
    finished: bool = False


class ReplayFile:
    """A replay's position in its file. One process at a time writes it.

    Args:
        folder: Of the destination's replays, which exists.
    """

    def __init__(self, folder: Path, position: ReplayPosition) -> None:
        self.position = position
        self._path = folder / f"{position.id}.json"
        self._synced_at = time.monotonic() - SYNC_SECONDS

    def write(self, *, sync: bool = False) -> None:
        """Write the position as it is. A killed process loses nothing of it, a loss of power about a second.

        Raises:
            SourceError: The disk refused.
        """
        text = json.dumps({"format": _FORMAT, **asdict(self.position)}, sort_keys=True)
        content = f'{{"check": {zlib.crc32(text.encode())}, "replay": {text}}}\n'.encode()
        now = time.monotonic()
        try:
            if sync or now - self._synced_at >= SYNC_SECONDS:
                durable.replace(self._path, content)
                self._synced_at = now
            else:
                temporary = self._path.with_name(f".{self._path.name}")
                temporary.write_bytes(content)
                temporary.replace(self._path)
        except OSError as error:
            raise SourceError(f"{self._path}: cannot be written: {error.strerror}") from error


def begin(
    archive: Archive, folder: Path, scope: Scope, *, restart: bool = False, filters: Sequence[object] = ()
) -> tuple[ReplayFile, Snapshot, str]:
    """Begin a replay, or go on with the one that the same command began and did not finish.

    Args:
        folder: Of the destination's replays, which exists.
        restart: Begin anew in any case.
        filters: Of the destination: with others it is another replay, of other files.

    Returns:
        Its position; the snapshot that it reads; what somebody should know about that, or nothing.

    Raises:
        SourceError: The position cannot be read or written.
        IntegrityError, StoreError: The snapshot cannot be read.
    """
    name = replay_id(archive.id, scope, filters)
    known = None if restart else _read(folder / f"{name}.json")
    note = ""
    if known is not None and not known.finished:
        try:
            snapshot = archive.ledger.snapshot
            if snapshot.sequence != known.sequence:
                snapshot = archive.ledger.pinned(known.sequence).snapshot
        except ConfigError as error:
            note = f"this replay begins anew: {error.message}"
        else:
            if known.key:
                note = f"this replay goes on in the snapshot of commit {known.sequence}, {known.rows} rows on"
            return ReplayFile(folder, known), snapshot, note
    snapshot = archive.ledger.snapshot
    file = ReplayFile(folder, ReplayPosition(name, snapshot.sequence, scope.to_json(), clock.now_us()))
    file.write(sync=True)
    return file, snapshot, note


def replay_id(archive_id: str, scope: Scope, filters: Sequence[object] = ()) -> str:
    """Return the name of a replay: the same for the same archive, arguments and filters."""
    told = scope.to_json()
    if any(scope.words):
        told["since"], told["until"] = scope.words
    text = json.dumps([archive_id, told, *filters], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def list_replays(folder: Path) -> list[ReplayPosition]:
    """Return the replays of a destination, the newest first; what is no position is passed over.

    Args:
        folder: `<state>/<destination>/replays`; it need not exist.

    Raises:
        SourceError: It cannot be read.
    """
    found = []
    try:
        names = sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SourceError(f"{folder}: cannot be listed: {error.strerror}") from error
    for name in names:
        if name.endswith(".json") and not name.startswith("."):
            position = _read(folder / name)
            if position is not None:
                found.append(position)
    return sorted(found, key=lambda one: (-one.started_us, one.id))


def _read(path: Path) -> ReplayPosition | None:
    """Return a position; None where there is none, or no whole one: a replay then begins anew."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        tree = json.loads(content)
        told: dict[str, Any] = tree["replay"]
        if zlib.crc32(json.dumps(told, sort_keys=True).encode()) != tree["check"]:
            return None
        if told.pop("format") != _FORMAT or told["id"] != path.stem:
            return None
        return ReplayPosition(**told)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


class Replay:
    """See `archiver.forward.base.Reader`. A unit is the number of a file in the order of reading.

    Args:
        snapshot: That of the position.
        scope: What is meant; of it, event types and actions are asked of `wanted` alone.
        wanted: By event type, action and workspace; None is all.
        limits: Of a request; portions are about of that size.
        file: The position, which is written with each acknowledgement.
        before_write: Called before that.
    """

    def __init__(
        self,
        archive: Archive,
        snapshot: Snapshot,
        scope: Scope,
        wanted: Want | None,
        limits: Limits,
        file: ReplayFile,
        *,
        before_write: Callable[[], None] = lambda: None,
    ) -> None:
        self._before_write = before_write
        self._store = archive.store
        self._scope = scope
        self._wanted = wanted
        self._limits = limits
        self._file = file
        self._files = chosen(snapshot, scope)
        self._rows_before = [0, *accumulate(one.rows for one in self._files)]

    def read(self) -> Iterator[Portion]:
        """Yield what was not taken yet; see `Reader.read`."""
        position = self._file.position
        first = 0
        if position.key:
            first = next((n for n, one in enumerate(self._files) if one.key == position.key), 0)
        taken = position.place if first < len(self._files) and self._files[first].key == position.key else 0
        for number, file in enumerate(self._files[first:], start=first):
            if taken < file.rows:
                yield from self._of_file(number, file, taken)
            taken = 0

    def _of_file(self, number: int, file: DataFile, taken: int) -> Iterator[Portion]:
        scope = self._scope
        is_inside = (scope.since_us is None or file.min_us >= scope.since_us) and (
            scope.until_us is None or file.max_us < scope.until_us
        )
        choice = Choice(
            since_us=None if is_inside else scope.since_us,
            until_us=None if is_inside else scope.until_us,
            wanted=self._wanted,
        )
        try:
            content = intact(self._store, file)
        except ObjectNotFoundError as error:
            raise SourceError(
                f"{file.key}: is gone: the snapshot of commit {self._file.position.sequence} is kept no more",
                hint="run the same command again: it begins anew with the present snapshot",
            ) from error
        for stretch in events_of(content, file, choice, taken=taken, received_us=file.max_us):
            found = list(
                portions(
                    number, stretch.events, end=stretch.end, is_last=False, wanted=None, limits=self._limits
                )
            )
            found[-1].filtered = stretch.filtered
            yield from found
        yield Portion(number, [], file.rows, is_last=True)

    def acknowledge(self, portion: Portion, place: int) -> None:
        """See `Reader.acknowledge`."""
        position = self._file.position
        position.key, position.place = self._files[portion.unit].key, place
        position.rows = self._rows_before[portion.unit] + place
        self._before_write()
        self._file.write()
