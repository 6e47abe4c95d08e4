"""In which live files may an id lie? Asked of the index, of memory, and of files that neither tells of.

The index tells of what was committed up to its manifest, memory of what this process wrote.
What other processes committed since is read from the files' id columns, each once. Where the
index is missing or damaged, its months are looked up in the files themselves: slower, and
the same answer.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from archiver.errors import ArchiverError
from archiver.index import hashing, manifest
from archiver.index.build import IndexReport, Update, in_chunks
from archiver.index.hashing import matches
from archiver.index.index import Index
from archiver.index.months import between, bounds, month_of, numbers_of
from archiver.index.reading import FileVanishedError
from archiver.index.recent import BUDGET_IDS, Recent
from archiver.ledger.entry import DataFile
from archiver.ledger.ledger import Ledger
from archiver.ledger.snapshot import Snapshot
from archiver.progress import Progress, Silent

log = logging.getLogger(__name__)

# Beyond this much that the index does not tell of, it is brought up to date before an attempt.
_UNREAD_FILES: Final = 256
_UNREAD_IDS: Final = 2_000_000
_REMEMBERED_IDS: Final = 4_000_000


class Background:
    """What rows are held against: the live files of a snapshot, and what an attempt has written so far.

    Attributes:
        sequence: Of the snapshot.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.sequence = snapshot.sequence
        self.files = snapshot.files
        self.totals = snapshot.totals
        self._snapshot = snapshot
        self._own: dict[str, DataFile] = {}

    def add(self, file: DataFile) -> None:
        """Count in a file that the attempt has just written."""
        self._own[file.key] = file

    @property
    def own(self) -> Collection[DataFile]:
        """What the attempt has written."""
        return self._own.values()

    def wrote(self, key: str) -> bool:
        """Say whether the attempt has written this file."""
        return key in self._own

    def find(self, keys: Iterable[str]) -> dict[str, DataFile]:
        """Return those of `keys` that count."""
        self._still()
        asked = list(keys)
        return self.files.find(asked) | {key: self._own[key] for key in asked if key in self._own}

    def select(self, workspaces: Collection[str], since_us: int, until_us: int) -> list[DataFile]:
        """Return the files of these workspaces with rows at or after `since_us`, and before `until_us`."""
        self._still()
        found = self.files.select(workspaces=workspaces, since_us=since_us, until_us=until_us)
        return found + [
            file
            for file in self._own.values()
            if file.partition.workspace in workspaces and file.max_us >= since_us and file.min_us < until_us
        ]

    def _still(self) -> None:
        if self._snapshot.sequence != self.sequence:
            raise ArchiverError("the ledger moved on while an attempt was at work: a fault of this program")


