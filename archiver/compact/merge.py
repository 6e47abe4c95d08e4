"""Several data files of one partition into one, in bounded memory: all rows, by event time.

Each file is decoded once, alone. Where a row goes follows from the times of all rows, which
are read first. So the rows are cut into as many shards as the new file gets row groups, and
wait there, compressed, until it is their shard's turn to be sorted and written. Rows are not
of one size: a shard that turns out too large is cut again. Beside the old files, then the
shards, and the new file, all of them compressed, memory holds one row group.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from archiver import layout
from archiver.columns import SCHEMAS
from archiver.datafile import (
    ROW_GROUP_ROWS,
    BodiesDigest,
    Encoding,
    bodies_of,
    parquet_writer,
    suffix_of,
    times_of_lines,
)
from archiver.errors import ArchiverError, IntegrityError
from archiver.ledger.entry import DataFile, digest_of

ROW_GROUP_BYTES: Final = 32 << 20  # in memory
MOST_LINES_BYTES: Final = 192 << 20  # of JSON lines, in memory
_BATCH_ROWS: Final = 8_192
_BATCH_BYTES: Final = 4 << 20
_MOST_SHARDS: Final = 256  # each keeps up to a mebibyte waiting
_WAITING_BYTES: Final = 1 << 20
_SWOLLEN: Final = 2  # columns in memory are about so much larger than encoded and not compressed

Read = Callable[[Sequence[DataFile]], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Merged:
    """A new file's bytes, and what the ledger says of it.

    Attributes:
        files: Those whose rows it has: all that were given, or, of JSON lines that turned out
            too large in memory, the first of them.
        bodies: As in `DataFile`.
    """

    content: bytes
    files: tuple[DataFile, ...]
    rows: int
    min_us: int
    max_us: int
    bodies: str


def merge(files: Sequence[DataFile], read: Read, encoding: Encoding) -> Merged | None:
    """Return one file with the rows of all `files`, by event time; equal times in the files' order.

    Rows of equal time of one file stay in their order, so all rows of one file do.

    Args:
        files: Of one partition.
        read: Gives the bytes of files, in their order.

    Returns:
        None if not even two of them can be taken together.

    Raises:
        IntegrityError: A file is not what the ledger says; nothing is taken over from it.
        ObjectNotFoundError, StoreError: As `read` raises them.
    """
    contents = (_intact(file, content) for file, content in zip(files, read(files), strict=True))
    if encoding.format != "parquet":
        return _merge_lines(files, contents, encoding)
    try:
        return _merge_parquet(files, contents, encoding.level)
    except ArchiverError:
        raise  # a missing object is an OSError, too
    except (pa.ArrowException, OSError, LookupError) as error:
        names = f"{files[0].key} and {len(files) - 1} more"
        raise IntegrityError(f"{names}: cannot be read as parquet: {error}"[:400]) from error


def _intact(file: DataFile, content: bytes) -> bytes:
    found = digest_of(content)
    if found != file.digest:
        raise IntegrityError(
            f"{file.key}: expected {file.digest}, found {found}",
            hint="nothing was compacted from it: run `archiver verify`, restore the file from a copy",
        )
    return content


def _checked(times: np.ndarray, file: DataFile) -> np.ndarray:
    if len(times) != file.rows or (times[1:] < times[:-1]).any():
        raise IntegrityError(f"{file.key}: expected {file.rows} rows by event time, found others")
    return times


def _merge_parquet(files: Sequence[DataFile], contents: Iterable[bytes], level: int) -> Merged:
    dataset = files[0].partition.dataset
    waiting: deque[pa.Buffer] = deque()
    times: list[np.ndarray] = []
    decoded_bytes = 0
    for file, content in zip(files, contents, strict=True):
        buffer = _own(content)
        del content
        with pq.ParquetFile(pa.BufferReader(buffer)) as opened:
            meta = opened.metadata
            groups = (meta.row_group(number).total_byte_size for number in range(meta.num_row_groups))
            decoded_bytes += _SWOLLEN * sum(groups)
            found = opened.read(columns=["event_time"], use_threads=False)["event_time"]
        times.append(_checked(found.cast(pa.int64()).to_numpy(), file))
        waiting.append(buffer)
    count = sum(len(part) for part in times)
    group_rows = max(1, min(ROW_GROUP_ROWS, count * ROW_GROUP_BYTES // max(decoded_bytes, 1)))
    group_rows = max(group_rows, -(-count // _MOST_SHARDS))
    places = _places(times)
    shards = _Shards(-(-count // group_rows), SCHEMAS[dataset])
    for file, place in zip(files, places, strict=True):
        # Each file's bytes go when they are decoded: their shards take the room.
        for start, rows in _decoded(waiting.popleft(), file, SCHEMAS[dataset]):
            end = start + rows.num_rows
            for shard in range(int(place[start]) // group_rows, int(place[end - 1]) // group_rows + 1):
                # Ascending places: what lies in one shard is one stretch.
                first, last = np.searchsorted(
                    place[start:end], [shard * group_rows, (shard + 1) * group_rows]
                )
                if last > first:
                    shards.add(shard, rows.slice(first, last - first))
    sink, digest = io.BytesIO(), BodiesDigest()
    with parquet_writer(sink, SCHEMAS[dataset], dataset, rows=min(count, group_rows), level=level) as writer:
        written = 0
        for rows in shards.drain():
            digest.take(rows["body"])
            writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
            written += rows.num_rows
    if written != count:
        raise IntegrityError(f"{files[0].key}: expected {count} rows in all, wrote {written}")
    low, high = min(int(part[0]) for part in times), max(int(part[-1]) for part in times)
    return Merged(sink.getvalue(), tuple(files), count, low, high, digest.digest())


def _own(content: bytes) -> pa.Buffer:
    """Return a copy in Arrow's memory, which is given back when it is freed; Python's heap keeps it."""
    buffer = pa.allocate_buffer(len(content), resizable=False)
    memoryview(buffer).cast("B")[:] = content
    return buffer


def _places(times: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return for the rows of each file where in the new file they go."""
    order = np.argsort(np.concatenate(times), kind="stable")
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    return np.split(places, np.cumsum([len(part) for part in times])[:-1])


