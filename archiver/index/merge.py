"""Runs of a month, merged: few objects to look into, in bounded memory, without what is no longer live.

Small runs are merged with each other, and with a larger one once they are together about as
large. So a month of any size has few runs, and an entry is written again a few times, which
grows with the logarithm of the month (docs/decisions/0015).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa

from archiver import layout
from archiver.index.part import Part, PartBuilder, PartEntry, as_table, keys_of
from archiver.index.recent import Run
from archiver.store.base import Store

LARGEST_PART: Final = 12 << 20  # entries; an object of 150 MB, which is held in memory once
SLICE: Final = 1 << 20  # entries merged at a time
_KEYS_AT_ONCE: Final = 20_000

IsLive = Callable[[Collection[str]], Collection[str]]


def runs_of(parts: Sequence[PartEntry]) -> list[list[PartEntry]]:
    """Return the parts of one month by run, the smallest run first."""
    runs: dict[str, list[PartEntry]] = defaultdict(list)
    for part in parts:
        runs[part.run].append(part)
    return sorted(runs.values(), key=_size)


def due(parts: Sequence[PartEntry]) -> list[PartEntry]:
    """Return which parts of a month should be merged into one run; none is often the answer.

    Afterwards each run is more than twice as large as all smaller ones together.
    """
    smaller = 0
    chosen: list[PartEntry] = []
    before: list[PartEntry] = []
    for run in runs_of(parts):
        if before and _size(run) <= 2 * smaller:
            chosen = before + run
        before = before + run
        smaller += _size(run)
    return chosen


def write(store: Store, month: str, entries: Run, keys: Sequence[str]) -> list[PartEntry]:
    """Write entries as one run.

    Args:
        entries: Ascending; their numbers are places in `keys`.
    """
    if not len(entries.hashes):
        return []
    slices = (
        (entries.hashes[start : start + SLICE], entries.files[start : start + SLICE])
        for start in range(0, len(entries.hashes), SLICE)
    )
    return _put(store, month, slices, len(entries.hashes), as_table(list(keys)))


def merge(store: Store, month: str, parts: Sequence[PartEntry], is_live: IsLive) -> list[PartEntry]:
    """Write the entries of `parts`, all of one month, as one run, less those of files no longer live.

    Args:
        is_live: Gives back which of some keys are live.

    Raises:
        IndexDamagedError: A part is missing or damaged. Nothing names what was written until then.
    """
    opened = [Part(store, entry) for entry in parts]
    tables, numbers, start = [], [], 0
    for part in opened:
        table = part.table()
        alive = _alive(table, is_live)
        renumbered = np.full(table.num_rows, -1, dtype=np.int64)
        renumbered[alive] = start + np.arange(len(alive))
        start += len(alive)
        tables.append(table.drop_columns(["entries"]).take(pa.array(alive)))
        numbers.append(renumbered)
    total = sum(entry.entries for entry in parts)
    table = pa.concat_tables(tables).unify_dictionaries()
    return _put(store, month, _slices(opened, numbers, total), total, table)


def stale(store: Store, parts: Sequence[PartEntry], is_live: IsLive) -> list[PartEntry]:
    """Return the parts of those runs of which less than half the entries are of live files.

    Raises:
        IndexDamagedError: A part is missing or damaged.
    """
    chosen: list[PartEntry] = []
    for run in runs_of(parts):
        live = 0
        for entry in run:
            table = Part(store, entry).table()
            live += int(table["entries"].to_numpy()[_alive(table, is_live)].sum())
        if 2 * live < _size(run):
            chosen += run
    return chosen


def _alive(table: pa.Table, is_live: IsLive) -> np.ndarray:
    """Return the numbers of the files that are live."""
    alive = np.zeros(table.num_rows, dtype=bool)
    for start in range(0, table.num_rows, _KEYS_AT_ONCE):
        keys = keys_of(table.slice(start, _KEYS_AT_ONCE))
        living = is_live(keys)
        alive[start : start + len(keys)] = [key in living for key in keys]
    return np.flatnonzero(alive)


def _slices(
    parts: Sequence[Part], numbers: Sequence[np.ndarray], total: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield all entries in ascending order, some at a time. Equal ranges hold about as many."""
    count = max(1, math.ceil(total / SLICE))
    bounds = [(2**64 * number) // count for number in range(count + 1)]
    for low, behind in pairwise(bounds):
        hashes, files = [], []
        for part, renumbered in zip(parts, numbers, strict=True):
            some, of = part.between(low, behind - 1)
            number = renumbered[of]
            hashes.append(some[number >= 0])
            files.append(number[number >= 0])
        joined = np.concatenate(hashes)
        order = np.argsort(joined, kind="stable")
        yield joined[order], np.concatenate(files)[order].astype(np.uint32)


def _put(
    store: Store,
    month: str,
    slices: Iterator[tuple[np.ndarray, np.ndarray]],
    most: int,
    table: pa.Table,
) -> list[PartEntry]:
    run = layout.new_index_part(month).rpartition("/")[2].removesuffix(".idx")
    written: list[PartEntry] = []
    builder = PartBuilder(min(most, LARGEST_PART))

    def flush() -> None:
        entry, content = builder.finish(month, run, table)
        store.put(entry.key, content)
        written.append(entry)

    for hashes, files in slices:
        start = 0
        while start < len(hashes):
            room = min(most, LARGEST_PART) - builder.entries
            builder.take(hashes[start : start + room], files[start : start + room])
            start += room
            if builder.entries == min(most, LARGEST_PART):
                flush()
                builder = PartBuilder(min(most, LARGEST_PART))
    if builder.entries:
        flush()
    return written


def _size(run: Sequence[PartEntry]) -> int:
    return sum(part.entries for part in run)
