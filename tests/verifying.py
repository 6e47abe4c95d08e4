"""An intact archive to do damage to, its commits to be forged and chained anew, and what `verify` finds."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rfc8785

from archiver import layout
from archiver.archive import Archive, init_archive
from archiver.attempt import Attempt
from archiver.block import Block
from archiver.datafile import Encoding, bodies_digest
from archiver.generate import Delivery, deliveries
from archiver.judging import Judges
from archiver.ledger import commit as protocol
from archiver.ledger.entry import Commit, Counts, DataFile, digest_of
from archiver.progress import Silent
from archiver.store.local import LocalStore
from archiver.validate import Rules
from archiver.verify import VerifyReport, verify

Tree = dict[str, Any]


def deliver(archive: Archive, items: Iterable[Delivery]) -> Commit:
    """Archive deliveries as one batch, by the pipeline's own parts."""
    items = list(items)
    bodies = [one.body for one in items]
    count = len(bodies)
    block = Block(
        0, bodies, list(range(count)), [0] * count, [one.received_at for one in items], [None] * count
    )
    attempt = Attempt(archive, layout.new_attempt() + "0000", source="spool", inputs=["one"])
    with Judges(Rules(source="spool"), workers=0) as judges:
        attempt.work(judges.judge([block], total_bytes=0), Silent())
    done = protocol.commit(
        archive.ledger, attempt.content(operation="append", source={"name": "spool"}), seen=attempt.seen
    )
    assert isinstance(done, protocol.Committed)
    return done.commit


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of four commits: rows of all datasets, quarantine files, one list of files."""
    root = tmp_path_factory.mktemp("verify") / "archive"
    archive = init_archive(LocalStore(root), rounds=0)
    items = list(
        deliveries(events=900, seed=7, workspaces=3, days=2, invalid=0.05, supplements=0.03, duplicates=0.02)
    )
    with pytest.MonkeyPatch.context() as patch:
        deliver(archive, items[:300])
        deliver(archive, items[300:600])
        patch.setattr("archiver.attempt.LONGEST_INLINE_LIST", 2)
        deliver(archive, items[600:])
    return root


@pytest.fixture
def root(built: Path, tmp_path: Path) -> Path:
    """A copy to do damage to."""
    return Path(shutil.copytree(built, tmp_path / "archive"))


@pytest.fixture
def ledger(root: Path) -> Chained:
    return Chained(root)


class Chained:
    """The commits in a folder, to be read, changed and chained anew."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, sequence: int) -> Path:
        return self.root / layout.commit(sequence)

    @property
    def head(self) -> int:
        return max(int(path.stem) for path in (self.root / "_ledger").glob("*.json"))

    def tree(self, sequence: int) -> Tree:
        tree: Tree = json.loads(self.path(sequence).read_bytes())
        return tree

    def write(self, sequence: int, tree: Tree) -> None:
        self.path(sequence).write_bytes(rfc8785.dumps(tree))

    def change(self, sequence: int, change: Callable[[Tree], object]) -> None:
        """Change a commit, and chain all that follow anew, as somebody who may write everything would."""
        tree = self.tree(sequence)
        change(tree)
        self.write(sequence, tree)
        for following in range(sequence + 1, self.head + 1):
            tree = self.tree(following)
            tree["previous"] = digest_of(self.path(following - 1).read_bytes())
            self.write(following, tree)

    def append(self, operation: str = "append", **members: Any) -> str:
        """Add a commit at the end; return its key."""
        head = self.head
        tree = {
            **self.tree(head),
            "sequence": head + 1,
            "previous": digest_of(self.path(head).read_bytes()),
            "operation": operation,
            "batch": f"{head:032x}",
            "attempt": layout.new_attempt(),
            "source": {},
            "inputs": [],
            "counts": Counts().to_json(),
            **{name: [] for name in ("added", "lists", "removed", "quarantined", "moved", "fenced")},
            **members,
        }
        self.write(head + 1, tree)
        return layout.commit(head + 1)

    def file(self, number: int = 0, *, dataset: str = "events", sequence: int = 1) -> DataFile:
        """One of the data files that a commit adds."""
        files = [DataFile.from_json(one) for one in self.tree(sequence)["added"] if one["dataset"] == dataset]
        return files[number]

    def quarantine(self, sequence: int = 1) -> str:
        return str(self.tree(sequence)["quarantined"][0]["key"])

    def list(self, sequence: int = 3) -> str:
        return str(self.tree(sequence)["lists"][0]["key"])

    def replace_file(self, file: DataFile, table: pa.Table, **recorded: Any) -> None:
        """Put other rows into a data file; digests and size are recorded anew in the ledger."""
        content = Encoding().encode(table, file.partition.dataset)
        (self.root / file.key).write_bytes(content)
        recorded.setdefault("bodies", bodies_digest(table["body"], "parquet"))
        new = replace(file, digest=digest_of(content), bytes=len(content), **recorded)

        def swap(tree: Tree) -> None:
            tree["added"] = [new.to_json() if one["key"] == file.key else one for one in tree["added"]]

        self.change(1, swap)

    def rows(self, file: DataFile) -> pa.Table:
        return pq.read_table(io.BytesIO((self.root / file.key).read_bytes()), partitioning=None)


def check(root: Path, **options: Any) -> VerifyReport:
    return verify(LocalStore(root), **options)


def found(report: VerifyReport) -> set[tuple[str, str]]:
    return {(damage.word, damage.object) for damage in report.damages}


def flip(path: Path, at: int = -30) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
