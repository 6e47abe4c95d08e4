"""Data files: rows to bytes, bytes to rows, in both formats.

Parquet files hold all columns. JSON-lines files hold the bodies and nothing else, one a
line; reading one judges the bodies again to get their columns back, and what only the
delivery knew (`received_at`, `source`, `ordinal`) is not there any more.
"""

from __future__ import annotations

import gzip
import hashlib
import io
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import IO, Any, Final, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard

from archiver import columns
from archiver.block import Block
from archiver.errors import IntegrityError
from archiver.validate import Rules, Validator

Format = Literal["parquet", "jsonl.gz", "jsonl.zst"]
FORMATS: Final[tuple[str, ...]] = get_args(Format)

# Distinct in nearly every row: a dictionary only costs there.
_NO_DICTIONARY: Final = frozenset(
    {"id", "alert_id", "resource_id", "timestamp", "occurred_at", "created_at", "triggered_at"}
    | {"event_time", "received_at", "ordinal", "event_hash", "previous_event_hash", "metadata", "body"}
)
_GZIP_LEVELS: Final = 9
_BLOOM_FPP: Final = 0.01
ROW_GROUP_ROWS: Final = 131_072
_JUDGED_AT_ONCE: Final = 4_096


@dataclass(frozen=True, slots=True)
class Encoding:
    """How rows become bytes.

    Attributes:
        format: Parquet, or JSON lines under gzip or zstd.
        level: Of the compression.
    """

    format: Format = "parquet"
    level: int = 1

    def encode(self, rows: pa.Table, dataset: str) -> bytes:
        """Return the bytes of a data file that holds `rows`, in their order."""
        if self.format == "parquet":
            return _encode_parquet(rows, dataset, self.level)
        return self.compress(_as_lines(rows["body"]))

    def compress(self, lines: bytes) -> bytes:
        """Return the bytes of a data file of JSON lines."""
        if self.format == "jsonl.gz":
            return gzip.compress(lines, min(self.level, _GZIP_LEVELS), mtime=0)
        return zstandard.ZstdCompressor(level=self.level, write_checksum=True).compress(lines)


class BodiesDigest:
    """The digest of rows' bodies in their order, taken a table at a time.

    It is SHA-256 over two digests, one behind the other: that of the bodies' lengths in
    bytes, each as 8 bytes, little end first, and that of the bodies themselves. It does not
    depend on how a file is encoded, so rows that another file took over can be held against it.
    """

    def __init__(self) -> None:
        self._lengths = hashlib.sha256()
        self._bodies = hashlib.sha256()

    def take(self, bodies: pa.ChunkedArray | pa.Array) -> None:
        """Go on with these bodies."""
        for chunk in bodies.chunks if isinstance(bodies, pa.ChunkedArray) else [bodies]:
            whole = chunk.cast(pa.large_binary())
            offsets = np.frombuffer(whole.buffers()[1], dtype="<i8")[whole.offset :][: len(whole) + 1]
            self._lengths.update(np.diff(offsets).tobytes())
            if len(whole) and whole.buffers()[2] is not None:
                self._bodies.update(memoryview(whole.buffers()[2])[int(offsets[0]) : int(offsets[-1])])

    def digest(self) -> str:
        """Return `sha256:<hex>` of what was taken."""
        both = self._lengths.digest() + self._bodies.digest()
        return f"sha256:{hashlib.sha256(both).hexdigest()}"


def bodies_digest(bodies: pa.ChunkedArray, form: Format) -> str:
    """Return the digest of all bodies of a data file in this format, as they lie in it."""
    digest = BodiesDigest()
    digest.take(bodies if form == "parquet" else _one_line_each(bodies))
    return digest.digest()


def _one_line_each(bodies: pa.ChunkedArray) -> pa.ChunkedArray:
    # A line break inside a body can only be white space between tokens: the one change we ever make.
    return pc.replace_substring_regex(bodies.cast(pa.large_string()), pattern="[\r\n]", replacement=" ")


def _as_lines(bodies: pa.ChunkedArray) -> bytes:
    flat = _one_line_each(bodies)
    return "".join(line + "\n" for line in flat.to_pylist()).encode()


def parquet_writer(
    sink: IO[bytes], schema: pa.Schema, dataset: str, *, rows: int, level: int
) -> pq.ParquetWriter:
    """Return what writes a data file of `dataset` into `sink`; each table it is given is a row group.

    Args:
        rows: How many the largest row group will have, or more.
        level: Of the compression.
    """
    identity = columns.IDENTITY_COLUMN[dataset]
    names = schema.names
    return pq.ParquetWriter(
        sink,
        schema,
        version="2.6",
        compression="zstd",
        compression_level=level,
        use_dictionary=[name for name in names if name not in _NO_DICTIONARY],
        column_encoding=None,
        write_statistics=[name for name in names if name not in ("body", "metadata", "targets", "extra")],
        sorting_columns=[pq.SortingColumn(names.index("event_time"))],
        bloom_filter_options={identity: {"ndv": max(rows, 1), "fpp": _BLOOM_FPP}},
        store_schema=False,
    )


def _encode_parquet(rows: pa.Table, dataset: str, level: int) -> bytes:
    sink = io.BytesIO()
    with parquet_writer(sink, rows.schema, dataset, rows=rows.num_rows, level=level) as writer:
        writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
    return sink.getvalue()


