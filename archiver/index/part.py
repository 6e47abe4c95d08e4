"""One object of the index: sorted hashes with the files they came from, in blocks with checksums.

    hashes      8 bytes each, ascending
    files       of each hash the number of its file, 4 bytes each
    header      48 bytes
    directory   of each block of 1,024 entries: its first hash, the checksums of its hashes
                and of its file numbers; 16 bytes
    table       the keys of the files, an Arrow stream

All numbers have their little end first. Whoever looks for a hash reads the header and the
directory at once, and then the few blocks that can hold it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
from xxhash import xxh3_64_hexdigest, xxh3_64_intdigest

from archiver import layout
from archiver.errors import ArchiverError, ObjectNotFoundError
from archiver.index.hashing import matches
from archiver.ledger import shape
from archiver.store.base import Store

BLOCK: Final = 1_024
_MAGIC: Final = b"archidx1"
_HEADER: Final = struct.Struct("<8sIIQQQ8s")
_DIRECTORY: Final = np.dtype([("first", "<u8"), ("hashes", "<u4"), ("files", "<u4")])
_HASH: Final = np.dtype("<u8")
_FILE: Final = np.dtype("<u4")
_BRIDGED_BLOCKS: Final = 8  # read through rather than ask anew: 64 KiB
_SLICE_BLOCKS: Final = 1_024  # 8 MiB of hashes at once
_NUMBERS_AT_ONCE: Final = 1 << 20
_MOST_ENTRIES: Final = 1 << 28  # many times what is ever written to one object
_HEXADECIMAL: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
_NAME: Final = pa.dictionary(pa.int32(), pa.string())
_TYPES: Final = {
    "folder": _NAME,
    "attempt": _NAME,
    "number": pa.uint32(),
    "suffix": _NAME,
    "entries": pa.uint32(),
}


class IndexDamagedError(ArchiverError):
    """An object of the index is not what its manifest says. Nothing depends on it: decide without.

    Attributes:
        month: What it was to tell of.
        is_missing: It is not there at all.
    """

    kind = "index_damaged"

    def __init__(self, message: str, *, month: str, is_missing: bool = False) -> None:
        super().__init__(message, hint="`archiver index rebuild` makes it anew")
        self.month = month
        self.is_missing = is_missing


@dataclass(frozen=True, slots=True)
class PartEntry:
    """An object of the index as the manifest names it.

    Attributes:
        key: In the archive.
        month: Of its rows' event times, `yyyy-mm`.
        run: All parts of one run hold different ranges of hashes.
        bytes: Of the whole object.
        entries: How many hashes.
        files: How many files they came from.
        first, last: Smallest and largest hash.
        check: XXH3-64 of header and directory, 16 hex digits.
    """

    key: str
    month: str
    run: str
    bytes: int
    entries: int
    files: int
    first: int
    last: int
    check: str

    @property
    def blocks(self) -> int:
        return -(-self.entries // BLOCK)

    def to_json(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "month": self.month,
            "run": self.run,
            "bytes": self.bytes,
            "entries": self.entries,
            "files": self.files,
            "first": f"{self.first:016x}",
            "last": f"{self.last:016x}",
            "check": self.check,
        }

    @staticmethod
    def from_json(tree: dict[str, Any]) -> PartEntry:
        """Read an entry; whoever may write to the bucket may have written it.

        Raises:
            ValueError, KeyError: It is none that `to_json` made.
        """
        month = shape.text(tree, "month")
        entry = PartEntry(
            key=shape.text(tree, "key"),
            month=month,
            run=shape.text(tree, "run"),
            bytes=shape.count(tree, "bytes"),
            entries=shape.count(tree, "entries"),
            files=shape.count(tree, "files"),
            first=int(_hexadecimal(tree, "first"), 16),
            last=int(_hexadecimal(tree, "last"), 16),
            check=_hexadecimal(tree, "check"),
        )
        date.fromisoformat(f"{month}-01")
        if layout.index_part_month(entry.key) != month or not 0 < entry.entries <= _MOST_ENTRIES:
            raise ValueError(f"{entry.key!r:.100} is no object of the index with entries of {month!r:.20}")
        return entry


def _hexadecimal(tree: dict[str, Any], name: str) -> str:
    value = shape.text(tree, name)
    if _HEXADECIMAL.fullmatch(value) is None:
        raise ValueError(f"a member `{name}` that is no number of 16 digits: {value!r:.40}")
    return value


class Part:
    """An object of the index, read as far as it is asked. Safe to use from several threads.

    Every method raises `IndexDamagedError` where the object is missing or not what it should be.
    """

    def __init__(self, store: Store, entry: PartEntry) -> None:
        self.entry = entry
        self._store = store
        self._directory: np.ndarray | None = None
        self._table: tuple[int, int] = (0, 0)  # bytes, checksum
        self._keys: pa.Table | None = None

    def extents(self, hashes: np.ndarray) -> list[tuple[int, int]]:
        """Return the runs of blocks that can hold one of `hashes`, ascending ones, as (first, behind)."""
        entry = self.entry
        low = np.searchsorted(hashes, np.uint64(entry.first), side="left")
        high = np.searchsorted(hashes, np.uint64(entry.last), side="right")
        wanted = hashes[low:high]
        if not len(wanted):
            return []
        firsts = self.directory()["first"]
        if len(wanted) > 4 * entry.blocks:  # all but surely every block
            needed = np.arange(entry.blocks)
        else:
            # Equal hashes may go on over the end of a block.
            left = np.maximum(np.searchsorted(firsts, wanted, side="left") - 1, 0)
            right = np.searchsorted(firsts, wanted, side="right") - 1
            if (right - left <= 1).all():
                needed = np.unique(np.concatenate([left, right]))
            else:
                needed = np.unique(
                    np.concatenate([np.arange(a, b + 1) for a, b in zip(left, right, strict=True)])
                )
        cuts = np.flatnonzero(np.diff(needed) > _BRIDGED_BLOCKS) + 1
        spans = [(int(piece[0]), int(piece[-1]) + 1) for piece in np.split(needed, cuts)]
        return [
            (start, min(start + _SLICE_BLOCKS, end))
            for begin, end in spans
            for start in range(begin, end, _SLICE_BLOCKS)
        ]

    def look(self, extent: tuple[int, int], hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions in `hashes`, ascending ones, that these blocks hold, and of each the file."""
        first, behind = extent
        held = self._hashes(first, behind)
        low = int(np.searchsorted(hashes, held[0], side="left"))
        high = int(np.searchsorted(hashes, held[-1], side="right"))
        try:
            positions, there = matches(hashes[low:high], held)
        except ValueError:
            raise self._damaged("its hashes are not in order") from None
        if not len(there):
            return positions, np.empty(0, dtype=_FILE)
        start, end = int(there.min()) // BLOCK, int(there.max()) // BLOCK + 1
        files = self._files(first + start, first + end)
        return positions + low, files[there - start * BLOCK]

    def between(self, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the hashes from `low` up to `high`, both included, and of each the file."""
        firsts = self.directory()["first"]
        begin = max(int(np.searchsorted(firsts, np.uint64(low), side="left")) - 1, 0)
        end = int(np.searchsorted(firsts, np.uint64(high), side="right"))
        if end <= begin:
            return np.empty(0, dtype=_HASH), np.empty(0, dtype=_FILE)
        hashes = self._hashes(begin, end)
        start = int(np.searchsorted(hashes, np.uint64(low), side="left"))
        stop = int(np.searchsorted(hashes, np.uint64(high), side="right"))
        return hashes[start:stop], self._files(begin, end)[start:stop]

    def keys(self, numbers: np.ndarray) -> list[str]:
        """Return the keys of the files with these numbers."""
        return keys_of(self.table().take(pa.array(numbers, pa.int64())))

    def table(self) -> pa.Table:
        """Return the table of files (`as_table`), with the number of `entries` of each."""
        if self._keys is None:
            self.directory()
            size, check = self._table
            start = 12 * self.entry.entries + _HEADER.size + _DIRECTORY.itemsize * self.entry.blocks
            content = self._read(start, size)
            if xxh3_64_intdigest(content) != check:
                raise self._damaged("its table of files is damaged")
            self._keys = self._decoded(content)
        return self._keys

    def _decoded(self, content: bytes) -> pa.Table:
        """Return the table of files. The checksum is no proof: its writer may have made both."""
        try:
            table = pa.ipc.open_stream(content).read_all()
            table.validate(full=True)
            if table.schema.names != list(_TYPES) or table.num_rows != self.entry.files:
                raise ValueError("it has other columns, or another number of rows")
            for name, kind in _TYPES.items():
                if table[name].null_count or table.schema.field(name).type != kind:
                    raise ValueError(f"its column {name} is of another type, or has nulls")
        except (pa.ArrowException, ValueError, OSError) as error:
            raise self._damaged(f"its table of files cannot be read: {str(error)[:200]}") from error
        return table

    def directory(self) -> np.ndarray:
        """Return first hash and checksums of every block."""
        if self._directory is None:
            entry = self.entry
            content = self._read(12 * entry.entries, _HEADER.size + _DIRECTORY.itemsize * entry.blocks)
            if xxh3_64_hexdigest(content) != entry.check:
                raise self._damaged("its directory is damaged")
            magic, block, files, entries, size, check, month = _HEADER.unpack_from(content)
            told = (magic, block, files, entries, month.rstrip(b"\0"))
            if told != (_MAGIC, BLOCK, entry.files, entry.entries, entry.month.encode()):
                raise self._damaged("it is another one than its manifest says")
            if 12 * entries + len(content) + size != entry.bytes:
                raise self._damaged("it is of another size than its manifest says")
            self._table = size, check
            self._directory = np.frombuffer(content, dtype=_DIRECTORY, offset=_HEADER.size)
        return self._directory

    def _hashes(self, first: int, behind: int) -> np.ndarray:
        return self._blocks(first, behind, 0, _HASH, "hashes")

    def _files(self, first: int, behind: int) -> np.ndarray:
        numbers = self._blocks(first, behind, 8 * self.entry.entries, _FILE, "files")
        if len(numbers) and int(numbers.max()) >= self.entry.files:
            raise self._damaged("it names a file that is not in its table")
        return numbers

    def _blocks(self, first: int, behind: int, offset: int, kind: np.dtype[Any], name: str) -> np.ndarray:
        count = min(behind * BLOCK, self.entry.entries) - first * BLOCK
        content = self._read(offset + first * BLOCK * kind.itemsize, count * kind.itemsize)
        told = self.directory()[name][first:behind]
        if not np.array_equal(_checksums(content, BLOCK * kind.itemsize), told):
            raise self._damaged("a block of it is damaged")
        return np.frombuffer(content, dtype=kind)

    def _read(self, start: int, length: int) -> bytes:
        try:
            content = self._store.get(self.entry.key, start=start, length=length)
        except ObjectNotFoundError:
            raise self._damaged("it is not there", is_missing=True) from None
        if len(content) != length:
            raise self._damaged("it is too short")
        return content

    def _damaged(self, why: str, *, is_missing: bool = False) -> IndexDamagedError:
        return IndexDamagedError(f"{self.entry.key}: {why}", month=self.entry.month, is_missing=is_missing)


class PartBuilder:
    """Takes entries in the order of their hashes, and gives the object's bytes.

    It holds the object once: 12 bytes an entry. It is used once.
    """

    def __init__(self, most: int) -> None:
        self._content = bytearray(12 * most)
        self._most = most
        self.entries = 0

    def take(self, hashes: np.ndarray, files: np.ndarray) -> None:
        """Go on with these: none smaller than what was taken, together no more than `most`."""
        end = self.entries + len(hashes)
        np.frombuffer(self._content, _HASH, self._most)[self.entries : end] = hashes
        np.frombuffer(self._content, _FILE, self._most, 8 * self._most)[self.entries : end] = files
        self.entries = end

    def finish(self, month: str, run: str, table: pa.Table) -> tuple[PartEntry, bytes]:
        """Return the object. `table` names the files by the numbers in the entries (`as_table`)."""
        count = self.entries
        each = self._count_files(table.num_rows)
        used = np.flatnonzero(each)
        renumbered = np.zeros(table.num_rows, dtype=_FILE)
        renumbered[used] = np.arange(len(used), dtype=_FILE)
        kept = _compact(table.take(pa.array(used)))
        kept = kept.append_column("entries", pa.array(each[used].astype(np.uint32)))
        # Where there are less entries than there was room for, the numbers move up to the hashes.
        for numbers, start in self._numbers():
            moved = np.frombuffer(self._content, _FILE, len(numbers), 8 * count + 4 * start)
            moved[:] = renumbered[numbers]
        del numbers, moved
        del self._content[12 * count :]
        content, self._content = self._content, bytearray()
        hashes = memoryview(content)[: 8 * count]
        directory = np.empty(-(-count // BLOCK), dtype=_DIRECTORY)
        directory["first"] = np.frombuffer(hashes, _HASH)[::BLOCK]
        first, last = int(directory["first"][0]), int(np.frombuffer(hashes, _HASH)[-1])
        directory["hashes"] = _checksums(hashes, 8 * BLOCK)
        directory["files"] = _checksums(memoryview(content)[8 * count :], 4 * BLOCK)
        del hashes
        stream = pa.BufferOutputStream()
        with pa.ipc.new_stream(stream, kept.schema, options=_OPTIONS) as writer:
            writer.write_table(kept)
        keys = stream.getvalue().to_pybytes()
        header = _HEADER.pack(
            _MAGIC, BLOCK, kept.num_rows, count, len(keys), xxh3_64_intdigest(keys), month.encode()
        )
        head = header + directory.tobytes()
        content += head
        content += keys
        entry = PartEntry(
            key=layout.new_index_part(month),
            month=month,
            run=run,
            bytes=len(content),
            entries=count,
            files=kept.num_rows,
            first=first,
            last=last,
            check=xxh3_64_hexdigest(head),
        )
        # A copy would double the memory; stores only read what they put.
        return entry, cast(bytes, content)

    def _count_files(self, files: int) -> np.ndarray:
        """Return how many entries each file has."""
        each = np.zeros(files, dtype=np.int64)
        for numbers, _ in self._numbers():
            each += np.bincount(numbers, minlength=files)
        return each

    def _numbers(self) -> Iterator[tuple[np.ndarray, int]]:
        """Yield the entries' file numbers, some at a time, with the place of the first."""
        for start in range(0, self.entries, _NUMBERS_AT_ONCE):
            count = min(_NUMBERS_AT_ONCE, self.entries - start)
            yield np.frombuffer(self._content, _FILE, count, 8 * self._most + 4 * start), start


_OPTIONS: Final = pa.ipc.IpcWriteOptions(compression="zstd", unify_dictionaries=True)
_COLUMNS: Final = ("folder", "attempt", "number", "suffix")


def as_table(keys: list[str]) -> pa.Table:
    """Return the table of files for data files' keys: what repeats from key to key stands there once."""
    rows = []
    for key in keys:
        folder, _, name = key.rpartition("/")
        stem, _, suffix = name.partition(".")
        attempt, _, number = stem.rpartition("-")
        rows.append((folder, attempt, int(number), suffix))
    folders, attempts, numbers, suffixes = zip(*rows, strict=True) if rows else ((), (), (), ())
    return pa.table(
        {
            "folder": pa.array(folders, pa.string()).dictionary_encode(),
            "attempt": pa.array(attempts, pa.string()).dictionary_encode(),
            "number": pa.array(numbers, pa.uint32()),
            "suffix": pa.array(suffixes, pa.string()).dictionary_encode(),
        }
    )


def keys_of(table: pa.Table) -> list[str]:
    """Return the keys that a table of files names."""
    columns = [table[name].to_pylist() for name in _COLUMNS]
    return [
        f"{folder}/{attempt}-{number}.{suffix}"
        for folder, attempt, number, suffix in zip(*columns, strict=True)
    ]


def _compact(table: pa.Table) -> pa.Table:
    """Return `table` with dictionaries that hold what is used and no more."""
    plain = [
        column.cast(pa.string()).combine_chunks().dictionary_encode()
        if pa.types.is_dictionary(column.type)
        else column.combine_chunks()
        for column in table.columns
    ]
    return pa.table(plain, names=table.column_names)


def _checksums(content: bytes | memoryview, block_bytes: int) -> np.ndarray:
    """Return the low half of the XXH3-64 of each block."""
    view = memoryview(content)
    return np.fromiter(
        (xxh3_64_intdigest(piece) & 0xFFFFFFFF for piece in _pieces(view, block_bytes)),
        dtype=np.uint32,
        count=-(-len(view) // block_bytes),
    )


def _pieces(view: memoryview, size: int) -> Iterator[memoryview]:
    return (view[start : start + size] for start in range(0, len(view), size))
