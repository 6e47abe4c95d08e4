"""Rows to data files: sorted, cut by partition, encoded, put.

Rows of a chunk are sorted by workspace, day and event time; every run of one partition
becomes one file. Many threads put, since most of a put is waiting for the disk or the
network; few of them encode at a time, which bounds the memory beside the chunk.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np
import pyarrow as pa

from archiver import layout
from archiver.columns import IDENTITY_COLUMN, SCHEMAS
from archiver.datafile import Encoding
from archiver.ledger.entry import DataFile, digest_of
from archiver.store.base import Store

THREADS: Final = 16
ENCODERS: Final = 3
LARGEST_PART_BYTES: Final = 64 << 20  # in memory, before it is encoded
_DAY_US: Final = 86_400_000_000
_EPOCH: Final = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Written:
    """A file that lies in the store, and the ids of its rows."""

    file: DataFile
    ids: pa.ChunkedArray


class Writer:
    """Writes the data files of one attempt. Every name is used once.

    Use it as a context manager: leaving it ends its threads.
    """

    def __init__(self, store: Store, batch: str, attempt: str, encoding: Encoding) -> None:
        self._store = store
        self._batch = batch
        self._attempt = attempt
        self._encoding = encoding
        self._numbers = itertools.count()
        self._encoders = threading.BoundedSemaphore(ENCODERS)
        self._pool: Executor = ThreadPoolExecutor(THREADS, thread_name_prefix="write")

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def write(self, rows: pa.Table, dataset: str, chosen: np.ndarray | None = None) -> list[Written]:
        """Write rows, all or those with the numbers `chosen`, and return what lies in the store.

        `rows` has the columns of `SCHEMAS[dataset]`, perhaps more, each in one piece.

        When this returns, every file is durable. Their order is that of their keys' partitions.

        Raises:
            StoreError: A file could not be written. Others may have been; none is reachable.
        """
        if chosen is None:
            chosen = np.arange(rows.num_rows)
        if not len(chosen):
            return []
        rows = rows.select(SCHEMAS[dataset].names)
        jobs = [
            self._job(dataset, workspace, day, rows, part)
            for workspace, day, part in _partitions(rows, chosen)
        ]
        return list(self._pool.map(lambda job: job(), jobs))

    def _job(
        self, dataset: str, workspace: str, day: date, rows: pa.Table, chosen: np.ndarray
    ) -> Callable[[], Written]:
        number, suffix = next(self._numbers), self._encoding.format
        key = layout.data_file(dataset, workspace, day, self._batch, self._attempt, number, suffix)

        def write_one() -> Written:
            # Taken out one by one, in the threads: a sorted copy of everything would double the memory.
            with self._encoders:
                part = rows.take(pa.array(chosen))
                content = self._encoding.encode(part, dataset)
                times, ids, count = part["event_time"], part[IDENTITY_COLUMN[dataset]], part.num_rows
                del part
            self._store.put(key, content)
            file = DataFile(
                key=key,
                digest=digest_of(content),
                bytes=len(content),
                rows=count,
                min_us=times[0].cast(pa.int64()).as_py(),
                max_us=times[count - 1].cast(pa.int64()).as_py(),
            )
            return Written(file, ids)

        return write_one


def _partitions(rows: pa.Table, chosen: np.ndarray) -> Iterator[tuple[str, date, np.ndarray]]:
    """Yield workspace, UTC day and row numbers of each partition, by event time, then as they came.

    A partition with very many bytes comes in several pieces.
    """
    workspaces = rows["workspace_id"].combine_chunks().dictionary_encode()
    if isinstance(workspaces, pa.ChunkedArray):
        workspaces = workspaces.combine_chunks()
    codes = workspaces.indices.to_numpy(zero_copy_only=False)[chosen]
    times = rows["event_time"].cast(pa.int64()).to_numpy()[chosen]
    days = times // _DAY_US
    order = np.lexsort((times, days, codes))  # stable: equal times stay in the order they were read
    codes, days, numbers = codes[order], days[order], chosen[order]
    cuts = np.flatnonzero((np.diff(codes) != 0) | (np.diff(days) != 0)) + 1
    names = workspaces.dictionary.to_pylist()
    most = max(1, LARGEST_PART_BYTES * rows.num_rows // max(rows.nbytes, 1))
    starts, ends = [0, *cuts.tolist()], [*cuts.tolist(), len(order)]
    for start, end in zip(starts, ends, strict=True):
        workspace, day = names[codes[start]], _EPOCH + timedelta(days=int(days[start]))
        for piece in range(start, end, most):
            yield workspace, day, numbers[piece : min(piece + most, end)]
