"""The Parquet objects of a checkpoint: written once, read a few column chunks at a time.

Every byte that is used was checked before: the manifest has the digest of the footer, and
the footer has one of each column chunk. So Parquet's reader never sees a damaged byte, and
a wrong statistic cannot hide a row.
"""

from __future__ import annotations

import base64
import io
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from archiver import layout
from archiver.errors import IntegrityError, ObjectNotFoundError, StoreError
from archiver.ledger.entry import digest_of
from archiver.store.base import Store

Kind = Literal["files", "removals", "commits"]

_DIGEST: Final = pa.binary(32)
_WHERE: Final = [
    pa.field("dataset", pa.string(), nullable=False),
    pa.field("workspace", pa.string(), nullable=False),
    pa.field("dt", pa.date32(), nullable=False),
    pa.field("added_by", pa.int64(), nullable=False),
    pa.field("number", pa.int64(), nullable=False),  # in the key
]
_LISTED: Final = pa.list_(
    pa.struct([("key", pa.string()), ("digest", _DIGEST), ("bytes", pa.int64()), ("entries", pa.int64())])
)
SCHEMAS: Final[dict[Kind, pa.Schema]] = {
    "files": pa.schema(
        [
            *_WHERE,
            pa.field("suffix", pa.string(), nullable=False),
            pa.field("digest", _DIGEST, nullable=False),
            pa.field("bodies", _DIGEST, nullable=False),
            *(pa.field(name, pa.int64(), nullable=False) for name in ("bytes", "rows", "min_us", "max_us")),
            pa.field("removed_by", pa.int64()),
        ]
    ),
    "removals": pa.schema([*_WHERE, pa.field("removed_by", pa.int64(), nullable=False)]),
    "commits": pa.schema(
        [
            pa.field("sequence", pa.int64(), nullable=False),
            pa.field("digest", _DIGEST, nullable=False),
            pa.field("batch", pa.binary(16), nullable=False),
            pa.field("attempt", pa.binary(14), nullable=False),
            pa.field("committed_us", pa.int64(), nullable=False),
            pa.field("operation", pa.string(), nullable=False),
            pa.field("source", pa.string()),
            pa.field("cursor", pa.string()),  # what the source's `after` is, as JSON
            pa.field("hold", pa.string()),  # as JSON
            *(
                pa.field(name, pa.int64(), nullable=False)
                for name in (
                    *("read", "archived", "supplements", "duplicates", "quarantined", "oldest_readable"),
                    *("inputs", "input_bytes", "files", "rows", "bytes", "removed"),
                )
            ),
            pa.field("fenced", pa.list_(pa.binary(14)), nullable=False),
            pa.field(
                "moved",
                pa.list_(pa.struct([("commit", pa.int64()), ("ordinal", pa.int64())])),
                nullable=False,
            ),
            pa.field("quarantine_files", _LISTED, nullable=False),
            pa.field("lists", _LISTED, nullable=False),
        ]
    ),
}
GROUP_ROWS: Final[dict[Kind, int]] = {"files": 8_192, "removals": 8_192, "commits": 2_048}
_STATISTICS: Final = ("dataset", "workspace", "dt", "min_us", "max_us")
_SUMS: Final = "archiver.sums"  # in the footer: of each column chunk in turn, eight bytes of its SHA-256
_SUM_BYTES: Final = 8
_GAP_BYTES: Final = 32 << 10  # what is nearer to each other than this is read at once
_READERS: Final = 8


class CacheDamagedError(IntegrityError):
    """A part of a checkpoint is gone or is not what its manifest says. Never leaves the ledger."""


@dataclass(frozen=True, slots=True)
class PartObject:
    """One object as a manifest names it: its size, digest and rows, and what its footer must be."""

    key: str
    digest: str
    bytes: int
    entries: int
    footer_bytes: int
    footer_digest: str

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @staticmethod
    def from_json(tree: dict[str, Any]) -> PartObject:
        return PartObject(**{name: tree[name] for name in PartObject.__slots__})


def write_part(store: Store, kind: Kind, first: int, last: int, rows: pa.Table) -> PartObject:
    """Store `rows`, in their order, as a new object about the commits `first` to `last`."""
    plain = _encode(kind, rows, None)
    data_bytes = len(plain) - 8 - int.from_bytes(plain[-8:-4], "little")
    described = pq.read_metadata(pa.BufferReader(plain))
    sums = [
        sha256(memoryview(plain)[start:end]).digest()[:_SUM_BYTES]
        for group in range(described.num_row_groups)
        for start, end in (_chunk(described, group, column) for column in range(described.num_columns))
    ]
    # Once more with the sums in the footer: what lies before it comes out the same.
    content = _encode(kind, rows, base64.b64encode(b"".join(sums)).decode())
    footer = content[data_bytes:]
    key = layout.checkpoint_part(first, last, kind)
    store.put(key, content)
    return PartObject(key, digest_of(content), len(content), rows.num_rows, len(footer), digest_of(footer))


def _encode(kind: Kind, rows: pa.Table, sums: str | None) -> bytes:
    schema = SCHEMAS[kind]
    numbers = [field.name for field in schema if field.type == pa.int64()]
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        schema,
        version="2.6",
        compression="zstd",
        compression_level=3,
        use_dictionary=[field.name for field in schema if field.type in (pa.string(), pa.date32())],
        column_encoding=dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),
        write_statistics=[name for name in _STATISTICS if name in schema.names],
        store_schema=False,
    ) as writer:
        writer.write_table(rows, row_group_size=GROUP_ROWS[kind])
        if sums is not None:
            writer.add_key_value_metadata({_SUMS: sums})
    return sink.getvalue()