def suffix_of(key: str) -> Format:
    """Return the format in a data file's name.

    Raises:
        IntegrityError: It has none that we know.
    """
    for name in FORMATS:
        if key.endswith("." + name):
            return name  # type: ignore[return-value]
    raise IntegrityError(f"{key}: expected a data file ending in one of {', '.join(FORMATS)}")


def decode(
    content: bytes, key: str, dataset: str, wanted: list[str], *, where: pc.Expression | None = None
) -> pa.Table:
    """Return the columns `wanted` of a data file's rows, in the file's order.

    Args:
        content: The whole object.
        key: Its name, for errors and the format.
        dataset: Whose rows it holds.
        where: Keep only the rows for which this holds.

    Raises:
        IntegrityError: It cannot be read as what it is.
    """
    try:
        if suffix_of(key) == "parquet":
            # Not pq.read_table: its scanner leaves threads behind that may abort the process at its end.
            with pq.ParquetFile(pa.BufferReader(content)) as file:
                table = file.read(columns=wanted, use_threads=False)
            if absent := set(wanted).difference(table.column_names):  # left out in silence
                raise IntegrityError(f"{key}: expected the columns of {dataset}, found no {min(absent)}")
        else:
            table = _from_lines(bodies_of(content, key), key, dataset)
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(
            f"{key}: cannot be read as {suffix_of(key)}: {error}"[:400],
            hint="the archive was damaged: run `archiver verify`, restore the file from a copy",
        ) from error
    return (table if where is None else table.filter(where)).select(wanted)


def bodies_of(content: bytes, key: str) -> list[bytes]:
    """Return the lines of a JSON-lines data file.

    Raises:
        IntegrityError: It cannot be decompressed.
    """
    try:
        if suffix_of(key) == "jsonl.gz":
            lines = gzip.decompress(content)
        else:
            with zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True) as reader:
                lines = reader.read()
    except (OSError, EOFError, zstandard.ZstdError, ValueError) as error:
        raise IntegrityError(f"{key}: cannot be decompressed: {error}"[:400]) from error
    return lines.split(b"\n")[:-1]


def _from_lines(bodies: list[bytes], key: str, dataset: str) -> pa.Table:
    count = len(bodies)
    block = Block(0, bodies, list(range(count)), [0] * count, [0] * count, [None] * count, shape="archived")
    judged = Validator(Rules(source="")).validate(block)
    if judged.rejections:
        first = judged.rejections[0]
        raise IntegrityError(f"{key}: line {first.ordinal + 1} is no event: {first.detail}"[:400])
    if dataset != "supplements":
        found = judged.tables.get(dataset)
        if found is None:
            return columns.SCHEMAS[dataset].empty_table()
        return columns.with_origin(pa.Table.from_batches([found]).sort_by("ordinal"), dataset)
    tables = [as_supplements(pa.Table.from_batches([rows]), name) for name, rows in judged.tables.items()]
    return pa.concat_tables(tables or [columns.SCHEMAS["supplements"].empty_table()]).sort_by("ordinal")


def times_of_lines(bodies: list[bytes], key: str) -> np.ndarray:
    """Return the event time of each line of a data file, in microseconds since 1970.

    Raises:
        IntegrityError: A line is no event.
    """
    validator = Validator(Rules(source=""))
    times = np.zeros(len(bodies), dtype=np.int64)
    for start in range(0, len(bodies), _JUDGED_AT_ONCE):
        part = bodies[start : start + _JUDGED_AT_ONCE]
        count, nothing = len(part), [0] * len(part)
        block = Block(0, part, list(range(count)), nothing, nothing, [None] * count, shape="archived")
        judged = validator.validate(block)
        if judged.rejections:
            first = judged.rejections[0]
            line = start + first.ordinal + 1
            raise IntegrityError(f"{key}: line {line} is no event: {first.detail}"[:400])
        for rows in judged.tables.values():
            found = rows.column("event_time").cast(pa.int64()).to_numpy()
            times[start + rows.column("ordinal").to_numpy()] = found
    return times


def as_supplements(rows: pa.Table, dataset: str, base_us: np.ndarray | None = None) -> pa.Table:
    """Return rows of `events` or `alerts` with the columns of `supplements`.

    Args:
        base_us: Event time of the row that each adds to; None where that is not known.
    """
    schema = columns.SCHEMAS["supplements"]
    renamed = {"id": columns.IDENTITY_COLUMN[dataset]}
    arrays: list[Any] = []
    for field in schema:
        name = renamed.get(field.name, field.name)
        if field.name == "dataset":
            arrays.append(pa.array([dataset] * rows.num_rows, pa.string()))
        elif field.name == "base_event_time" and base_us is not None:
            arrays.append(pa.array(base_us, pa.int64()).cast(field.type))
        elif name in rows.schema.names:
            arrays.append(rows[name])
        else:
            arrays.append(pa.nulls(rows.num_rows, field.type))
    return pa.table(arrays, schema=schema)


Reader = Callable[[str], bytes]


def ids_of(content: bytes, key: str, dataset: str) -> pa.Table:
    """Return dataset (of supplements), id and event time of a file's rows: `dataset`, `id`, `event_time`."""
    identity = columns.IDENTITY_COLUMN[dataset]
    wanted: Collection[str] = [identity, "event_time"]
    if dataset == "supplements":
        return decode(content, key, dataset, ["dataset", *wanted])
    table = decode(content, key, dataset, list(wanted)).rename_columns(["id", "event_time"])
    return table.add_column(0, "dataset", pa.array([dataset] * table.num_rows, pa.string()))
