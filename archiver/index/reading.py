"""What is read of data files to know their ids, and to confirm a hit.

A file of a snapshot may vanish while it is read: it was compacted or expired meanwhile, and
collected. That is no damage but a reason to begin anew, with a snapshot of now.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from xxhash import xxh64_intdigest

from archiver.columns import IDENTITY_COLUMN, TIME
from archiver.datafile import decode, suffix_of
from archiver.errors import CommitConflictError, IntegrityError, ObjectNotFoundError
from archiver.index import hashing
from archiver.ledger.entry import DataFile, digest_of
from archiver.ledger.snapshot import Snapshot
from archiver.store.base import Store

WHOLE_FILE_BYTES: Final = 1 << 20  # below, one request for all is cheaper than several for a column
_FEW_IDS: Final = 32  # beyond, the filters of most row groups say yes to one of them
_BATCH_ROWS: Final = 8_192
_SALTS: Final = np.array(
    [0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31],
    dtype=np.uint32,
)


class FileVanishedError(CommitConflictError):
    """A data file of the snapshot is not there any more: begin anew, with the head of now.

    Attributes:
        key: Of the file.
    """

    def __init__(self, key: str) -> None:
        super().__init__(
            f"{key}: not there any more; another file has taken its rows over, or they expired",
            hint="run again",
        )
        self.key = key

    def hold_against(self, head: Snapshot) -> None:
        """Return if the file is no longer live at `head`, which explains it.

        Raises:
            IntegrityError: It is live, and missing.
        """
        if head.files.find((self.key,)):
            raise IntegrityError(
                f"{self.key}: missing, though the ledger names it",
                hint="the archive was damaged: run `archiver verify`, restore the file from a copy",
            ) from self


def hashes_of(store: Store, file: DataFile) -> np.ndarray:
    """Return the hashes of the ids in `file`, in ascending order.

    Raises:
        FileVanishedError: It is not there.
        IntegrityError: Its ids cannot be read.
    """
    workspace, identity = file.partition.workspace, IDENTITY_COLUMN[file.partition.dataset]
    with opened(store, file) as source:
        if isinstance(source, bytes):
            ids = decode(source, file.key, file.partition.dataset, [identity])[identity]
            return np.sort(hashing.hash_ids(pl.Series(ids), workspace))
        parts = [
            hashing.hash_ids(pl.Series(_column(source, group, identity)), workspace)
            for group in range(source.num_row_groups)
        ]
    return np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.uint64)


def rows_of(store: Store, file: DataFile, ids: Collection[str], dataset: str) -> pa.Table:
    """Return id, event_time, shape, body and base of those rows of `file` that have one of `ids`.

    Of a large file only the row groups that can hold them are read, and its digest is not
    looked at; a small one is read whole, and must be what the ledger says.

    Args:
        dataset: Of a file of supplements, only what supplements rows of this one.

    Raises:
        FileVanishedError: It is not there.
        IntegrityError: It cannot be read, or has another digest.
    """
    holds = file.partition.dataset
    identity = IDENTITY_COLUMN[holds]
    wanted = [identity, "event_time", "shape", "body"]
    if holds == "supplements":
        wanted += ["base_event_time", "dataset"]
    values = pa.array(list(ids), pa.string())

    def chosen(table: pa.Table) -> pa.Table:
        mask = pc.is_in(table[identity], value_set=values)
        if holds == "supplements":
            mask = pc.and_(mask, pc.equal(table["dataset"], dataset))
        return table.filter(mask).select(wanted)

    with opened(store, file) as source:
        if isinstance(source, bytes):
            if (digest := digest_of(source)) != file.digest:
                raise IntegrityError(
                    f"{file.key}: expected {file.digest}, found {digest}",
                    hint="the archive was damaged: run `archiver verify`, restore the file from a copy",
                )
            found = chosen(decode(source, file.key, holds, wanted))
        else:
            found = _from_groups(store, file, source, identity, wanted, list(ids), chosen)
    if holds != "supplements":
        found = found.append_column("base", pa.nulls(found.num_rows, TIME))
    return found.select(range(5)).rename_columns(["id", "event_time", "shape", "body", "base"])


def _from_groups(
    store: Store,
    file: DataFile,
    source: pq.ParquetFile,
    identity: str,
    wanted: list[str],
    ids: list[str],
    chosen: Callable[[pa.Table], pa.Table],
) -> pa.Table:
    likely = [
        group
        for group in range(source.num_row_groups)
        if len(ids) > _FEW_IDS or _may_hold(store, file, source, group, identity, ids)
    ]
    found = _read_groups(source, likely, identity, wanted, ids, chosen)
    # The index says that every id is in this file, so one that the filters hid is a damaged filter.
    rest = [group for group in range(source.num_row_groups) if group not in likely]
    if rest and len(set(found[identity].to_pylist())) < len(set(ids)):
        found = pa.concat_tables([found, _read_groups(source, rest, identity, wanted, ids, chosen)])
    return found


def _read_groups(
    source: pq.ParquetFile,
    groups: list[int],
    identity: str,
    wanted: list[str],
    ids: list[str],
    chosen: Callable[[pa.Table], pa.Table],
) -> pa.Table:
    values = pa.array(ids, pa.string())
    tables = []
    for group in groups:
        if not pc.any(pc.is_in(_column(source, group, identity), value_set=values)).as_py():
            continue
        rows = source.iter_batches(_BATCH_ROWS, row_groups=[group], columns=wanted, use_threads=False)
        tables += [chosen(pa.Table.from_batches([batch])) for batch in rows]
    if not tables:
        return pa.schema([source.schema_arrow.field(name) for name in wanted]).empty_table()
    return pa.concat_tables(tables)


def _column(source: pq.ParquetFile, group: int, name: str) -> pa.ChunkedArray:
    return source.read_row_group(group, columns=[name], use_threads=False)[name]


def _may_hold(
    store: Store, file: DataFile, source: pq.ParquetFile, group: int, identity: str, ids: list[str]
) -> bool:
    """Ask a row group's Bloom filter (Parquet, split block). Yes, where there is none to be asked."""
    number = source.schema_arrow.get_field_index(identity)
    column = source.metadata.row_group(group).column(number)
    start, length = column.bloom_filter_offset, column.bloom_filter_length
    if start is None or not length:
        return True
    size = 1 << (length.bit_length() - 1)  # a power of two; a header of some bytes lies before it
    content = store.get(file.key, start=start, length=length)
    # The header, in Thrift's compact form, begins with the filter's size.
    if length - size > 32 or size < 32 or len(content) != length or not content.startswith(_thrift(size)):
        return True
    words = np.frombuffer(content, dtype="<u4", offset=length - size).reshape(-1, 8)
    hashes = np.array([xxh64_intdigest(one.encode()) for one in ids], dtype=np.uint64)
    block = words[((hashes >> np.uint64(32)) * np.uint64(len(words))) >> np.uint64(32)]
    bits = ((hashes & np.uint64(0xFFFFFFFF)).astype(np.uint32)[:, None] * _SALTS) >> np.uint32(27)
    return bool(((block >> bits) & np.uint32(1)).all(axis=1).any())


def _thrift(number: int) -> bytes:
    """Return a first field of type i32 with this value, in Thrift's compact protocol."""
    value, content = number << 1, bytearray(b"\x15")
    while value > 0x7F:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    content.append(value)
    return bytes(content)


@contextmanager
def opened(store: Store, file: DataFile) -> Iterator[Any]:
    """Give a large Parquet file opened for reading parts of it, and of any other the whole content."""
    try:
        if file.bytes <= WHOLE_FILE_BYTES or suffix_of(file.key) != "parquet":
            yield store.get(file.key)
            return
        filesystem, root = store.arrow()
        with filesystem.open_input_file(root + file.key) as source, pq.ParquetFile(source) as parquet:
            yield parquet
    except ObjectNotFoundError:
        raise FileVanishedError(file.key) from None
    except (pa.ArrowException, OSError) as error:
        try:
            store.info(file.key)
        except ObjectNotFoundError:
            raise FileVanishedError(file.key) from None
        raise IntegrityError(f"{file.key}: its rows cannot be read: {error}"[:400]) from error
