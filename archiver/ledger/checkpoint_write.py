"""Writing a checkpoint: the commits behind the newest one become a part, and small parts are merged.

A part is merged with the one before it while that is not much larger, so each row is
written again a number of times that grows with the logarithm of the ledger. Everything is
create-only, and the manifest comes last.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from archiver import clock, layout
from archiver.errors import IntegrityError
from archiver.ledger import checkpoint
from archiver.ledger.checkpoint import Manifest, PartSet, StoredState
from archiver.ledger.checkpoint_files import idents
from archiver.ledger.checkpoint_parts import SCHEMAS, CacheDamagedError, Kind, Part, write_part
from archiver.ledger.checkpoint_rows import Rows
from archiver.ledger.entry import Commit, Counts, Hold, digest_of
from archiver.progress import Progress, Silent
from archiver.store.base import Store

log = logging.getLogger(__name__)

_MERGE_FACTOR: Final = 3  # a part of up to so many times the size behind it is merged with that
_MOST_ROWS: Final = 100_000  # of commits and files that are held as objects at once
_READERS: Final = 16
_AT_ONCE: Final = 256
_ORDER: Final = [
    (name, "ascending") for name in ("dataset", "workspace", "dt", "min_us", "added_by", "number")
]


@dataclass(frozen=True, slots=True)
class CheckpointReport:
    """What a checkpoint holds, and what was written for it.

    Attributes:
        sequence: The commit whose state it is.
        live_files: How many data files are live there.
        commits: How many commits were read for it; 0 if it was there already.
        parts: How many sets of parts it consists of.
        written_bytes: In new objects.
    """

    sequence: int
    live_files: int
    commits: int
    parts: int
    written_bytes: int

    def to_json(self) -> dict[str, Any]:
        told = {name: getattr(self, name) for name in self.__slots__}
        return {"message_type": "checkpoint_report", **told}


@dataclass(slots=True)
class _Level:
    """The commits `first` to `last`: a set of parts that is there, or tables that become one."""

    first: int
    last: int
    stored: PartSet | None = None
    tables: dict[Kind, pa.Table] = field(default_factory=dict)

    @property
    def size(self) -> int:
        if self.stored is not None:
            return sum(one.entries for one in self.stored.objects())
        return sum(table.num_rows for table in self.tables.values())

    def rows(self, store: Store) -> dict[Kind, pa.Table]:
        """Return its tables; those of a stored one are held against their digests."""
        one = self.stored
        if one is None:
            return self.tables
        removals = SCHEMAS["removals"].empty_table()
        if one.removals is not None:
            removals = Part(store, "removals", one.removals).whole()
        return {
            "files": Part(store, "files", one.files).whole(),
            "removals": removals,
            "commits": Part(store, "commits", one.commits).whole(),
        }

    def write(self, store: Store) -> PartSet:
        """Store its tables."""
        if self.stored is not None:
            return self.stored
        said = self.tables
        removals = said["removals"]
        return PartSet(
            self.first,
            self.last,
            write_part(store, "files", self.first, self.last, said["files"].sort_by(_ORDER)),
            write_part(store, "removals", self.first, self.last, removals.sort_by(_ORDER[:3] + _ORDER[4:]))
            if removals.num_rows
            else None,
            write_part(store, "commits", self.first, self.last, said["commits"]),
        )


def write(
    store: Store,
    head: Commit,
    read: Callable[[int], Commit],
    *,
    rebuild: bool = False,
    left_aside: Collection[str] = (),
    progress: Progress | None = None,
) -> CheckpointReport:
    """Write a checkpoint of `head`; see `Ledger.write_checkpoint`.

    Args:
        read: Reads a commit, with its file lists.
        left_aside: Manifests not to go on from.
    """
    found = None if rebuild else checkpoint.newest(store, at=head, left_aside=left_aside)
    if found is not None and found[1].sequence < found[1].manifest.sequence:
        # Somebody else has written one of a later head meanwhile.
        newer = found[1].manifest
        return CheckpointReport(newer.sequence, newer.live_files, 0, len(newer.parts), 0)
    try:
        return _Writer(store, found[1] if found is not None else None).write(head, read, progress or Silent())
    except CacheDamagedError as error:
        log.warning("a checkpoint of the ledger is made anew: %s", error.message)
        return _Writer(store, None).write(head, read, progress or Silent())


class _Writer:
    """Goes on from a checkpoint, or from nothing."""

    def __init__(self, store: Store, before: StoredState | None) -> None:
        self._store = store
        self._before = before
        self._levels: list[_Level] = []
        self._batches: dict[str, int] = {}
        self._live = 0
        self._archive: dict[str, Any] = {}
        self._cursors: dict[str, Any] = {}
        self._holds: dict[str, Hold] = {}
        self._totals = Counts()
        self._digest, self._oldest_readable = "", 0
        if before is not None:
            manifest = before.manifest
            self._levels = [_Level(one.first, one.last, one) for one in manifest.parts]
            self._live, self._archive = manifest.live_files, manifest.archive
            self._cursors, self._holds = dict(manifest.cursors), dict(manifest.holds)
            self._totals, self._digest = manifest.totals, manifest.digest

    def write(self, head: Commit, read: Callable[[int], Commit], progress: Progress) -> CheckpointReport:
        """Take in the commits up to `head` and store what is new."""
        first = self._levels[-1].last + 1 if self._levels else 0
        if first > head.sequence and self._before is not None:
            return CheckpointReport(head.sequence, self._live, 0, len(self._levels), 0)
        progress.start("folding the ledger", None)
        try:
            rows = self._rows()
            begins = first
            for commit in in_order(range(first, head.sequence + 1), read):
                self._fold(commit)
                rows.take(commit)
                progress.advance(rows=1)
                if rows.entries >= _MOST_ROWS:
                    self._push(begins, commit.sequence, rows)
                    rows, begins = self._rows(), commit.sequence + 1
            if begins <= head.sequence:
                self._push(begins, head.sequence, rows)
            if self._digest != head.digest:
                raise IntegrityError(f"{layout.commit(head.sequence)}: is not the commit that was folded")
            return self._store_all(head, first)
        finally:
            progress.finish()

    def _rows(self) -> Rows:
        return Rows(_Known(self._batches, self._before))

    def _fold(self, commit: Commit) -> None:
        """Go on with the small state, as `Snapshot.apply` does."""
        said = commit.content
        if commit.previous != self._digest:
            raise IntegrityError(
                f"{layout.commit(commit.sequence)}: expected the previous commit to be "
                f"{self._digest or 'none'}, found {commit.previous}",
                hint="the chain is broken: run `archiver verify`",
            )
        self._digest, self._oldest_readable = commit.digest, commit.oldest_readable
        self._batches[said.batch] = commit.sequence
        self._live += len(said.added) - len(said.removed)
        self._archive = self._archive if said.archive is None else said.archive
        if said.source.get("after") is not None:
            self._cursors[said.source["name"]] = said.source["after"]
        if said.hold is not None:
            self._holds.pop(said.hold.name, None)
            if not said.hold.released:
                self._holds[said.hold.name] = said.hold
        back = said.counts
        if said.operation == "append":
            self._totals += back
        elif said.operation == "requeue":
            self._totals += Counts(0, back.archived, back.supplements, back.duplicates, -len(said.moved))

    def _push(self, first: int, last: int, rows: Rows) -> None:
        """Add the newest level, and merge it with those before it that are not much larger."""
        self._levels.append(_Level(first, last, tables=rows.tables()))
        size, start = self._levels[-1].size, len(self._levels) - 1
        while start and self._levels[start - 1].size <= _MERGE_FACTOR * size:
            start -= 1
            size += self._levels[start].size
        merged = self._levels[start:]
        if len(merged) > 1:
            found = [one.rows(self._store) for one in merged]
            tables = _merged(found, merged[0].first, self._oldest_readable)
            self._levels[start:] = [_Level(merged[0].first, last, tables=tables)]

    def _store_all(self, head: Commit, first: int) -> CheckpointReport:
        parts = tuple(level.write(self._store) for level in self._levels)
        written = sum(
            sum(one.bytes for one in part.objects())
            for part, level in zip(parts, self._levels, strict=True)
            if level.stored is None
        )
        manifest = Manifest(
            sequence=head.sequence,
            digest=head.digest,
            committed_us=head.committed_us,
            oldest_readable=head.oldest_readable,
            archive=self._archive,
            cursors=self._cursors,
            holds=self._holds,
            totals=self._totals,
            live_files=self._live,
            parts=parts,
        )
        content = manifest.encode()
        key = layout.checkpoint(head.sequence, clock.now_us() // 1_000, digest_of(content))
        self._store.put(key, content)
        return CheckpointReport(
            head.sequence, self._live, head.sequence + 1 - first, len(parts), written + len(content)
        )


class _Known(Mapping[str, int]):
    """Batch -> commit, of the commits taken in and of those in the checkpoint before."""

    def __init__(self, own: Mapping[str, int], before: StoredState | None) -> None:
        self._own = own
        self._before = before

    def __getitem__(self, batch: str) -> int:
        found = self._own.get(batch)
        if found is None and self._before is not None:
            return self._before.batches[batch]
        if found is None:
            raise KeyError(batch)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)


def _merged(levels: list[dict[Kind, pa.Table]], first: int, oldest_readable: int) -> dict[Kind, pa.Table]:
    """Return the tables of levels that follow each other: files meet their removals."""
    files = pa.concat_tables([level["files"] for level in levels])
    removals = pa.concat_tables([level["removals"] for level in levels])
    commits = pa.concat_tables([level["commits"] for level in levels])
    removed_by = files["removed_by"].fill_null(-1).to_numpy().copy()
    if removals.num_rows:
        gone, here = idents(removals), idents(files)
        order = np.argsort(gone)
        at = np.minimum(np.searchsorted(gone[order], here), len(gone) - 1)
        met = gone[order][at] == here
        removed_by[met] = removals["removed_by"].to_numpy()[order][at][met]
        left = ~np.isin(gone, here) if first else np.zeros(len(gone), dtype=bool)
        removals = removals.filter(pa.array(left))
    shown = pa.array(removed_by, pa.int64(), mask=removed_by < 0)
    at_column = files.schema.get_field_index("removed_by")
    files = files.set_column(at_column, SCHEMAS["files"].field("removed_by"), shown)
    # No snapshot that may still be asked for has these.
    kept = (removed_by < 0) | (removed_by > oldest_readable)
    return {"files": files.filter(pa.array(kept)), "removals": removals, "commits": commits}


def in_order(wanted: range, read: Callable[[int], Commit]) -> Iterator[Commit]:
    """Yield these commits, read by several threads some hundred at a time."""
    with ThreadPoolExecutor(_READERS) as readers:
        for start in range(wanted.start, wanted.stop, _AT_ONCE):
            yield from readers.map(read, range(start, min(start + _AT_ONCE, wanted.stop)))
