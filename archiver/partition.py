"""Rows by partition: each block is arranged where it is judged, and a chunk only gathers slices.

So no copy of a whole chunk is ever made: the slices of one partition are joined, sorted
and encoded by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np
import pyarrow as pa

DAY_US: Final = 86_400_000_000
_EPOCH: Final = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Cut:
    """Consecutive rows of one partition.

    Attributes:
        workspace: Of all of them.
        day: UTC day of their event times, counted from 1970.
        start, end: Numbers of the first row, and of the one behind the last.
    """

    workspace: str
    day: int
    start: int
    end: int


@dataclass(slots=True)
class Arranged:
    """Rows of one dataset, partition by partition; within one as they were read.

    Attributes:
        rows: Columns of `VALIDATED_SCHEMAS`, or of `SCHEMAS`.
        cuts: Cover all rows, in order.
    """

    rows: pa.RecordBatch
    cuts: list[Cut]


def arrange(rows: pa.RecordBatch) -> Arranged:
    """Bring rows into the order of workspace and day."""
    if rows.num_rows == 0:
        return Arranged(rows, [])
    workspaces = rows.column("workspace_id").dictionary_encode()
    codes = workspaces.indices.to_numpy(zero_copy_only=False)
    days = rows.column("event_time").cast(pa.int64()).to_numpy() // DAY_US
    order = np.lexsort((rows.column("ordinal").to_numpy(), days, codes))
    codes, days = codes[order], days[order]
    ends = [*(np.flatnonzero((np.diff(codes) != 0) | (np.diff(days) != 0)) + 1).tolist(), len(order)]
    names = workspaces.dictionary.to_pylist()
    cuts = []
    start = 0
    for end in ends:
        cuts.append(Cut(names[codes[start]], int(days[start]), start, end))
        start = end
    return Arranged(rows.take(pa.array(order)), cuts)


@dataclass(slots=True)
class Part:
    """The rows that become one file. They are joined when `table` is called, and not kept."""

    workspace: str
    day: int
    slices: list[tuple[pa.RecordBatch, np.ndarray]]

    @property
    def dt(self) -> date:
        return _EPOCH + timedelta(days=self.day)

    def table(self) -> pa.Table:
        """Return the rows by event time, then as they were read."""
        kept = [rows if wanted.all() else rows.filter(pa.array(wanted)) for rows, wanted in self.slices]
        table = pa.Table.from_batches(kept).combine_chunks()
        times = table["event_time"].cast(pa.int64()).to_numpy()
        if (times[:-1] <= times[1:]).all():
            return table
        return table.take(pa.array(np.argsort(times, kind="stable")))


def partitions(arranged: list[Arranged], chosen: np.ndarray, most_bytes: int) -> list[Part]:
    """Return the chosen rows by partition, in the order of workspace and day.

    Args:
        arranged: In the order of reading.
        chosen: For each row, over all of `arranged`, whether it is wanted.
        most_bytes: A partition with more, in memory, is cut into several parts.
    """
    slices: dict[tuple[str, int], list[tuple[pa.RecordBatch, np.ndarray, int]]] = {}
    first = 0
    for block in arranged:
        # Of a slice, the exact size is dear to ask for; the block's average will do.
        bytes_a_row = max(1, block.rows.nbytes // max(block.rows.num_rows, 1))
        most_rows = max(1, most_bytes // bytes_a_row)
        for cut in block.cuts:
            for start in range(cut.start, cut.end, most_rows):
                end = min(start + most_rows, cut.end)
                wanted = chosen[first + start : first + end]
                if wanted.any():
                    rows = block.rows.slice(start, end - start)
                    piece = (rows, wanted, rows.num_rows * bytes_a_row)
                    slices.setdefault((cut.workspace, cut.day), []).append(piece)
        first += block.rows.num_rows
    return [
        Part(workspace, day, group)
        for (workspace, day), found in sorted(slices.items())
        for group in _groups(found, most_bytes)
    ]


def _groups(
    slices: list[tuple[pa.RecordBatch, np.ndarray, int]], most_bytes: int
) -> Iterator[list[tuple[pa.RecordBatch, np.ndarray]]]:
    group: list[tuple[pa.RecordBatch, np.ndarray]] = []
    size = 0
    for rows, wanted, estimate in slices:
        if group and size + estimate > most_bytes:
            yield group
            group, size = [], 0
        group.append((rows, wanted))
        size += estimate
    if group:
        yield group