class KnownIds:
    """See the module's docstring. One for each process and archive."""

    def __init__(self, ledger: Ledger, *, budget_ids: int = BUDGET_IDS) -> None:
        self._ledger = ledger
        self._recent = Recent(ledger.store, budget_ids=budget_ids)
        self._index: Index | None = None
        self._at = -1  # the sequence that `_pending` goes up to
        self._pending: dict[str, list[DataFile]] = {}
        self._can_write = True

    def remember(self, file: DataFile, ids: pa.ChunkedArray) -> None:
        """Take note of the ids in a file that this process has just written."""
        self._recent.remember(file, ids)

    def update(
        self, progress: Progress | None = None, *, anew: bool = False, lazily: bool = False
    ) -> IndexReport:
        """Bring the index up to the commit that the ledger was followed to.

        Not while an attempt is at work: what is in memory of its files is forgotten.

        Args:
            anew: Leave the index that is there aside, and read all ids again.
            lazily: Let the next run do it if little is new: a few files are read sooner.

        Raises:
            ArchiverError: It failed; the index is as it was, and nothing depends on it.
        """
        damaged = set() if self._index is None else self._index.damaged
        if lazily and self._index is not None and not damaged:
            # By the manifest that is in memory: if others wrote a newer one, even less is due.
            known = Update(self._ledger, self._recent, before=self._index.manifest)
            if not known.is_due(lazily=True):
                return known.report()
        work = Update(self._ledger, self._recent, damaged=damaged, anew=anew)
        if work.is_due(lazily=lazily):
            made = work.run(progress or Silent())
            self._index, self._at = Index(self._ledger.store, made), -1
            self._recent.clear()
        return work.report()

    def forecast(self, *, anew: bool = False) -> IndexReport:
        """Return what `update` would do; nothing is written."""
        return Update(self._ledger, self._recent, anew=anew).forecast()

    def prepare(self, background: Background, progress: Progress | None = None) -> None:
        """Bring the index up to date if an attempt would have to read too much that it does not tell of."""
        if not self._can_write or background.own:
            return
        self._open(background)
        if self._index is None:
            much = len(background.files) > _UNREAD_FILES or background.totals.archived > _UNREAD_IDS
        else:
            pending = [file for files in self._pending.values() for file in files]
            unread = [file for file in pending if not self._recent.covers(file)]
            much = (
                len(unread) > _UNREAD_FILES
                or sum(file.rows for file in unread) > _UNREAD_IDS
                or sum(file.rows for file in pending) > _REMEMBERED_IDS
            )
        if not much:
            return
        log.info("bringing the identity index up to date")
        try:
            self.update(progress)
        except ArchiverError as error:
            self._can_write = False  # not before each batch anew
            log.warning("the identity index cannot be brought up to date: %s", error.message)

    def hits(
        self,
        workspaces: pl.Series,
        ids: pl.Series,
        times_us: np.ndarray,
        reach_us: int,
        background: Background,
    ) -> dict[str, np.ndarray]:
        """Return, by file key, which rows may have their id in that file.

        A row is held against the files of its workspace with a row at most `reach_us` away.

        Raises:
            FileVanishedError: A file had to be read and is not there any more: begin anew.
        """
        if not len(ids):
            return {}
        # To look at them once costs as much as hashing does, and often there is but one.
        one = workspaces[0] if bool((workspaces == workspaces[0]).all()) else None
        names = set(workspaces.unique().to_list()) if one is None else {one}
        hashes = hashing.hash_ids(ids, workspaces if one is None else one)
        order = np.argsort(hashes)
        rows = _Rows(hashes[order], order, times_us, reach_us, names)
        found: dict[str, list[np.ndarray]] = defaultdict(list)
        for key, places in self._probe(rows, background):
            found[key].append(order[places])
        hits = {}
        for key, file in background.find(found).items():
            some = np.unique(np.concatenate(found[key]))
            at = times_us[some]
            near = (at >= file.min_us - reach_us) & (at <= file.max_us + reach_us)
            # A hash that collides may be another workspace's.
            near &= (workspaces.gather(some) == file.partition.workspace).to_numpy()
            if near.any():
                hits[key] = some[near]
        return hits

    def holders(
        self, event_ids: Collection[str], workspaces: Collection[str], background: Background
    ) -> list[DataFile]:
        """Return the live files of these workspaces that may hold rows with one of these ids, by key.

        Whatever their times are. A file that the index does not tell of may hold any id.
        """
        names, ids = set(workspaces), pl.Series(list(event_ids), dtype=pl.String)
        hashes = np.concatenate([np.empty(0, np.uint64), *(hashing.hash_ids(ids, name) for name in names)])
        hashes.sort()
        self._open(background)
        told = self._ask_everywhere(hashes)
        if self._index is not None and self._index.damaged and self._reopen(background):
            told = self._ask_everywhere(hashes)
        if self._index is None:
            return background.files.select(workspaces=names)
        keys = {key for month in told.values() for key, _ in month}
        found = background.find(keys)
        found |= {file.key: file for files in self._pending.values() for file in files}
        for month in self._index.damaged:
            since_us, until_us = bounds(month)
            found |= {file.key: file for file in background.select(names, since_us, until_us)}
        # A hash that collides may be another workspace's.
        return [found[key] for key in sorted(found) if found[key].partition.workspace in names]

    def _ask_everywhere(self, hashes: np.ndarray) -> Mapping[str, list[tuple[str, np.ndarray]]]:
        return {} if self._index is None else self._index.probe(dict.fromkeys(self._index.months, hashes))

    def _probe(self, rows: _Rows, background: Background) -> Iterator[tuple[str, np.ndarray]]:
        """Yield file keys and the rows' places that may lie in each."""
        self._open(background)
        told = self._ask_index(rows)
        if self._index is not None and self._index.damaged and self._reopen(background):
            told = self._ask_index(rows)  # what was missing had been merged and collected meanwhile
        unsure: set[str] | None = None if self._index is None else set(self._index.damaged)
        for month, keys in told.items():
            chosen = rows.of(month)
            yield from ((key, places if chosen is None else chosen[places]) for key, places in keys)
        for month, files in self._untold(rows, background, unsure).items():
            chosen = rows.of(month)
            hashes = rows.hashes if chosen is None else rows.hashes[chosen]
            for key, places in self._recent.probe(files, hashes):
                yield key, places if chosen is None else chosen[places]

    def _ask_index(self, rows: _Rows) -> Mapping[str, list[tuple[str, np.ndarray]]]:
        if self._index is None:
            return {}
        wanted = {}
        for month in self._index.months & rows.months.keys():
            chosen = rows.of(month)
            wanted[month] = rows.hashes if chosen is None else rows.hashes[chosen]
        return self._index.probe(wanted)

    def _untold(
        self, rows: _Rows, background: Background, unsure: set[str] | None
    ) -> dict[str, list[DataFile]]:
        """Return, by month, the files near the rows of which the index does not tell.

        Args:
            unsure: Months of which it tells nothing; None is all.
        """
        names = rows.workspaces
        since_us, until_us = rows.first_us - rows.reach_us, rows.last_us + rows.reach_us + 1
        files: list[DataFile] = []
        if unsure is None or unsure & rows.months.keys():
            files = background.select(names, since_us, until_us)
        if unsure is not None:
            files = [file for file in files if month_of(file) in unsure]
            recent = [file for month in rows.months.keys() - unsure for file in self._pending.get(month, ())]
            recent += [file for file in background.own if month_of(file) not in unsure]
            files += [
                file
                for file in recent
                if file.partition.workspace in names and file.max_us >= since_us and file.min_us < until_us
            ]
        by_month: dict[str, list[DataFile]] = defaultdict(list)
        for file in files:
            if month_of(file) in rows.months:
                by_month[month_of(file)].append(file)
        return by_month

    def _open(self, background: Background) -> None:
        """Open the newest index that fits the snapshot, and find what was added behind it."""
        if self._at == background.sequence:
            return
        if self._index is None or self._index.manifest.sequence > background.sequence:
            found = manifest.newest(self._ledger, up_to=background.sequence)
            self._index = None if found is None else Index(self._ledger.store, found)
        self._pending = self._find_pending(background)
        self._at = background.sequence

    def _reopen(self, background: Background) -> bool:
        """Open a newer index than the present one, if there is one that fits."""
        found = manifest.newest(self._ledger, up_to=background.sequence)
        if found is None or (self._index is not None and found.key == self._index.manifest.key):
            return False
        self._index, self._at = Index(self._ledger.store, found), -1
        self._open(background)
        return True

    def _find_pending(self, background: Background) -> dict[str, list[DataFile]]:
        if self._index is None:
            return {}
        added: dict[str, DataFile] = {}
        for commit in self._ledger.since(self._index.manifest.sequence):
            if commit.sequence > background.sequence:
                break
            added |= {file.key: file for file in commit.content.added}
        by_month: dict[str, list[DataFile]] = defaultdict(list)
        for file in background.find(added).values():
            by_month[month_of(file)].append(file)
        return by_month

    def share(self, ours: Collection[DataFile], theirs: Collection[DataFile]) -> bool:
        """Say whether two sets of files have an id in common (or, rarely, a hash).

        A file that is not there any more is taken for one that has.
        """
        if not ours or not theirs:
            return False
        try:
            mine = self._recent.gather(ours).hashes
            for chunk in in_chunks(theirs):
                if len(matches(mine, self._recent.gather(chunk).hashes)[0]):
                    return True
        except FileVanishedError:
            return True
        return False


