"""The reader over the archive's ledger: commit by commit, each archived event once.

Of each commit that archived something its data files come in a fixed order: by day, workspace,
dataset and name; and the rows of each in the file's order, which is that of their times. So the
events of one workspace and day come as they happened, as far as one commit goes.

A data file of an old commit may be gone: compaction merged it, and `collect` deleted it. Its rows
are in the file that took them over, and each names the file it was first archived in, in the
column `origin`: they are found there, and no other, in the same order. JSON lines have no such
column: there the rows between the lost file's first and last time are taken, once in each
reading, so neighbours that were sent before may come again.
"""

from __future__ import annotations

import logging
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from archiver import layout, segment
from archiver.archive import Archive
from archiver.errors import ObjectNotFoundError, SourceError
from archiver.forward.base import Limits, Portion
from archiver.forward.cursor import CursorFile, InArchive, InSpool
from archiver.forward.datafiles import DATASETS, Choice, Stretch, events_of, intact
from archiver.forward.events import portions
from archiver.forward.wanted import Wanted
from archiver.ledger.entry import Commit, DataFile

log = logging.getLogger("archiver.forward")

_ARCHIVING: Final = ("append", "requeue")
_TRIES: Final = 5  # of finding where rows are, while others compact and collect
_KEPT_BYTES: Final = 256 << 20
_MARKED: Final = 1 << 32  # more than a file has rows
_MOST_REMEMBERED: Final = 65_536


class InCommit(NamedTuple):
    """A data file of a commit; or a commit that archived nothing, whose `key` is empty.

    Attributes:
        file: Its number in the order of reading.
        is_last: Whether the commit ends with it.
    """

    commit: int
    file: int
    key: str
    is_last: bool


class _Inputs(NamedTuple):
    commit: int
    segments: tuple[str, ...]


def begin_at_head(archive: Archive, cursor: CursorFile) -> None:
    """Let a new destination begin behind the newest commit: what is archived from now on.

    Raises:
        ArchiverError: The ledger cannot be read, or the cursor not be written.
    """
    cursor.cursor.archive = InArchive(archive.ledger.refresh().sequence + 1)
    cursor.cursor.archive_id = archive.id
    cursor.write(sync=True)


