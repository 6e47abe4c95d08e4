"""Rows of data files whose bytes have just been held against the ledger.

Each file is read as one object, whole, and its digest must be the one that the ledger names.
What is told of its rows comes out of those very bytes. Of every file the digests of its bodies
are remembered, 16 bytes a row: mostly that a row's own body is archived is all that is asked.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from archiver.columns import IDENTITY_COLUMN, TIME
from archiver.datafile import bodies_of, decode, suffix_of
from archiver.errors import IntegrityError, ObjectNotFoundError
from archiver.index.reading import FileVanishedError
from archiver.ledger.entry import DataFile, digest_of
from archiver.store.base import Store

_REMEMBERED_ROWS: Final = 16_000_000
_HELD_BYTES: Final = 256 << 20
_BATCH_ROWS: Final = 8_192


class VerifiedFiles:
    """Reads data files, each once as long as what is remembered of them fits into memory.

    Attributes:
        keys: Of the files that were found to be what the ledger says.
        bytes: How much was read for it.
    """

    def __init__(self, store: Store) -> None:
        self.keys: set[str] = set()
        self.bytes = 0
        self._store = store
        self._secret = secrets.token_bytes(32)
        self._digests: OrderedDict[str, np.ndarray] = OrderedDict()
        self._contents: OrderedDict[str, bytes] = OrderedDict()
        self._tables: OrderedDict[str, pa.Table] = OrderedDict()

    def digests(self, bodies: Iterable[bytes]) -> np.ndarray:
        """Return a digest of each body, two numbers a row; only this object makes such."""
        parts = [hashlib.blake2b(body, digest_size=16, key=self._secret).digest() for body in bodies]
        return np.frombuffer(b"".join(parts), dtype="<u8").reshape(-1, 2)

    def holds(self, file: DataFile, digests: np.ndarray) -> np.ndarray:
        """Return for each digest whether `file` has a row with that body.

        Raises:
            FileVanishedError: The file is not there.
            IntegrityError: It is not what the ledger says, or cannot be read.
        """
        known = self._known(file)
        if not len(known):
            return np.zeros(len(digests), dtype=bool)
        at = np.searchsorted(known[:, 0], digests[:, 0])
        at[at == len(known)] = 0
        found: np.ndarray = (known[at] == digests).all(axis=1)
        return found

    def rows(self, file: DataFile, ids: Collection[str]) -> pa.Table:
        """Return id, event_time, shape, body and base of the rows of `file` that are events with these ids.

        Raises:
            FileVanishedError: The file is not there.
            IntegrityError: It is not what the ledger says, or cannot be read.
        """
        holds = file.partition.dataset
        identity = IDENTITY_COLUMN[holds]
        wanted = [identity, "event_time", "shape", "body"]
        if holds == "supplements":
            wanted += ["base_event_time", "dataset"]
        values = pa.array(list(ids), pa.string())

        def chosen(table: pa.Table) -> pa.Table:
            return table.filter(pc.is_in(table[identity], value_set=values))

        if suffix_of(file.key) == "parquet":
            found = chosen(self._from_parquet(file, wanted, identity, values))
        else:
            found = chosen(self._from_lines(file, wanted))
        if holds == "supplements":
            found = found.filter(pc.equal(found["dataset"], "events"))
        else:
            found = found.append_column("base", pa.nulls(found.num_rows, TIME))
        return found.select(range(5)).rename_columns(["id", "event_time", "shape", "body", "base"])

    def _known(self, file: DataFile) -> np.ndarray:
        known = self._digests.get(file.key)
        if known is None:
            found = self.digests(_bodies(self._content(file), file))
            known = found[np.lexsort((found[:, 1], found[:, 0]))]
            self._digests[file.key] = known
            while len(self._digests) > 1 and sum(map(len, self._digests.values())) > _REMEMBERED_ROWS:
                self._digests.popitem(last=False)
        self._digests.move_to_end(file.key)
        return known

    def _content(self, file: DataFile) -> bytes:
        """Return the file's bytes, which are those that the ledger names."""
        content = self._contents.get(file.key)
        if content is None:
            try:
                content = self._store.get(file.key)
            except ObjectNotFoundError:
                raise FileVanishedError(file.key) from None
            self.bytes += len(content)
            found = digest_of(content)
            if found != file.digest:
                raise IntegrityError(
                    f"{file.key}: expected {file.digest}, found {found}; none of its rows was deleted",
                    hint="the archive was damaged: run `archiver verify`, restore the file from a copy",
                )
            self.keys.add(file.key)
            self._contents[file.key] = content
            while len(self._contents) > 1 and sum(map(len, self._contents.values())) > _HELD_BYTES:
                self._contents.popitem(last=False)
        self._contents.move_to_end(file.key)
        return content

    def _from_parquet(self, file: DataFile, wanted: list[str], identity: str, ids: pa.Array) -> pa.Table:
        try:
            with pq.ParquetFile(pa.BufferReader(self._content(file))) as source:
                groups = [
                    group
                    for group in range(source.num_row_groups)
                    if pc.any(pc.is_in(_column(source, group, identity), value_set=ids)).as_py()
                ]
                return source.read_row_groups(groups, columns=wanted, use_threads=False).select(wanted)
        except (pa.ArrowException, OSError, LookupError) as error:
            raise _unreadable(file, error) from error

    def _from_lines(self, file: DataFile, wanted: list[str]) -> pa.Table:
        """Every line has to be judged to know its columns, so the last files are kept as tables."""
        table = self._tables.get(file.key)
        if table is None:
            table = decode(self._content(file), file.key, file.partition.dataset, wanted)
            self._tables[file.key] = table
            while len(self._tables) > 1 and sum(one.nbytes for one in self._tables.values()) > _HELD_BYTES:
                self._tables.popitem(last=False)
        self._tables.move_to_end(file.key)
        return table


def _bodies(content: bytes, file: DataFile) -> Iterable[bytes]:
    if suffix_of(file.key) != "parquet":
        yield from bodies_of(content, file.key)
        return
    try:
        with pq.ParquetFile(pa.BufferReader(content)) as source:
            for batch in source.iter_batches(_BATCH_ROWS, columns=["body"], use_threads=False):
                yield from batch["body"].cast(pa.binary()).drop_null().to_pylist()
    except (pa.ArrowException, OSError, LookupError) as error:
        raise _unreadable(file, error) from error


def _column(source: pq.ParquetFile, group: int, name: str) -> pa.ChunkedArray:
    return source.read_row_group(group, columns=[name], use_threads=False)[name]


def _unreadable(file: DataFile, error: BaseException) -> IntegrityError:
    return IntegrityError(f"{file.key}: its rows cannot be read: {error}"[:400])
