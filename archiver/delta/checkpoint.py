"""Delta checkpoints: the live files of a version in one Parquet file, so that engines read few versions.

A checkpoint is a cache of the versions up to its own. Format: the protocol's classic V1
checkpoint, in one part (parts are deprecated there: readers may meet half of them).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from archiver import layout
from archiver.archive import Archive
from archiver.delta.actions import DATASET, add_of, table_of
from archiver.errors import ObjectNotFoundError
from archiver.ledger.entry import Commit, DataFile
from archiver.ledger.files import Files
from archiver.store.base import Store

EVERY: Final = 100  # versions: no reader needs to read many more than these
AT_LEAST_EVERY: Final = 1_000  # versions, however little has changed in a table of many files
_SLICE: Final = 20_000  # files turned into columns at a time

_TEXTS: Final = pa.map_(pa.string(), pa.string())
_SCHEMA: Final = pa.schema(
    {
        "protocol": pa.struct(
            {
                "minReaderVersion": pa.int32(),
                "minWriterVersion": pa.int32(),
                "readerFeatures": pa.list_(pa.string()),
                "writerFeatures": pa.list_(pa.string()),
            }
        ),
        "metaData": pa.struct(
            {
                "id": pa.string(),
                "name": pa.string(),
                "description": pa.string(),
                "format": pa.struct({"provider": pa.string(), "options": _TEXTS}),
                "schemaString": pa.string(),
                "partitionColumns": pa.list_(pa.string()),
                "createdTime": pa.int64(),
                "configuration": _TEXTS,
            }
        ),
        "add": pa.struct(
            {
                "path": pa.string(),
                "partitionValues": _TEXTS,
                "size": pa.int64(),
                "modificationTime": pa.int64(),
                "dataChange": pa.bool_(),
                "stats": pa.string(),
                "tags": _TEXTS,
            }
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Pointer:
    """What `_last_checkpoint` says: a hint for readers, which may be behind."""

    version: int
    files: int


def encode(first: Commit, files: Iterable[Sequence[DataFile]]) -> bytes:
    """Return the checkpoint of a version at which `files` are the live files of `events`.

    The rows follow from the arguments; how they are encoded is up to the Parquet library.

    Args:
        first: Commit 0, which says what the table is.
        files: In portions, so that not all need be in memory at once.
    """
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, _SCHEMA, compression="zstd", store_schema=False) as writer:
        for rows in _rows(first, files):
            writer.write_table(rows)
    return sink.getvalue()


def says(content: bytes, first: Commit, files: Iterable[DataFile]) -> bool:
    """Say whether the bytes of a checkpoint say what `encode` would, however they are encoded."""
    wanted = pa.concat_tables(_rows(first, [sorted(files, key=_order)]))
    try:
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            return bool(file.read(use_threads=False).cast(_SCHEMA).equals(wanted))
    except (pa.ArrowException, OSError, ValueError):
        return False


def _rows(first: Commit, files: Iterable[Sequence[DataFile]]) -> Iterator[pa.Table]:
    table = table_of(first.content.archive or {}, first.committed_us // 1_000)
    yield pa.Table.from_pylist(table, schema=_SCHEMA)
    for part in files:
        for start in range(0, len(part), _SLICE):
            adds = [{"add": {**add_of(file), "dataChange": False}} for file in part[start : start + _SLICE]]
            yield pa.Table.from_pylist(adds, schema=_SCHEMA)


def _order(file: DataFile) -> tuple[str, str]:
    return file.partition.workspace, file.key


def _live(files: Files) -> Iterator[list[DataFile]]:
    """Yield the live files of `events` in the order of a checkpoint, some workspaces at a time."""
    group: list[str] = []
    size = 0
    for workspace, count in _workspaces(files):
        if group and size + count > _SLICE:
            yield sorted(files.select(DATASET, workspaces=set(group), digests=False), key=_order)
            group, size = [], 0
        group.append(workspace)
        size += count
    if group:
        yield sorted(files.select(DATASET, workspaces=set(group), digests=False), key=_order)


def _workspaces(files: Files) -> list[tuple[str, int]]:
    return sorted(
        (workspace, volume.files)
        for (dataset, workspace), volume in files.volumes().items()
        if dataset == DATASET and volume.files
    )


def read_pointer(store: Store) -> Pointer | None:
    """Return what `_last_checkpoint` says, or None if there is none that can be read."""
    try:
        said = json.loads(store.get(layout.DELTA_POINTER))
        return Pointer(int(said["version"]), int(said["numOfAddFiles"]))
    except (ObjectNotFoundError, ValueError, KeyError, TypeError):
        return None


def write(archive: Archive) -> int:
    """Put the checkpoint of the version that the ledger is at, and point readers to it.

    Returns:
        How many files it names.
    """
    head = archive.ledger.snapshot
    files = sum(count for _, count in _workspaces(head.files))
    content = encode(archive.ledger.read(0), _live(head.files))
    archive.store.put(layout.delta_checkpoint(head.sequence), content, mode="overwrite")
    pointer = {
        "version": head.sequence,
        "size": files + 2,
        "sizeInBytes": len(content),
        "numOfAddFiles": files,
    }
    told = json.dumps(pointer, sort_keys=True, separators=(",", ":")).encode()
    archive.store.put(layout.DELTA_POINTER, told, mode="overwrite")
    return files


def is_due(archive: Archive, before: int) -> bool:
    """Say whether a checkpoint should be written, now that versions behind `before` were published.

    One is looked for whenever a multiple of `EVERY` is passed, and written if a tenth of the
    files has changed since or `AT_LEAST_EVERY` versions have: so all checkpoints together stay
    in proportion to what was ever added, even in a table of a million files.
    """
    head = archive.ledger.snapshot.sequence
    if head // EVERY <= max(before, 0) // EVERY:
        return False
    last = read_pointer(archive.store)
    if last is None or last.version > head or head - last.version >= AT_LEAST_EVERY:
        return True
    live = sum(count for _, count in _workspaces(archive.ledger.snapshot.files))
    return abs(live - last.files) * 10 >= last.files
