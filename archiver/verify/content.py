"""The bytes of data and quarantine files, held against the ledger and against themselves.

Of every row its workspace and id are derived from its body again, and of a sample of each
file all columns: first, last and 30 random rows of a random row group, judged anew, so that
each check looks elsewhere. What only the delivery knew (`received_at`, `source`, `ordinal`) follows from no
body. Files of JSON lines are bodies and nothing else; reading one judges every row.
"""

from __future__ import annotations

import io
import json
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from archiver import clock, quarantine
from archiver.block import Block
from archiver.columns import IDENTITY_COLUMN, SCHEMAS
from archiver.datafile import BodiesDigest, as_supplements, decode, suffix_of
from archiver.errors import IntegrityError
from archiver.ledger.entry import DataFile, ListedObject, digest_of
from archiver.validate import Rules, Validator
from archiver.verify.origins import Origins
from archiver.verify.report import Findings

# One row: a hash of (dataset, id), its time, its file's number, whether it supplements another.
IDENTITY: Final = np.dtype([("hash", "u8"), ("at", "i8"), ("file", "i4"), ("supplement", "?")])
_ALERT_SALT: Final = np.uint64(0x9E3779B97F4A7C15)
_SAMPLE_ROWS: Final = 32
_DAY_US: Final = 86_400_000_000
# What only the delivery knew, and the body itself: nothing to derive them from.
_UNDERIVED: Final = frozenset({"received_at", "source", "ordinal", "body", "base_event_time", "origin"})
_SHAPES: Final = ("webhook", "nested", "row")  # others are a later version's: nothing to derive

_threads = threading.local()
_chance: Final = random.SystemRandom()


@dataclass(slots=True)
class Checked:
    """What came of one data file. `identities` is None where its rows could not be read."""

    rows: int
    identities: np.ndarray | None


def same_bytes(content: bytes, key: str, digest: str, findings: Findings) -> bool:
    """Say whether `content` has the digest that the ledger names; report it if not."""
    found = digest_of(content)
    if found != digest:
        findings.damage("altered", key, digest, found)
    return found == digest


def check_data_file(content: bytes, file: DataFile, origins: Origins, findings: Findings) -> Checked:
    """Check one data file's bytes and rows.

    Args:
        origins: Holds the rows against the files in which they were first archived.
    """
    if not same_bytes(content, file.key, file.digest, findings):
        return Checked(0, None)
    rows = _Rows(file, origins, findings)
    try:
        for table, has_all in _tables(content, file):
            rows.take(table, has_all=has_all)
    except (pa.ArrowException, OSError, IntegrityError, LookupError, ValueError, TypeError) as error:
        reason = error.message if isinstance(error, IntegrityError) else str(error)
        expected = f"rows of {file.partition.dataset}"
        findings.damage("altered", file.key, expected, f"it cannot be read: {reason}")
        return Checked(0, None)
    rows.finish()
    return Checked(rows.count, np.concatenate(rows.identities) if rows.identities else np.empty(0, IDENTITY))


def _tables(content: bytes, file: DataFile) -> Iterator[tuple[pa.Table, bool]]:
    """Yield a file's rows, of Parquet one row group at a time, and whether that has all columns: one does."""
    dataset = file.partition.dataset
    needed = ["workspace_id", IDENTITY_COLUMN[dataset], "event_time", "shape", "body"]
    if dataset == "supplements":
        needed.append("dataset")
    if suffix_of(file.key) != "parquet":
        yield decode(content, file.key, dataset, needed), False
        return
    needed.append("origin")
    with pq.ParquetFile(io.BytesIO(content)) as opened:
        _check_columns(opened.schema_arrow, dataset)
        # At random, here and in the sample: whoever alters a column cannot know what is not looked at.
        sampled = _chance.randrange(max(opened.num_row_groups, 1))
        for group in range(opened.num_row_groups):
            yield opened.read_row_group(group, columns=None if group == sampled else needed), group == sampled


def _check_columns(found: pa.Schema, dataset: str) -> None:
    """Refuse a file that lacks a column, has it twice, or with another type; further ones are ignored."""
    for field in SCHEMAS[dataset]:
        at = found.get_field_index(field.name)
        if at < 0 or found.field(at).type != field.type:
            told = "none, or several" if at < 0 else str(found.field(at).type)
            raise IntegrityError(f"column {field.name} of type {field.type} is expected, found {told}")


