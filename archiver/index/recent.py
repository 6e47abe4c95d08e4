"""Which ids lie in which file, for files that the index does not tell of: sorted hashes in memory.

That is what this process has just written, and what other processes committed since the
index was brought up to date. Files never change, so what was read of one stays true. Memory
is bounded: beyond the budget the months that were asked for longest ago are forgotten, and
files of a month that alone is larger are read each time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from archiver.index import hashing
from archiver.index.hashing import group_rows, matches
from archiver.index.months import month_of
from archiver.index.reading import hashes_of
from archiver.ledger.entry import DataFile
from archiver.store.base import Store

BUDGET_IDS: Final = 16_000_000  # 12 bytes each
_READERS: Final = 8
_FILES_AT_ONCE: Final = 256


@dataclass(slots=True)
class Run:
    """Hashes in ascending order, and of each the number of its file."""

    hashes: np.ndarray
    files: np.ndarray


@dataclass(slots=True)
class _Month:
    runs: list[Run] = field(default_factory=list)
    covered: set[str] = field(default_factory=set)
    ids: int = 0


class Recent:
    """See the module's docstring."""

    def __init__(self, store: Store, *, budget_ids: int = BUDGET_IDS) -> None:
        self._store = store
        self._budget = budget_ids
        self._months: OrderedDict[str, _Month] = OrderedDict()
        self._keys: list[str] = []  # file number -> key
        self._numbers: dict[str, int] = {}

    def remember(self, file: DataFile, ids: pa.ChunkedArray) -> None:
        """Take note of a file that was just written, without reading it back."""
        hashes = hashing.hash_ids(pl.Series(ids), file.partition.workspace)
        self._add(month_of(file), [(file, np.sort(hashes))])

    def covers(self, file: DataFile) -> bool:
        """Say whether the ids of `file` are in memory."""
        here = self._months.get(month_of(file))
        return here is not None and file.key in here.covered

    def clear(self) -> None:
        """Forget everything: the index tells of it now."""
        self._months.clear()
        self._keys.clear()
        self._numbers.clear()

    def probe(self, files: Collection[DataFile], hashes: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Yield, file by file, the positions in `hashes`, ascending ones, that may lie in it.

        Args:
            files: The files to look in, all of one month.

        Raises:
            FileVanishedError: One of them is not there any more.
        """
        wanted = {file.key for file in files}
        for run in self._runs(files):
            positions, there = matches(hashes, run.hashes)
            for number, found in group_rows(run.files[there], positions).items():
                if self._keys[number] in wanted:
                    yield self._keys[number], found

    def gather(self, files: Collection[DataFile]) -> Run:
        """Return the hashes of all ids in these files; the numbers are those of the files' places.

        Raises:
            FileVanishedError: One of them is not there any more.
        """
        places = {file.key: place for place, file in enumerate(files)}
        parts: list[Run] = []
        missing = [file for file in files if not self.covers(file)]
        with ThreadPoolExecutor(_READERS) as readers:
            for file, hashes in zip(missing, readers.map(self._read, missing), strict=True):
                parts.append(Run(hashes, np.full(len(hashes), places[file.key], dtype=np.uint32)))
        if len(missing) < len(places):
            place_of = np.full(len(self._keys), -1, dtype=np.int64)
            for file in files:
                if self.covers(file):
                    place_of[self._numbers[file.key]] = places[file.key]
            for month in {month_of(file) for file in files} & self._months.keys():
                for run in self._months[month].runs:
                    place = place_of[run.files]
                    ours = place >= 0
                    parts.append(Run(run.hashes[ours], place[ours].astype(np.uint32)))
        return merged(parts)

    def _runs(self, files: Collection[DataFile]) -> Iterator[Run]:
        if not files:
            return
        month = month_of(next(iter(files)))
        if month in self._months:
            self._months.move_to_end(month)
        missing = [file for file in files if not self.covers(file)]
        for start in range(0, len(missing), _FILES_AT_ONCE):
            part = missing[start : start + _FILES_AT_ONCE]
            with ThreadPoolExecutor(min(_READERS, len(part))) as readers:
                loaded = list(zip(part, readers.map(self._read, part), strict=True))
            yield from self._add(month, loaded)
        here = self._months.get(month)
        if here is not None:
            yield from list(here.runs)

    def _read(self, file: DataFile) -> np.ndarray:
        return hashes_of(self._store, file)

    def _add(self, month: str, loaded: list[tuple[DataFile, np.ndarray]]) -> list[Run]:
        """Keep what was loaded if the budget allows; else return it, to be used once."""
        size = sum(len(hashes) for _, hashes in loaded)
        run = self._as_run(loaded)
        here = self._months.get(month)
        if size + (here.ids if here else 0) > self._budget:
            return [run]
        while self._months and size + sum(each.ids for each in self._months.values()) > self._budget:
            oldest = next(iter(self._months))
            if oldest == month:
                self._months.move_to_end(month)
                continue
            del self._months[oldest]
        here = self._months.setdefault(month, _Month())
        here.runs.append(run)
        here.covered.update(file.key for file, _ in loaded)
        here.ids += size
        # Each run is more than twice the next one: there are few, and each id moves a few times.
        while len(here.runs) > 1 and len(here.runs[-2].hashes) <= 2 * len(here.runs[-1].hashes):
            here.runs[-2:] = [merged(here.runs[-2:])]
        return []

    def _as_run(self, loaded: list[tuple[DataFile, np.ndarray]]) -> Run:
        for file, _ in loaded:
            if file.key not in self._numbers:
                self._numbers[file.key] = len(self._keys)
                self._keys.append(file.key)
        return merged(
            [
                Run(hashes, np.full(len(hashes), self._numbers[file.key], dtype=np.uint32))
                for file, hashes in loaded
            ]
        )


def merged(runs: list[Run]) -> Run:
    """Return several runs as one."""
    if not runs:
        return Run(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint32))
    if len(runs) == 1:
        return runs[0]
    hashes = np.concatenate([run.hashes for run in runs])
    files = np.concatenate([run.files for run in runs])
    order = np.argsort(hashes, kind="stable")
    return Run(hashes[order], files[order])