def _chunk(described: pq.FileMetaData, group: int, column: int) -> tuple[int, int]:
    """Return where a column chunk begins and ends in its object."""
    chunk = described.row_group(group).column(column)
    start = chunk.data_page_offset
    if chunk.dictionary_page_offset is not None:
        start = min(start, chunk.dictionary_page_offset)
    return start, start + chunk.total_compressed_size


class Part:
    """One object, opened when it is first asked for. Safe to use from several threads."""

    def __init__(self, store: Store, kind: Kind, named: PartObject) -> None:
        self.entries = named.entries
        self.kind = kind
        self._store = store
        self._named = named
        self._described: pq.FileMetaData | None = None
        self._sums = b""

    @property
    def groups(self) -> int:
        """How many row groups it has; all but the last are of `GROUP_ROWS` rows."""
        return -(-self.entries // GROUP_ROWS[self.kind])

    def _footer(self) -> pq.FileMetaData:
        if self._described is None:
            named = self._named
            footer = self._get(named.bytes - named.footer_bytes, named.footer_bytes)
            if digest_of(footer) != named.footer_digest:
                raise CacheDamagedError(f"{named.key}: its footer is not what the checkpoint says")
            described = self._parsed(lambda: pq.read_metadata(pa.BufferReader(b"PAR1" + footer)))
            self._sums = base64.b64decode(described.metadata[_SUMS.encode()])
            self._described = described
        return self._described

    def statistics(self, column: str) -> list[tuple[Any, Any] | None]:
        """Return smallest and largest value of `column` in each row group; None where that is not known."""
        described = self._footer()
        at = SCHEMAS[self.kind].get_field_index(column)
        found = [
            described.row_group(group).column(at).statistics for group in range(described.num_row_groups)
        ]
        return [(one.min, one.max) if one is not None and one.has_min_max else None for one in found]

    def read(self, columns: Sequence[str], groups: Sequence[int] | None = None) -> pa.Table:
        """Return `columns` of these row groups, or of all, in the object's order.

        Raises:
            CacheDamagedError: They cannot be read, or are not what was written.
        """
        groups = range(self.groups) if groups is None else groups
        if not groups:
            return pa.schema([SCHEMAS[self.kind].field(name) for name in columns]).empty_table()
        described = self._footer()
        wanted = [
            number
            for number in range(described.num_columns)
            if described.schema.column(number).path.partition(".")[0] in columns
        ]
        chunks = {(group, number): _chunk(described, group, number) for group in groups for number in wanted}
        there = _Ranges(self._named.bytes, self._fetch(sorted(chunks.values())))
        for (group, number), (start, end) in chunks.items():
            at = (group * described.num_columns + number) * _SUM_BYTES
            if sha256(there.at(start, end)).digest()[:_SUM_BYTES] != self._sums[at : at + _SUM_BYTES]:
                raise CacheDamagedError(f"{self._named.key}: bytes {start} to {end} are not what was written")

        def parse() -> pa.Table:
            source = pa.PythonFile(there, mode="r")
            with pq.ParquetFile(source, metadata=described, pre_buffer=False) as file:
                return file.read_row_groups(list(groups), columns=list(columns), use_threads=False)

        return self._parsed(parse).select(list(columns))

    def whole(self) -> pa.Table:
        """Return all columns and rows, the whole object held against its digest."""
        content = self._get(0, None)
        if digest_of(content) != self._named.digest:
            raise CacheDamagedError(f"{self._named.key}: it is not what the checkpoint says")
        return self._parsed(lambda: _all_rows(content)).select(SCHEMAS[self.kind].names)

    def _fetch(self, wanted: Sequence[tuple[int, int]]) -> list[tuple[int, bytes]]:
        spans: list[list[int]] = []
        for start, end in wanted:
            if spans and start - spans[-1][1] <= _GAP_BYTES:
                spans[-1][1] = max(spans[-1][1], end)
            else:
                spans.append([start, end])
        if len(spans) == 1:
            return [(spans[0][0], self._get(spans[0][0], spans[0][1] - spans[0][0]))]
        with ThreadPoolExecutor(min(_READERS, len(spans))) as readers:
            parts = readers.map(lambda span: self._get(span[0], span[1] - span[0]), spans)
            return [(span[0], part) for span, part in zip(spans, parts, strict=True)]

    def _get(self, start: int, length: int | None) -> bytes:
        try:
            return self._store.get(self._named.key, start=start, length=length)
        except ObjectNotFoundError as error:
            raise CacheDamagedError(f"{self._named.key}: it is not there") from error
        except StoreError as error:
            raise CacheDamagedError(f"{self._named.key}: it cannot be read: {error.message}") from error

    def _parsed(self, parse: Callable[[], Any]) -> Any:
        try:
            return parse()
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise CacheDamagedError(f"{self._named.key}: it cannot be read: {error}"[:400]) from error


def _all_rows(content: bytes) -> pa.Table:
    with pq.ParquetFile(pa.BufferReader(content)) as file:
        return file.read(use_threads=False)


class _Ranges:
    """Some bytes of an object, as a file: reading others of it is an error."""

    closed = False

    def __init__(self, size: int, parts: Collection[tuple[int, bytes]]) -> None:
        self._size = size
        self._parts = sorted(parts)
        self._starts = [begins for begins, _ in self._parts]
        self._position = 0

    def at(self, start: int, end: int) -> memoryview:
        found = bisect_right(self._starts, start) - 1
        if found >= 0:
            begins, part = self._parts[found]
            if end <= begins + len(part):
                return memoryview(part)[start - begins : end - begins]
        raise OSError(f"bytes {start} to {end} were not read")

    def read(self, count: int = -1) -> bytes:
        end = self._size if count < 0 else min(self._size, self._position + count)
        start, self._position = self._position, end
        return bytes(self.at(start, end))

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def size(self) -> int:
        return self._size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True