def _decoded(content: pa.Buffer, file: DataFile, schema: pa.Schema) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield a file's rows some thousand at a time, with the number of the first of them."""
    stem = layout.stem_of(file.key)
    start = 0
    with pq.ParquetFile(pa.BufferReader(content)) as opened:
        for group in range(opened.num_row_groups):
            meta = opened.metadata.row_group(group)
            most = max(1, min(_BATCH_ROWS, meta.num_rows * _BATCH_BYTES // max(meta.total_byte_size, 1)))
            for batch in opened.iter_batches(most, [group], schema.names, use_threads=False):
                arrays = [batch.column(name) for name in schema.names]
                arrays[-1] = pc.fill_null(arrays[-1], stem)  # `origin` is the last column of all datasets
                yield start, pa.RecordBatch.from_arrays(arrays, schema=schema)
                start += batch.num_rows


class _Shards:
    """Rows on their way to their row group: compressed, in the order of the files."""

    def __init__(self, count: int, schema: pa.Schema) -> None:
        options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 1))
        self._sinks = [pa.BufferOutputStream() for _ in range(count)]
        self._writers = [pa.ipc.new_stream(sink, schema, options=options) for sink in self._sinks]
        self._waiting: list[list[pa.RecordBatch]] = [[] for _ in range(count)]
        self._bytes = [0] * count
        self._rows = [0] * count
        self._all_bytes = [0] * count

    def add(self, shard: int, rows: pa.RecordBatch) -> None:
        """Take rows in. Few of them wait for more, since each block has its overhead."""
        rows = rows.take(pa.array(np.arange(rows.num_rows)))  # a slice would hold on to all it is cut from
        self._waiting[shard].append(rows)
        self._bytes[shard] += rows.nbytes
        self._rows[shard] += rows.num_rows
        self._all_bytes[shard] += rows.nbytes
        if self._bytes[shard] >= _WAITING_BYTES:
            self._pack(shard)

    def _pack(self, shard: int) -> None:
        if self._waiting[shard]:
            self._writers[shard].write_batch(pa.concat_batches(self._waiting[shard]))
        self._waiting[shard], self._bytes[shard] = [], 0

    def drain(self) -> Iterator[pa.Table]:
        """Yield the rows by event time, a row group at a time, and forget them."""
        for shard in range(len(self._sinks)):
            self._pack(shard)
            self._writers[shard].close()
            packed = self._sinks[shard].getvalue()
            self._sinks[shard] = self._writers[shard] = None
            if self._rows[shard] > 1 and self._all_bytes[shard] > 2 * ROW_GROUP_BYTES:
                finer = _cut(packed, self._rows[shard], self._all_bytes[shard])
                del packed
                yield from finer.drain()
                continue
            table = pa.ipc.open_stream(packed).read_all()
            del packed
            times = table["event_time"].cast(pa.int64()).to_numpy()
            table = table.take(pa.array(np.argsort(times, kind="stable")))
            yield table
            del table
            pa.default_memory_pool().release_unused()


