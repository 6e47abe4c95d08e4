"""From commits to the rows of a checkpoint's parts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date
from typing import Any, Final

import pyarrow as pa

from archiver import layout
from archiver.errors import IntegrityError
from archiver.ledger.checkpoint_files import day_of
from archiver.ledger.checkpoint_parts import SCHEMAS, Kind
from archiver.ledger.entry import Commit, DataFile, ListedObject

_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
_NAME: Final = re.compile(r"([0-9a-f]{32})-([0-9a-f]{28})-(0|[1-9][0-9]{0,8})\.([0-9a-z.]+)", re.ASCII)


class Rows:
    """Takes in commits, one after the other, and gives them back as tables.

    Args:
        batch_commit: Batch -> its commit, for those before the first that is taken in.
    """

    def __init__(self, batch_commit: Mapping[str, int]) -> None:
        self._batch_commit = batch_commit
        self._own: dict[str, int] = {}
        self._places: dict[str, tuple[str, str, date]] = {}
        self._rows_of: dict[str, int] = {}  # key -> its row in `files`
        self._columns: dict[Kind, dict[str, list[Any]]] = {
            kind: {name: [] for name in schema.names} for kind, schema in SCHEMAS.items()
        }

    @property
    def entries(self) -> int:
        """How many rows there are."""
        return sum(len(next(iter(columns.values()))) for columns in self._columns.values())

    def take(self, commit: Commit) -> None:
        """Go on with the next commit.

        Raises:
            IntegrityError: It is not of the form that a checkpoint can hold.
        """
        self._own[commit.content.batch] = commit.sequence
        self._commit(commit)
        for key in commit.content.removed:
            self._remove(key, commit.sequence)
        numbers: set[int] = set()
        for file in commit.content.added:
            self._add(commit, file, numbers)

    def tables(self) -> dict[Kind, pa.Table]:
        """Return everything that was taken in, by kind of part."""
        return {
            kind: pa.table(
                [pa.array(self._columns[kind][field.name], field.type) for field in schema], schema=schema
            )
            for kind, schema in SCHEMAS.items()
        }

    def _append(self, kind: Kind, row: Mapping[str, Any]) -> None:
        for name, values in self._columns[kind].items():
            values.append(row[name])

    def _place(self, key: str) -> tuple[str, str, date]:
        folder = key.rpartition("/")[0]
        if folder not in self._places:
            found = layout.partition_of(key)
            day = day_of(found.dt) if found is not None else None
            if found is None or day is None or f"/workspace={layout.escape(found.workspace)}/" not in key:
                raise IntegrityError(f"{key}: expected the key of a data file")
            self._places[folder] = found.dataset, found.workspace, day
        return self._places[folder]

    def _add(self, commit: Commit, file: DataFile, numbers: set[int]) -> None:
        dataset, workspace, day = self._place(file.key)
        said = commit.content
        named = _NAME.fullmatch(file.key.rpartition("/")[2])
        if named is None or (named[1], named[2]) != (said.batch, said.attempt) or int(named[3]) in numbers:
            own = f"a name of its own that attempt {said.batch}-{said.attempt} gave"
            raise IntegrityError(f"{layout.commit(commit.sequence)}: expected {own}, found {file.key}")
        numbers.add(int(named[3]))
        self._rows_of[file.key] = len(self._columns["files"]["number"])
        self._append(
            "files",
            {
                "dataset": dataset,
                "workspace": workspace,
                "dt": day,
                "added_by": commit.sequence,
                "number": int(named[3]),
                "suffix": named[4],
                "digest": _digest(file.digest, file.key),
                "bodies": _digest(file.bodies, file.key),
                "bytes": file.bytes,
                "rows": file.rows,
                "min_us": file.min_us,
                "max_us": file.max_us,
                "removed_by": None,
            },
        )

    def _remove(self, key: str, sequence: int) -> None:
        row = self._rows_of.pop(key, None)
        if row is not None:
            self._columns["files"]["removed_by"][row] = sequence
            return
        dataset, workspace, day = self._place(key)
        named = _NAME.fullmatch(key.rpartition("/")[2])
        added_by = self._own.get(named[1]) if named is not None else None
        if added_by is None and named is not None:
            added_by = self._batch_commit.get(named[1])
        if named is None or added_by is None:
            raise IntegrityError(f"{layout.commit(sequence)}: removes {key}, which no commit added")
        self._append(
            "removals",
            {
                "dataset": dataset,
                "workspace": workspace,
                "dt": day,
                "added_by": added_by,
                "number": int(named[3]),
                "removed_by": sequence,
            },
        )

    def _commit(self, commit: Commit) -> None:
        said, key = commit.content, layout.commit(commit.sequence)
        after = said.source.get("after")
        self._append(
            "commits",
            {
                "sequence": commit.sequence,
                "digest": _digest(commit.digest, key),
                "batch": _bytes(said.batch, 16, key),
                "attempt": _bytes(said.attempt, 14, key),
                "committed_us": commit.committed_us,
                "operation": said.operation,
                "source": said.source.get("name"),
                "cursor": None if after is None else json.dumps(after),
                "hold": None if said.hold is None else json.dumps(said.hold.to_json()),
                **said.counts.to_json(),
                "oldest_readable": commit.oldest_readable,
                "inputs": len(said.inputs),
                "input_bytes": sum(one["bytes"] for one in said.inputs),
                "files": len(said.added),
                "rows": sum(file.rows for file in said.added),
                "bytes": sum(file.bytes for file in said.added),
                "removed": len(said.removed),
                "fenced": [_bytes(one, 14, key) for one in said.fenced],
                "moved": [{"commit": one, "ordinal": ordinal} for one, ordinal in said.moved],
                "quarantine_files": [_listed(one) for one in said.quarantined],
                "lists": [_listed(one) for one in said.lists],
            },
        )


def _bytes(name: str, width: int, key: str) -> bytes:
    try:
        found = bytes.fromhex(name)
    except ValueError:
        found = b""
    if len(found) != width or found.hex() != name:
        raise IntegrityError(f"{key}: expected a name of {2 * width} hex digits, found {name!r:.60}")
    return found


def _digest(digest: str, key: str) -> bytes:
    found = _DIGEST.fullmatch(digest)
    if found is None:
        raise IntegrityError(f"{key}: expected a digest, found {digest!r:.80}")
    return bytes.fromhex(found[1])


def _listed(one: ListedObject) -> dict[str, Any]:
    return {
        "key": one.key,
        "digest": _digest(one.digest, one.key),
        "bytes": one.bytes,
        "entries": one.entries,
    }
