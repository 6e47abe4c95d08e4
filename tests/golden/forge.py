"""Doing damage as somebody would who may write everything: with commits, digests and sizes made to fit."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import rfc8785

from archiver import clock, layout
from archiver.datafile import Encoding, bodies_digest
from archiver.ledger.entry import Counts, digest_of

Tree = dict[str, Any]
ATTEMPT = "01" * 14
BATCH = "ab" * 16


class Forge:
    """An archive in a folder, whose commits can be changed and are chained anew from there."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def head(self) -> int:
        return max(int(path.stem) for path in (self.root / "_ledger").glob("*.json"))

    def path(self, sequence: int) -> Path:
        return self.root / layout.commit(sequence)

    def tree(self, sequence: int) -> Tree:
        tree: Tree = json.loads(self.path(sequence).read_bytes())
        return tree

    def digest(self, sequence: int) -> str:
        return digest_of(self.path(sequence).read_bytes())

    def write(self, sequence: int, content: Tree | bytes) -> None:
        """Put a commit, and chain all that follow anew."""
        self.path(sequence).write_bytes(content if isinstance(content, bytes) else rfc8785.dumps(content))
        for following in range(sequence + 1, self.head + 1):
            tree = self.tree(following)
            tree["previous"] = self.digest(following - 1)
            self.path(following).write_bytes(rfc8785.dumps(tree))

    def change(self, sequence: int, **members: Any) -> None:
        """Give a commit other members."""
        self.write(sequence, {**self.tree(sequence), **members})

    def edit(self, sequence: int, edit: Callable[[Tree], object]) -> None:
        """Change a commit in place."""
        tree = self.tree(sequence)
        edit(tree)
        self.write(sequence, tree)

    def append(self, operation: str = "append", **members: Any) -> str:
        """Add a commit at the end; return its key."""
        head = self.head
        tree = {
            **{name: value for name, value in self.tree(head).items() if name not in ("archive", "hold")},
            "sequence": head + 1,
            "operation": operation,
            "batch": BATCH,
            "attempt": ATTEMPT,
            "source": {},
            "inputs": [],
            "counts": Counts().to_json(),
            **{name: [] for name in ("added", "lists", "removed", "quarantined", "moved", "fenced")},
            **members,
            "previous": self.digest(head),
        }
        self.path(head + 1).write_bytes(rfc8785.dumps(tree))
        return layout.commit(head + 1)

    # --- files ---------------------------------------------------------------------------------------

    def entries(self, sequence: int, dataset: str = "events") -> list[Tree]:
        """Return the entries of the data files that a commit adds, those in its lists, too."""
        tree = self.tree(sequence)
        found = list(tree["added"])
        for listed in tree["lists"]:
            found += json.loads((self.root / listed["key"]).read_bytes())["added"]
        return [one for one in found if one["dataset"] == dataset]

    def copy_as(self, entry: Tree, number: int = 0, folder: str | None = None) -> Tree:
        """Copy a data file under the name that the forged commit's attempt would give."""
        old, _, name = entry["key"].rpartition("/")
        suffix = name.partition(".")[2]
        key = f"{folder or old}/{BATCH}-{ATTEMPT}-{number}.{suffix}"
        (self.root / key).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.root / entry["key"], self.root / key)
        return {**entry, "key": key}

    def rows(self, entry: Tree) -> pa.Table:
        with pq.ParquetFile(io.BytesIO((self.root / entry["key"]).read_bytes())) as file:
            return file.read(use_threads=False)

    def replace(self, sequence: int, entry: Tree, rows: pa.Table, **recorded: Any) -> None:
        """Put other rows into a Parquet file, and record size, digest and bodies anew."""
        content = Encoding(level=3).encode(rows, entry["dataset"])
        (self.root / entry["key"]).write_bytes(content)
        self.record(sequence, entry, content, bodies=bodies_digest(rows["body"], "parquet"), **recorded)

    def record(self, sequence: int, entry: Tree, content: bytes, **recorded: Any) -> None:
        """Record an object's bytes anew in the commit that names it."""
        new = {**entry, "digest": digest_of(content), "bytes": len(content), **recorded}

        def swap(tree: Tree) -> None:
            for name in ("added", "quarantined", "lists"):
                tree[name] = [new if one["key"] == entry["key"] else one for one in tree[name]]

        self.edit(sequence, swap)

    def edit_list(self, sequence: int, edit: Callable[[Tree], object]) -> None:
        """Change a commit's list of files, and record it anew."""
        listed = self.tree(sequence)["lists"][0]
        tree = json.loads((self.root / listed["key"]).read_bytes())
        edit(tree)
        content = rfc8785.dumps(tree)
        (self.root / listed["key"]).write_bytes(content)
        self.record(sequence, listed, content, entries=len(tree["added"]))

    def rewrite_quarantine(
        self, sequence: int, change: Callable[[list[bytes]], list[bytes]], **recorded: Any
    ) -> None:
        """Change the lines of a quarantine file, and record it anew."""
        listed = self.tree(sequence)["quarantined"][0]
        path = self.root / listed["key"]
        lines = change(gzip.decompress(path.read_bytes()).splitlines(keepends=True))
        path.write_bytes(gzip.compress(b"".join(lines), mtime=0))
        self.record(sequence, listed, path.read_bytes(), **recorded)


def flip(path: Path, at: int = -30) -> None:
    """Change one bit."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def with_row(table: pa.Table, row: int, **values: Any) -> pa.Table:
    """Return the table with other values in one row. A `body` is (old text, new text)."""
    rows = table.to_pylist()
    for name, value in values.items():
        rows[row][name] = rows[row]["body"].replace(*value) if name == "body" else value
    return pa.Table.from_pylist(rows, schema=table.schema)


def later(text: str, us: int = 1) -> str:
    """Return a time a little later."""
    return clock.to_text(clock.from_text(text) + us)