class Commits:
    """See `archiver.forward.base.Reader`. A unit is an `InCommit`.

    Args:
        archive: Its ledger is followed to the head when `read` begins.
        cursor: Of the destination, with a place in the archive.
        limits: Of a request; portions are about of that size.
        wanted: Which events the destination wants.
        folders: Where segments wait for the destination: links of what is taken from the ledger go.

    Attributes:
        notes: What somebody should know: events that are in the archive no more.
    """

    def __init__(
        self,
        archive: Archive,
        cursor: CursorFile,
        limits: Limits,
        wanted: Wanted,
        *,
        folders: Sequence[Path] = (),
    ) -> None:
        self.notes: list[str] = []
        self._archive = archive
        self._cursor = cursor
        self._limits = limits
        self._wanted = None if wanted.is_everything else wanted
        self._folders = tuple(folders)
        self._open: deque[_Inputs] = deque()
        self._successors: dict[str, bytes] = {}
        self._came: dict[str, list[tuple[int, int]]] = {}
        self._compacted: dict[str, bool] = {}

    def read(self) -> Iterator[Portion]:
        """Yield what was archived behind the cursor, up to the head of this moment; see `Reader.read`."""
        ledger = self._archive.ledger
        head = ledger.refresh().sequence
        at = self._cursor.cursor.archive
        if at is None:
            return
        if self._cursor.cursor.archive_id not in ("", self._archive.id):
            raise SourceError(
                f"{self._archive.store.location}: is another archive than that of the cursor",
                hint="name the archive that was read before, or another folder: [forward] state",
            )
        if at.commit > head + 1:
            raise SourceError(
                f"{self._archive.store.location}: the newest commit is {head}, and the cursor stands at"
                f" {at.commit}",
                hint="is it the archive that was read before? an older copy lacks what was sent already",
            )
        self._open.clear()
        self._came.clear()
        try:
            for commit in ledger.since(at.commit - 1):
                here = at if commit.sequence == at.commit else InArchive(commit.sequence)
                names = [str(one.get("name", "")) for one in commit.content.inputs]
                self._open.append(_Inputs(commit.sequence, tuple(filter(segment.is_own_name, names))))
                yield from self._of_commit(commit, here)
        finally:
            self._successors.clear()

    def acknowledge(self, portion: Portion, place: int) -> None:
        """See `Reader.acknowledge`. Links of segments whose commit is taken whole are removed."""
        unit: InCommit = portion.unit
        is_whole = portion.is_last and place >= portion.end
        is_over = is_whole and unit.is_last
        while self._open and (
            self._open[0].commit < unit.commit or (is_over and self._open[0].commit == unit.commit)
        ):
            # Before the cursor: a link that outlived its commit would be sent again, live.
            self._remove_links(self._open.popleft())
        if is_over:
            self._cursor.cursor.archive = InArchive(unit.commit + 1)
        elif is_whole:
            self._cursor.cursor.archive = InArchive(unit.commit, unit.file + 1)
        else:
            self._cursor.cursor.archive = InArchive(unit.commit, unit.file, place)
        self._cursor.write()

    def _remove_links(self, inputs: _Inputs) -> None:
        for folder in self._folders:
            stay = []
            for name in inputs.segments:
                try:
                    (folder / name).unlink(missing_ok=True)
                except OSError:
                    stay.append(name)
            if stay:
                position = self._cursor.cursor.spools.setdefault(str(folder), InSpool())
                position.finished = sorted({*position.finished, *stay})

    def _of_commit(self, commit: Commit, at: InArchive) -> Iterator[Portion]:
        files = in_order(commit)
        for number, file in enumerate(files[at.file :], start=at.file):
            unit = InCommit(commit.sequence, number, file.key, number == len(files) - 1)
            taken = at.place if number == at.file else 0
            for stretch in self._stretches(commit, file, taken):
                found = list(
                    portions(
                        unit, stretch.events, end=stretch.end, is_last=False, wanted=None, limits=self._limits
                    )
                )
                found[-1].filtered = stretch.filtered
                yield from found
            yield Portion(unit, [], file.rows, is_last=True)
        if at.file >= len(files):
            yield Portion(InCommit(commit.sequence, at.file, "", True), [], 0, is_last=True)

    def _stretches(self, commit: Commit, file: DataFile, taken: int) -> Iterator[Stretch]:
        try:
            content = intact(self._archive.store, file)
        except ObjectNotFoundError:
            pass
        else:
            choice = Choice(wanted=self._wanted)
            yield from events_of(content, file, choice, taken=taken, received_us=commit.committed_us)
            return
        if file.key.endswith(".parquet"):
            yield from self._by_origin(commit, file, taken)
        else:
            yield from self._by_time(commit, file, taken)

    def _by_origin(self, commit: Commit, file: DataFile, taken: int) -> Iterator[Stretch]:
        """Yield the rows of a file that is gone, out of the file that took them over, with their places."""
        choice = Choice(
            wanted=self._wanted, origin=layout.stem_of(file.key), spans=((file.min_us, file.max_us),)
        )
        reached = 0
        for _ in range(_TRIES):
            try:
                for successor in self._live_around(file):
                    content = self._kept(successor)
                    for stretch in events_of(content, successor, choice, taken=max(taken, reached)):
                        reached = stretch.end
                        yield stretch
                    if reached >= file.rows:
                        return
                break
            except ObjectNotFoundError:  # compacted again, and collected
                continue
        if max(reached, taken) < file.rows:
            self._note_lost(commit, file, file.rows - max(reached, taken))

    def _by_time(self, commit: Commit, file: DataFile, taken: int) -> Iterator[Stretch]:
        """As `_by_origin`, for JSON lines. What a reading has given already it does not give again."""
        span = (file.min_us, file.max_us)
        is_found = False
        for _ in range(_TRIES):
            try:
                successors = self._live_around(file)
                marks = [_mark(successors, number) for number in range(len(successors))]
                first = next((n for n, mark in enumerate(marks) if mark < taken < mark + _MARKED), 0)
                for number, successor in enumerate(successors[first:], start=first):
                    before = max(taken - marks[number], 0) if taken < marks[number] + _MARKED else 0
                    came = self._came.setdefault(successor.key, [])
                    choice = Choice(wanted=self._wanted, spans=(span,), without=tuple(came))
                    content = self._kept(successor)
                    is_found = True
                    for found in events_of(
                        content, successor, choice, taken=before, received_us=commit.committed_us
                    ):
                        events = [one._replace(place=marks[number] + one.place) for one in found.events]
                        yield Stretch(events, marks[number] + found.end, found.filtered)
                    came.append(span)
                break
            except ObjectNotFoundError:
                continue
        if not is_found:
            self._note_lost(commit, file, file.rows)

    def _live_around(self, file: DataFile) -> list[DataFile]:
        """Return the files of compactions that may have taken over the rows of one that is gone."""
        where = file.partition
        found = self._archive.ledger.refresh().files.select(
            where.dataset, workspaces=(where.workspace,), since_us=file.min_us, until_us=file.max_us + 1
        )
        return [one for one in found if one.partition.dt == where.dt and self._is_compacted(one)]

    def _is_compacted(self, file: DataFile) -> bool:
        known = self._compacted.get(file.key)
        if known is None:
            ledger, origin = self._archive.ledger, layout.origin_of(file.key)
            made_by = None if origin is None else ledger.snapshot.attempts.get(origin.attempt)
            known = made_by is not None and ledger.read(made_by).content.operation == "compact"
            if len(self._compacted) >= _MOST_REMEMBERED:
                self._compacted.clear()
            self._compacted[file.key] = known
        return known

    def _kept(self, file: DataFile) -> bytes:
        """Return a file that took over rows; the last ones stay in memory, for it took those of many."""
        content = self._successors.pop(file.key, None)
        if content is None:
            content = intact(self._archive.store, file)
        self._successors[file.key] = content  # the last one used is the last one
        while len(self._successors) > 1 and sum(map(len, self._successors.values())) > _KEPT_BYTES:
            del self._successors[next(iter(self._successors))]
        return content

    def _note_lost(self, commit: Commit, file: DataFile, rows: int) -> None:
        told = (
            f"commit {commit.sequence}: {rows} events of {file.key} are in the archive no more: they expired"
        )
        log.warning("%s", told)
        self.notes.append(told)


def in_order(commit: Commit) -> list[DataFile]:
    """Return the data files of a commit that are read, in an order that follows from it alone."""
    if commit.content.operation not in _ARCHIVING:
        return []
    chosen = [(one.partition, one) for one in commit.content.added if one.partition.dataset in DATASETS]
    chosen.sort(key=lambda pair: (pair[0].dt, pair[0].workspace, pair[0].dataset, pair[1].key))
    return [file for _, file in chosen]


def _mark(files: Sequence[DataFile], number: int) -> int:
    """Return what is added to places in one of `files`: they mean nothing where other files are found."""
    keys = "\n".join([files[number].key, *(file.key for file in files)])
    return (zlib.crc32(keys.encode()) + 1) * _MARKED
