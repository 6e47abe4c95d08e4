"""Rows to data files: sorted, cut by partition, encoded, put.

The rows of each partition of a chunk, sorted by event time, become one file. Many threads
put, since most of a put is waiting for the disk or the network; few of them encode at a
time, which bounds the memory beside the chunk.
"""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from archiver import layout
from archiver.columns import IDENTITY_COLUMN, with_origin
from archiver.datafile import Encoding, bodies_digest
from archiver.ledger.entry import DataFile, digest_of
from archiver.partition import Arranged, Part, partitions
from archiver.store.base import Store

THREADS: Final = 16
ENCODERS: Final = 3
LARGEST_PART_BYTES: Final = 64 << 20  # in memory, before it is encoded


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

    def write(self, rows: list[Arranged], dataset: str, chosen: np.ndarray | None = None) -> list[Written]:
        """Write rows, all or those for which `chosen` is true, and return what lies in the store.

        When this returns, every file is durable. Their order is that of their keys' partitions.

        Raises:
            StoreError: A file could not be written. Others may have been; none is reachable.
        """
        if chosen is None:
            chosen = np.ones(sum(part.rows.num_rows for part in rows), dtype=bool)
        parts = partitions(rows, chosen, LARGEST_PART_BYTES)
        return list(self._pool.map(lambda part: self._write_one(part, dataset, next(self._numbers)), parts))

    def _write_one(self, part: Part, dataset: str, number: int) -> Written:
        with self._encoders:
            rows = with_origin(part.table(), dataset)
            content = self._encoding.encode(rows, dataset)
            bodies = bodies_digest(rows["body"], self._encoding.format)
            times, ids, count = rows["event_time"], rows[IDENTITY_COLUMN[dataset]], rows.num_rows
            del rows
        suffix = self._encoding.format
        key = layout.data_file(dataset, part.workspace, part.dt, self._batch, self._attempt, number, suffix)
        self._store.put(key, content)
        file = DataFile(
            key=key,
            digest=digest_of(content),
            bytes=len(content),
            rows=count,
            min_us=times[0].cast(pa.int64()).as_py(),
            max_us=times[count - 1].cast(pa.int64()).as_py(),
            bodies=bodies,
        )
        return Written(file, ids)