class _Rows:
    """Rows to be looked up, in the order of their hashes.

    Attributes:
        hashes: Ascending.
        months: The months in which an archived row may be near one of them; of each the
            numbers of the months in which those rows lie.
        first_us, last_us: Smallest and largest of their times.
        workspaces: Theirs.
    """

    def __init__(
        self,
        hashes: np.ndarray,
        order: np.ndarray,
        times_us: np.ndarray,
        reach_us: int,
        workspaces: set[str],
    ) -> None:
        self.hashes = hashes
        self.workspaces = workspaces
        self.reach_us = reach_us
        self.first_us, self.last_us = int(times_us.min()), int(times_us.max())
        ends = numbers_of(np.array([self.first_us, self.last_us]))
        self._numbers = None if ends[0] == ends[1] else numbers_of(times_us)[order]
        self.months: dict[str, set[int]] = defaultdict(set)
        ordered = None if self._numbers is None else times_us[order]
        for number in [int(ends[0])] if self._numbers is None else np.unique(self._numbers).tolist():
            low, high = self.first_us, self.last_us
            if ordered is not None and self._numbers is not None:
                here = ordered[self._numbers == number]
                low, high = int(here.min()), int(here.max())
            for month in between(low - reach_us, high + reach_us):
                self.months[month].add(number)
        self._all = set().union(*self.months.values())

    def of(self, month: str) -> np.ndarray | None:
        """Return the places of the rows that may have a near row in `month`; None is all of them."""
        near = self.months[month]
        if self._numbers is None or near == self._all:
            return None
        return np.flatnonzero(np.isin(self._numbers, list(near)))
