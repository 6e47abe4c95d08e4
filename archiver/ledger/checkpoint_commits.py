"""The commits in a checkpoint, as columns: what of each must be remembered, read when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from archiver.ledger.checkpoint_parts import GROUP_ROWS, CacheDamagedError, Part
from archiver.ledger.entry import Counts, Hold, ListedObject

_COUNTS: Final = ["read", "archived", "supplements", "duplicates", "quarantined"]


class StoredNames(Mapping[str, int]):
    """Hexadecimal names of one length, and the commit of each: as bytes, sorted.

    Args:
        names: The bytes of all of them, one behind the other, in commit order from 0.
        width: Of one, in bytes; at least 8.
    """

    def __init__(self, names: bytes, width: int) -> None:
        self._names = np.frombuffer(names, np.uint8).reshape(-1, width)
        self._width = width
        heads = np.ascontiguousarray(self._names[:, :8]).view(">u8").ravel().astype(np.uint64)
        self._order = np.argsort(heads, kind="stable")
        self._heads = heads[self._order]

    def __len__(self) -> int:
        return len(self._heads)

    def __iter__(self) -> Iterator[str]:
        return (name.tobytes().hex() for name in self._names)

    def __getitem__(self, name: str) -> int:
        try:
            wanted = bytes.fromhex(name)
        except ValueError:
            raise KeyError(name) from None
        if len(wanted) == self._width and wanted.hex() == name:
            head = np.uint64(int.from_bytes(wanted[:8], "big"))
            at = int(np.searchsorted(self._heads, head))
            while at < len(self._heads) and self._heads[at] == head:
                sequence = int(self._order[at])
                if self._names[sequence].tobytes() == wanted:
                    return sequence
                at += 1
        raise KeyError(name)


class StoredCommits:
    """The commits 0 to `last`, in parts that follow each other without a gap.

    Attributes:
        last: The newest that is shown.
    """

    def __init__(self, parts: Sequence[tuple[int, Part]], last: int) -> None:
        self._parts = parts
        self.last = last

    def columns(self, *names: str, first: int = 0) -> pa.Table:
        """Return these columns of the commits from `first` on, in order."""
        return pa.concat_tables(self.slices(*names, first=first, groups_at_once=1 << 30))

    def slices(self, *names: str, first: int = 0, groups_at_once: int = 4) -> Iterator[pa.Table]:
        """Yield these columns of the commits from `first` on, in order, some thousand at a time."""
        size = GROUP_ROWS["commits"]
        for begins, part in self._parts:
            low, high = max(first - begins, 0), min(part.entries, self.last + 1 - begins)
            wanted = range(low // size, -(-high // size)) if low < high else range(0)
            for start in range(wanted.start, wanted.stop, groups_at_once):
                groups = range(start, min(start + groups_at_once, wanted.stop))
                rows = part.read(names, groups)
                offset = max(low - start * size, 0)
                yield rows.slice(offset, high - start * size - offset)
        if first > self.last:
            yield self._parts[0][1].read(names, [])

    def stems(self, sequences: Sequence[int]) -> dict[int, str]:
        """Return `<batch>-<attempt>` of these commits."""
        found: dict[int, str] = {}
        size = GROUP_ROWS["commits"]
        for begins, part in self._parts:
            here = [one - begins for one in sequences if 0 <= one - begins < part.entries]
            groups = sorted({at // size for at in here})
            rows = part.read(["batch", "attempt"], groups)
            first_row = {group: number * size for number, group in enumerate(groups)}
            for at in here:
                row = first_row[at // size] + at % size
                batch, attempt = rows["batch"][row].as_py(), rows["attempt"][row].as_py()
                found[begins + at] = f"{batch.hex()}-{attempt.hex()}"
        if len(found) < len(set(sequences)):
            raise CacheDamagedError("a checkpoint names files of commits that it does not hold")
        return found

    def digest(self, sequence: int) -> str:
        """Return the digest of one commit."""
        found = next(self.slices("digest", first=sequence, groups_at_once=1))["digest"][0].as_py()
        return f"sha256:{found.hex()}"

    def newest(self, operation: str) -> int | None:
        """Return the newest commit of this operation; None if there is none."""
        size = GROUP_ROWS["commits"]
        for begins, part in reversed(self._parts):
            for group in range(part.groups - 1, -1, -1):
                if begins + group * size > self.last:
                    continue
                told = part.read(["operation"], [group])["operation"].to_pylist()
                for at in range(min(len(told), self.last + 1 - begins - group * size) - 1, -1, -1):
                    if told[at] == operation:
                        return begins + group * size + at
        return None

    @cached_property
    def batches(self) -> StoredNames:
        return self._names("batch", 16)

    @cached_property
    def attempts(self) -> StoredNames:
        return self._names("attempt", 14)

    def _names(self, column: str, width: int) -> StoredNames:
        parts = []
        for chunk in self.columns(column)[column].chunks:
            start = chunk.offset * width
            parts.append(chunk.buffers()[1].to_pybytes()[start : start + len(chunk) * width])
        return StoredNames(b"".join(parts), width)

    @property
    def fenced(self) -> Iterator[str]:
        """Attempts that were declared dead."""
        for rows in self.slices("fenced"):
            yield from (one.hex() for one in pc.list_flatten(rows["fenced"]).to_pylist())

    @property
    def moved(self) -> Iterator[tuple[int, int]]:
        for rows in self.slices("moved"):
            for one in pc.list_flatten(rows["moved"]).to_pylist():
                yield one["commit"], one["ordinal"]

    @property
    def quarantine(self) -> Iterator[tuple[int, ListedObject]]:
        for rows in self.slices("sequence", "quarantine_files"):
            some = rows.filter(pc.greater(pc.list_value_length(rows["quarantine_files"]), 0))
            for sequence, listed in zip(*(some[name].to_pylist() for name in some.schema.names), strict=True):
                yield from ((sequence, _listed(one)) for one in listed)

    @property
    def lists(self) -> Iterator[str]:
        for rows in self.slices("lists"):
            yield from (one["key"] for one in pc.list_flatten(rows["lists"]).to_pylist())

    def totals(self) -> Counts:
        """Return the sum of all commits' counts, as `Snapshot.totals` has it."""
        total = Counts()
        for rows in self.slices("operation", *_COUNTS, "moved"):
            appended = rows.filter(pc.equal(rows["operation"], "append"))
            total += Counts(*(_sum(appended[name]) for name in _COUNTS))
            back = rows.filter(pc.equal(rows["operation"], "requeue"))
            told = {name: _sum(back[name]) for name in _COUNTS}
            moved = _sum(pc.list_value_length(back["moved"]))
            total += Counts(0, told["archived"], told["supplements"], told["duplicates"], -moved)
        return total

    def cursors(self) -> dict[str, Any]:
        """Return how far each source was read."""
        found: dict[str, Any] = {}
        for rows in self.slices("source", "cursor"):
            told = rows.filter(pc.is_valid(rows["cursor"]))
            found |= {row["source"]: json.loads(row["cursor"]) for row in told.to_pylist()}
        return found

    def holds(self) -> dict[str, Hold]:
        """Return the holds in force, by name."""
        found: dict[str, Hold] = {}
        for rows in self.slices("hold"):
            for text in rows["hold"].drop_null().to_pylist():
                hold = Hold.from_json(json.loads(text))
                found.pop(hold.name, None)
                if not hold.released:
                    found[hold.name] = hold
        return found


def _sum(values: pa.ChunkedArray) -> int:
    return int(pc.sum(values).as_py() or 0)


def _listed(tree: dict[str, Any]) -> ListedObject:
    return ListedObject(tree["key"], f"sha256:{tree['digest'].hex()}", tree["bytes"], tree["entries"])