class _Rows:
    """The rows of one file, a table at a time."""

    def __init__(self, file: DataFile, origins: Origins, findings: Findings) -> None:
        self.count = 0
        self._bodies = BodiesDigest()
        self._origins = origins
        self.identities: list[np.ndarray] = []
        self._file = file
        self._findings = findings
        self._low: int | None = None
        self._high: int | None = None

    def take(self, table: pa.Table, *, has_all: bool) -> None:
        """Check some rows, and where they have all columns a sample of these."""
        if table.num_rows == 0:
            return
        dataset = self._file.partition.dataset
        times = table["event_time"].cast(pa.int64()).to_numpy()
        low, high = int(times.min()), int(times.max())
        self._low = low if self._low is None else min(self._low, low)
        self._high = high if self._high is None else max(self._high, high)
        self._check_partition(table, times)
        kinds = _datasets(table, dataset)
        self._bodies.take(table["body"])
        if suffix_of(self._file.key) == "parquet":
            self._origins.take(table["origin"], table["body"])
            self._check_bodies(table, kinds)
            if has_all:
                self._check_sample(table)
        self.identities.append(self._identities(table, times, kinds))
        self.count += table.num_rows

    def finish(self) -> None:
        """Hold what all rows together are against the ledger."""
        file, key = self._file, self._file.key
        if self.count > file.rows:
            self._findings.damage("inserted", key, f"{file.rows} rows", f"{self.count}")
        elif self.count < file.rows:
            self._findings.damage("missing", key, f"{file.rows} rows", f"{self.count}")
        bodies = self._bodies.digest()
        if bodies != file.bodies:
            self._findings.damage("altered", key, f"bodies of digest {file.bodies}", bodies)
        if suffix_of(key) == "parquet":
            self._origins.finish()
        if self._low is None or self._high is None:
            return
        if (self._low, self._high) != (file.min_us, file.max_us):
            expected = f"times from {clock.to_text(file.min_us)} to {clock.to_text(file.max_us)}"
            found = f"{clock.to_text(self._low)} to {clock.to_text(self._high)}"
            self._findings.damage("miscounted", key, expected, found)

    def _damage(self, row: int, expected: str, found: str) -> None:
        self._findings.damage("altered", self._file.key, expected, f"row {self.count + row}: {found}")

    def _check_partition(self, table: pa.Table, times: np.ndarray) -> None:
        place = self._file.partition
        workspaces = pc.not_equal(table["workspace_id"], place.workspace).combine_chunks()
        strangers = np.flatnonzero(workspaces.fill_null(True).to_numpy(zero_copy_only=False))
        if strangers.size:
            first = int(strangers[0])
            found = f"{table['workspace_id'][first].as_py()!r:.80}"
            self._damage(first, f"rows of workspace {place.workspace!r} alone", found)
        day = np.datetime64(place.dt, "D").astype("int64")
        others = np.flatnonzero(times // _DAY_US != day)
        if others.size:
            first = int(others[0])
            self._damage(first, f"rows of {place.dt} alone", clock.to_text(int(times[first])))

    def _check_bodies(self, table: pa.Table, kinds: list[str] | str) -> None:
        """Derive workspace and id from every body."""
        identity = IDENTITY_COLUMN[self._file.partition.dataset]
        bodies, shapes = table["body"].to_pylist(), table["shape"].to_pylist()
        workspaces, ids = table["workspace_id"].to_pylist(), table[identity].to_pylist()
        for row, body in enumerate(bodies):
            if body is None or shapes[row] not in _SHAPES:
                continue
            told = (workspaces[row], ids[row])
            found = _identity_in(body, kinds if isinstance(kinds, str) else kinds[row], shapes[row])
            if found != told:
                self._damage(row, f"the workspace and id of its body, {found!r:.150}", f"{told!r:.150}")
                return  # one row names the file; it is not to be trusted

    def _check_sample(self, table: pa.Table) -> None:
        """Derive all columns of some rows anew."""
        drawn = _chance.sample(range(table.num_rows), min(_SAMPLE_ROWS - 2, table.num_rows))
        rows = sorted({0, table.num_rows - 1, *drawn})
        shapes, bodies = table["shape"], table["body"]
        rows = [row for row in rows if bodies[row].is_valid and shapes[row].as_py() in _SHAPES]
        if not rows:
            return
        sample = [bodies[row].as_py().encode() for row in rows]
        nothing = [0] * len(rows)
        block = Block(0, sample, rows, nothing, nothing, [None] * len(rows), shape="archived")
        judged = _validator().validate(block)
        for rejection in judged.rejections:
            self._damage(rejection.ordinal, "a body that is an event", rejection.detail)
        for name, batch in judged.tables.items():
            derived = pa.Table.from_batches([batch])
            wanted = pa.array(derived["ordinal"].to_pylist())
            if self._file.partition.dataset == "supplements":
                derived = as_supplements(derived, name)
            elif name != self._file.partition.dataset:
                self._damage(wanted[0].as_py(), f"rows of {self._file.partition.dataset}", f"a row of {name}")
                continue
            self._compare(table.take(wanted), derived, wanted)

    def _compare(self, archived: pa.Table, derived: pa.Table, rows: pa.Array) -> None:
        for name in derived.column_names:
            if name in _UNDERIVED or name not in archived.column_names:
                continue
            ours, theirs = derived[name].combine_chunks(), archived[name].combine_chunks()
            if ours.equals(theirs):
                continue
            pairs = zip(rows.to_pylist(), ours.to_pylist(), theirs.to_pylist(), strict=True)
            row, told, found = next((pair for pair in pairs if pair[1] != pair[2]), (0, "?", "?"))
            self._damage(row, f"column {name} to be what the body says, {told!r:.150}", f"{found!r:.150}")

    def _identities(self, table: pa.Table, times: np.ndarray, kinds: list[str] | str) -> np.ndarray:
        ids = table[IDENTITY_COLUMN[self._file.partition.dataset]]
        told = np.empty(table.num_rows, IDENTITY)
        told["hash"] = identity_hashes(pl.Series(ids), kinds)
        told["at"] = times
        told["file"] = 0  # numbered by whoever collects them
        told["supplement"] = self._file.partition.dataset == "supplements"
        return told


def identity_hashes(ids: pl.Series, kinds: list[str] | str) -> np.ndarray:
    """Return a hash of each identity: of the id, and another one where it is that of an alert."""
    # The same within one process, which is enough; and not the index's, which is not to be trusted here.
    hashes = ids.hash(seed=0x5EED).to_numpy()
    if isinstance(kinds, str):
        return hashes ^ _ALERT_SALT if kinds == "alerts" else hashes
    return np.where(np.array(kinds) == "alerts", hashes ^ _ALERT_SALT, hashes)


def _datasets(table: pa.Table, dataset: str) -> list[str] | str:
    """Return which dataset's identities the rows have; a supplement names it itself."""
    if dataset != "supplements":
        return dataset
    kinds: list[str] = table["dataset"].to_pylist()
    return kinds


def _identity_in(body: str, dataset: str, shape: str) -> tuple[Any, Any]:
    """Return workspace and id as a body tells them; nothing if it is not of this shape."""
    try:
        try:
            tree = orjson.loads(body)
        except orjson.JSONDecodeError:  # half characters in another member: valid for the judge
            tree = json.loads(body)
        if shape == "row":
            return (None, None) if "event_type" in tree else (tree["workspace_id"], tree["id"])
        return tree["workspace_id"], tree["alert_id"] if dataset == "alerts" else tree["data"]["id"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None, None


def _validator() -> Validator:
    """Our own schemas, without a user's: those may have changed since. One a thread."""
    if not hasattr(_threads, "validator"):
        _threads.validator = Validator(Rules(source=""))
    found: Validator = _threads.validator
    return found


def check_quarantine_file(
    content: bytes, listed: ListedObject, commit: int, findings: Findings
) -> np.ndarray | None:
    """Check a quarantine file's bytes and entries; return their ordinals, None if it cannot be read."""
    if not same_bytes(content, listed.key, listed.digest, findings):
        return None
    try:
        found = [entry.rejection.ordinal for entry in quarantine.decode(content, listed, commit)]
        ordinals = np.array(found, dtype=np.int64)
    except (IntegrityError, ValueError, TypeError, OverflowError) as error:
        reason = error.message if isinstance(error, IntegrityError) else str(error)
        findings.damage("altered", listed.key, "a quarantine file", reason)
        return None
    if len(ordinals) > listed.entries:
        findings.damage("inserted", listed.key, f"{listed.entries} entries", f"{len(ordinals)}")
    elif len(ordinals) < listed.entries:
        findings.damage("missing", listed.key, f"{listed.entries} entries", f"{len(ordinals)}")
    if len(ordinals) and (int(ordinals.min()) < 0 or (np.diff(ordinals) <= 0).any()):
        findings.damage("altered", listed.key, "ordinals that ascend", "others")
    return ordinals
