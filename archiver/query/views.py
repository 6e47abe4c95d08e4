"""The views of a session: one snapshot of the archive, as DuckDB sees it.

Where the data files are Parquet in a local folder, DuckDB reads them itself, by an exact
list. In a bucket they are a pyarrow dataset made from the ledger: nothing is listed, and
a file that cannot match by workspace or time is not opened. JSON lines, the quarantine
and the commits are streams that are read when, and only when, a statement scans them.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from archiver import columns, datafile, quarantine
from archiver.errors import ArchiverError
from archiver.ledger.entry import Commit, DataFile
from archiver.query.pinned import SUPPLEMENTED, Pinned
from archiver.store.base import Store

_READERS: Final = 16
_BATCH_ROWS: Final = 10_000

# Where a row lies, as other engines see it: behind the columns of each dataset, both text.
PARTITION: Final = ("workspace", "dt")
# What a JSON-lines file does not know any more.
_LOST_IN_LINES: Final = frozenset({"received_at", "source", "ordinal", "origin"})

QUARANTINE: Final = pa.schema(
    [
        pa.field("commit", pa.int64(), nullable=False),
        pa.field("ordinal", pa.int64(), nullable=False),
        pa.field("name", pa.string(), nullable=False),  # <commit>:<ordinal>, as commands take it
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("stream", pa.string()),
        pa.field("input", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("received_at", columns.TIME, nullable=False),
        pa.field("dataset", pa.string()),
        pa.field("workspace_id", pa.string()),
        pa.field("event_id", pa.string()),
        pa.field("body", pa.string()),  # null where it is not UTF-8
        pa.field("body_base64", pa.string()),  # then this has it; one of the two is always there
    ]
)
_COUNTED: Final = [
    *("read", "archived", "supplements", "duplicates", "quarantined", "moved", "inputs", "input_bytes"),
    *("files", "rows", "bytes", "removed", "fenced", "oldest_readable"),
]
COMMITS: Final = pa.schema(
    [
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("previous", pa.string(), nullable=False),
        pa.field("committed_at", columns.TIME, nullable=False),
        pa.field("operation", pa.string(), nullable=False),
        pa.field("source", pa.string()),
        pa.field("batch", pa.string(), nullable=False),
        pa.field("attempt", pa.string(), nullable=False),
        *(pa.field(name, pa.int64(), nullable=False) for name in _COUNTED),
    ]
)


@dataclass(slots=True)
class Scans:
    """What the views of one connection scan.

    Attributes:
        files: By dataset, those that the statement can want.
        failures: Errors of ours that a stream met; DuckDB reports them as text only.
    """

    pinned: Pinned
    files: dict[str, tuple[DataFile, ...]]
    failures: list[ArchiverError] = field(default_factory=list)
    _native: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self._native = {dataset: self._native_paths(dataset) for dataset in columns.SCHEMAS}

    def local_paths(self) -> list[str]:
        """Return the files that DuckDB reads itself."""
        return [path for paths in self._native.values() for path in paths]

    def make_views(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Create all views in `connection`, whose access to files is still open."""
        supplemented = bool(self.files["supplements"] and self.files["events"])
        for dataset in columns.SCHEMAS:
            name = "_events" if dataset == "events" and supplemented else dataset
            paths = self._native[dataset]
            if paths:
                # Thousands of names as a value: as text they would be parsed.
                connection.execute(f"SET VARIABLE {dataset}_files=$1", [paths])
                names = ", ".join(f'"{column}"' for column in columns.SCHEMAS[dataset].names)
                # Of each file a constant, which costs a statement nothing. A `dt=` further up
                # in the path would be another's.
                partitioned = "=" not in paths[0].removesuffix(self.files[dataset][0].key)
                day = "dt" if partitioned else "CAST(CAST(event_time AS DATE) AS VARCHAR) AS dt"
                connection.execute(
                    f"CREATE VIEW {name} AS SELECT {names}, workspace_id AS workspace, {day} "  # noqa: S608 - our own names
                    f"FROM read_parquet(getvariable('{dataset}_files'), hive_partitioning={partitioned}, "
                    "hive_types_autocast=false)"
                )
            else:
                connection.register(name, self._scannable(dataset))
        if supplemented:
            connection.execute(_supplemented_view(self.pinned.window_us, self.files["events"]))
        connection.register("quarantine", _Stream(QUARANTINE, self._quarantine, self.failures))
        connection.register("commits", _Stream(COMMITS, self._commits, self.failures))

    def _native_paths(self, dataset: str) -> list[str]:
        """Return the paths of the files of a dataset; none if DuckDB cannot read all of them itself."""
        paths = []
        for file in self.files[dataset]:
            path = self.pinned.store.local_path(file.key)
            if path is None or not file.key.endswith(".parquet") or any(char in path for char in "*?["):
                return []
            paths.append(path)
        return paths

    def _scannable(self, dataset: str) -> Any:
        files, schema = self.files[dataset], _with_partition(columns.SCHEMAS[dataset])
        if not files:
            return schema.empty_table()
        if all(file.key.endswith(".parquet") for file in files):
            return _dataset(self.pinned.store, files, schema)
        loose = pa.schema([part.with_nullable(True) for part in schema])
        return _Stream(loose, lambda: self._rows(dataset, loose), self.failures)

    def _rows(self, dataset: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for file in self.files[dataset]:
            content = self.pinned.store.get(file.key)
            table = datafile.decode(content, file.key, dataset, columns.SCHEMAS[dataset].names)
            if not file.key.endswith(".parquet"):
                for name in _LOST_IN_LINES:
                    at = schema.get_field_index(name)
                    table = table.set_column(at, name, pa.nulls(table.num_rows, schema.field(at).type))
            for name, value in zip(PARTITION, (file.partition.workspace, file.partition.dt), strict=True):
                table = table.append_column(name, pa.array([value], pa.string()).take(_zeros(table)))
            yield from table.cast(schema).to_batches()

    def _quarantine(self) -> Iterator[pa.RecordBatch]:
        now = self.pinned.snapshot()
        moved = frozenset(now.moved)
        for commit, listed in tuple(now.quarantine):
            rows = [
                _quarantine_row(entry)
                for entry in quarantine.decode(self.pinned.store.get(listed.key), listed, commit)
                if (commit, entry.rejection.ordinal) not in moved
            ]
            yield pa.RecordBatch.from_pylist(rows, QUARANTINE)

    def _commits(self) -> Iterator[pa.RecordBatch]:
        behind = -1
        for rows in self.pinned.ledger.stored_commits(self.pinned.sequence):
            behind = rows["sequence"][-1].as_py()
            yield from _stored_rows(rows).to_batches()
        with ThreadPoolExecutor(_READERS) as readers:
            for start in range(behind + 1, self.pinned.sequence + 1, _BATCH_ROWS):
                wanted = range(start, min(start + _BATCH_ROWS, self.pinned.sequence + 1))
                told = [_commit_row(commit) for commit in readers.map(self.pinned.ledger.read, wanted)]
                yield pa.RecordBatch.from_pylist(told, COMMITS)


@dataclass(frozen=True, slots=True)
class _Stream:
    """Something that DuckDB scans by Arrow's stream protocol: each scan starts `batches` anew."""

    schema: pa.Schema
    batches: Callable[[], Iterator[pa.RecordBatch]]
    failures: list[ArchiverError]

    def __arrow_c_schema__(self) -> object:
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        reader = pa.RecordBatchReader.from_batches(self.schema, self._watched())
        return reader.__arrow_c_stream__(requested_schema)

    def _watched(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self.batches()
        except ArchiverError as error:
            self.failures.append(error)
            raise


def _dataset(store: Store, files: tuple[DataFile, ...], schema: pa.Schema) -> ds.Dataset:
    """Return the files as a dataset that knows from the ledger what each can hold."""
    system, root = store.arrow()
    form = ds.ParquetFileFormat()
    fragments = []
    for file in files:
        lowest, highest = pa.scalar(file.min_us, columns.TIME), pa.scalar(file.max_us, columns.TIME)
        holds = (
            (pc.field("workspace_id") == pa.scalar(file.partition.workspace))
            & (pc.field("workspace") == pa.scalar(file.partition.workspace))
            & (pc.field("dt") == pa.scalar(file.partition.dt))
            & (pc.field("event_time") >= lowest)
            & (pc.field("event_time") <= highest)
        )
        fragments.append(
            form.make_fragment(
                root + file.key, filesystem=system, partition_expression=holds, file_size=file.bytes
            )
        )
    return ds.FileSystemDataset(fragments, schema, form, system)


def _with_partition(schema: pa.Schema) -> pa.Schema:
    return pa.schema([*schema, *(pa.field(name, pa.string(), nullable=False) for name in PARTITION)])


def _zeros(table: pa.Table) -> pa.Array:
    return pa.repeat(0, table.num_rows)


def _supplemented_view(window_us: int, files: tuple[DataFile, ...]) -> str:
    """Return the view `events`: what supplements tell fills what is null in the base.

    Of each column the supplements of one (workspace, id) are gathered into one list before
    the join, so that no event comes twice, and a column that no statement asks for is not
    gathered at all. The base stays the left side of one join, so that filters on
    workspace, id and time still prune its files; a window function would stop that.

    Args:
        files: Of the base. A supplement of an event at another time than theirs is left out.
    """
    since, until = min(file.min_us for file in files), max(file.max_us for file in files)
    told, shown = [], []
    for name in (*columns.SCHEMAS["events"].names, *PARTITION):
        if name not in SUPPLEMENTED:
            shown.append(f'base."{name}"')
            continue
        # In the order of its fields, once it is sorted: the earliest tells.
        told.append(
            "list({'at': epoch_us(event_time), 'received': received_at, 'ordinal': ordinal, "
            f"'base': epoch_us(base_event_time), 'value': \"{name}\"}}) "
            f'FILTER ("{name}" IS NOT NULL) AS "{name}"'
        )
        shown.append(
            f'coalesce(base."{name}", list_sort(list_filter(more."{name}", lambda one: '
            f"coalesce(one.base = epoch_us(base.event_time), "
            f'abs(one.at - epoch_us(base.event_time)) <= {window_us})))[1].value) AS "{name}"'
        )
    return f"""
        CREATE VIEW events AS SELECT {", ".join(shown)} FROM _events AS base LEFT JOIN (
            SELECT workspace_id AS workspace, id AS identity, {", ".join(told)}
            FROM supplements WHERE dataset = 'events' AND (
                base_event_time IS NULL
                OR base_event_time BETWEEN make_timestamptz({since}) AND make_timestamptz({until})
            ) GROUP BY workspace_id, id
        ) AS more ON base.workspace_id = more.workspace AND base.id = more.identity
    """  # noqa: S608 - made of our own column names


def _quarantine_row(entry: quarantine.QuarantineEntry) -> dict[str, Any]:
    one = entry.rejection
    try:
        text: str | None = one.body.decode()
    except UnicodeDecodeError:
        text = None
    return {
        "commit": entry.commit,
        "ordinal": one.ordinal,
        "name": entry.name,
        "reason": one.reason,
        "detail": one.detail,
        "source": entry.source,
        "stream": one.stream,
        "input": entry.input_name,
        "offset": one.offset,
        "received_at": one.received_at,
        "dataset": one.dataset,
        "workspace_id": one.workspace_id,
        "event_id": one.event_id,
        "body": text,
        "body_base64": base64.b64encode(one.body).decode() if text is None else None,
    }


def _commit_row(commit: Commit) -> dict[str, Any]:
    said = commit.content
    return {
        "sequence": commit.sequence,
        "digest": commit.digest,
        "previous": commit.previous,
        "committed_at": commit.committed_us,
        "operation": said.operation,
        "source": said.source.get("name"),
        "batch": said.batch,
        "attempt": said.attempt,
        **said.counts.to_json(),
        "moved": len(said.moved),
        "inputs": len(said.inputs),
        "input_bytes": sum(one["bytes"] for one in said.inputs),
        "files": len(said.added),
        "rows": sum(file.rows for file in said.added),
        "bytes": sum(file.bytes for file in said.added),
        "removed": len(said.removed),
        "fenced": len(said.fenced),
        "oldest_readable": commit.oldest_readable,
    }


def _stored_rows(rows: pa.Table) -> pa.Table:
    """Return commits as a checkpoint has them with the columns of `COMMITS`."""
    arrays = []
    for part in COMMITS:
        if part.name in ("digest", "previous"):
            digests = (None if one is None else one.hex() for one in rows[part.name].to_pylist())
            found = pa.array(["" if one is None else f"sha256:{one}" for one in digests], part.type)
        elif part.name in ("batch", "attempt"):
            found = pa.array([one.hex() for one in rows[part.name].to_pylist()], part.type)
        elif part.name in ("moved", "fenced"):
            found = pc.list_value_length(rows[part.name]).cast(part.type)
        elif part.name == "committed_at":
            found = rows["committed_us"].cast(part.type)
        else:
            found = rows[part.name].cast(part.type)
        arrays.append(found)
    return pa.table(arrays, schema=COMMITS)