def _cut(packed: pa.Buffer, rows: int, size: int) -> _Shards:
    """Spread the rows of one shard, of `size` bytes in memory, over several."""
    with pa.ipc.open_stream(packed) as stream:
        schema = stream.schema
    only_times = pa.ipc.IpcReadOptions(included_fields=[schema.names.index("event_time")])
    with pa.ipc.open_stream(packed, options=only_times) as stream:
        times = stream.read_all()["event_time"].cast(pa.int64()).to_numpy()
    (places,) = _places([times])
    count = min(rows, _MOST_SHARDS, -(-size // ROW_GROUP_BYTES))
    numbers = places // -(-rows // count)
    shards = _Shards(int(numbers.max()) + 1, schema)
    start = 0
    with pa.ipc.open_stream(packed) as stream:
        for batch in stream:
            part = numbers[start : start + batch.num_rows]
            for shard in np.unique(part).tolist():
                shards.add(shard, batch.take(pa.array(np.flatnonzero(part == shard))))
            start += batch.num_rows
    return shards


def _merge_lines(files: Sequence[DataFile], contents: Iterable[bytes], encoding: Encoding) -> Merged | None:
    """Merge files of bodies alone. Their times are told by judging the bodies again."""
    bodies: list[bytes] = []
    times: list[np.ndarray] = []
    size = 0
    for file, content in zip(files, contents, strict=True):
        found = bodies_of(content, file.key)
        size += sum(map(len, found))
        if len(times) > 1 and size > MOST_LINES_BYTES:
            break
        times.append(_checked(times_of_lines(found, file.key), file))
        bodies += found
    if len(times) < 2 or (len(times) == 2 and size > 2 * MOST_LINES_BYTES):
        return None
    every = np.concatenate(times)
    order = np.argsort(every, kind="stable")
    lines = [bodies[number] for number in order.tolist()]
    digest = BodiesDigest()
    digest.take(pa.array(lines, pa.large_binary()))
    low, high = int(every[order[0]]), int(every[order[-1]])
    content = encoding.compress(b"".join(line + b"\n" for line in lines))
    return Merged(content, tuple(files[: len(times)]), len(lines), low, high, digest.digest())


def merged_file(merged: Merged, key: str) -> DataFile:
    """Return the ledger's entry of a new file that lies at `key`."""
    suffix_of(key)
    return DataFile(
        key=key,
        digest=digest_of(merged.content),
        bytes=len(merged.content),
        rows=merged.rows,
        min_us=merged.min_us,
        max_us=merged.max_us,
        bodies=merged.bodies,
    )
