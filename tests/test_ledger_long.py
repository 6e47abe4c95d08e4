"""A long ledger, generated: what is read of it. Objects and bytes are counted, not seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archiver import layout
from archiver.archive import AsOf, open_archive
from archiver.ledger.entry import DataFile
from archiver.ledger.ledger import Ledger
from archiver.query.session import open_session
from archiver.status import status
from archiver.store.base import ObjectInfo
from archiver.store.local import LocalStore
from tests.bench.bench_ledger import ROWS_A_FILE, LongLedger
from tests.support import archive_bodies, event

PLAN = LongLedger(commits=2_000, files=10, workspaces=50, days=100, real=(7, 50))
LIVE = (PLAN.commits - 1) * PLAN.files
IN_ONE_PARTITION = PLAN.commits * PLAN.files // (PLAN.workspaces * PLAN.days)


class CountingStore(LocalStore):
    """A local store that counts what is read of it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read: Counter[str] = Counter()
        self.bytes = 0
        self.listed: list[str] = []

    def get(self, key: str, **rest: Any) -> bytes:
        self.read[key] += 1
        content = super().get(key, **rest)
        self.bytes += len(content)
        return content

    def list(self, prefix: str = "", **rest: Any) -> Iterator[ObjectInfo]:
        self.listed.append(prefix)
        return super().list(prefix, **rest)

    def commits_read(self) -> int:
        return sum(layout.sequence_of(key) is not None for key in self.read)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long") / "archive"
    PLAN.generate(folder)
    return folder


@pytest.fixture
def store(folder: Path) -> CountingStore:
    return CountingStore(folder)


def _in_partition(files: list[DataFile]) -> int:
    return sum(file.partition.dt == "2024-02-20" for file in files)


def test_opening_reads_the_manifest_and_looks_for_two_commits(store: CountingStore) -> None:
    ledger = Ledger.open(store)
    assert ledger.snapshot.sequence == PLAN.commits - 1
    assert len(ledger.snapshot.files) == LIVE
    assert sum(store.read.values()) <= 4  # manifest, its commit, and that two further ones are not there
    assert store.listed == [layout.CHECKPOINTS]
    assert store.bytes < 20_000


def test_a_pruned_query_reads_little_and_touches_the_files_it_needs(store: CountingStore) -> None:
    with open_session(open_archive(store)).sql(PLAN.question()) as answer:
        assert answer.arrow().num_rows == IN_ONE_PARTITION * ROWS_A_FILE
    assert store.commits_read() <= 3
    assert store.bytes < 400_000  # the checkpoint has 1.4 MB, the commits 11 MB
    assert sum(store.read.values()) <= 30


def test_files_are_selected_without_making_the_others(store: CountingStore) -> None:
    files = open_archive(store).ledger.snapshot.files
    found = files.select("events", workspaces=["ws_0007"], digests=False)
    assert len(found) == LIVE // PLAN.workspaces
    assert _in_partition(found) == IN_ONE_PARTITION
    assert store.bytes < 400_000


def test_a_refresh_that_finds_nothing_is_one_request(store: CountingStore) -> None:
    ledger = Ledger.open(store)
    store.read.clear()
    store.listed.clear()
    ledger.refresh()
    assert sum(store.read.values()) == 1
    assert store.listed == []


def test_a_writer_learns_of_all_batches_from_the_checkpoint(store: CountingStore) -> None:
    ledger = Ledger.open(store)
    batch = PLAN.commit(1_234, "")[0].content.batch
    assert ledger.snapshot.batches[batch] == 1_234
    assert "f" * 32 not in ledger.snapshot.batches
    assert store.commits_read() <= 3
    assert store.bytes < 100_000  # sixteen bytes for each


def test_status_and_the_commits_are_told_from_columns(store: CountingStore) -> None:
    archive = open_archive(store)
    told = status(archive)
    assert told.datasets["events"].files == LIVE
    assert len(told.workspaces["events"]) == PLAN.workspaces
    assert told.last_append is not None
    assert told.last_append["commit"] == PLAN.commits - 1
    with open_session(archive).sql("SELECT count(*) AS n, sum(files) AS files FROM commits") as answer:
        assert answer.arrow().to_pylist() == [{"n": PLAN.commits, "files": LIVE}]
    assert store.commits_read() <= 5


def test_an_early_snapshot_is_told_from_the_newest_checkpoint(store: CountingStore) -> None:
    archive = open_archive(store, as_of=AsOf(sequence=1_000))
    assert len(archive.ledger.snapshot.files) == 1_000 * PLAN.files
    assert _in_partition(archive.ledger.snapshot.files.select(workspaces=["ws_0007"])) <= 1
    assert archive.ledger.snapshot.totals.read == 1_000 * PLAN.files * ROWS_A_FILE
    assert store.commits_read() <= 4


def test_galloping_reads_each_commit_once(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    LongLedger(commits=200, files=1).generate(folder, checkpoint=False)
    store = CountingStore(folder)
    assert Ledger.open(store).snapshot.sequence == 199
    assert store.listed == [layout.CHECKPOINTS]
    assert all(store.read[layout.commit(number)] == 1 for number in range(200))
    assert sum(store.read.values()) < 200 + 64 + 2


def test_a_run_on_a_long_ledger_reads_few_commits(folder: Path, tmp_path: Path) -> None:
    import shutil  # noqa: PLC0415

    copy = tmp_path / "archive"
    shutil.copytree(folder / "_ledger" / "checkpoints", copy / "_ledger" / "checkpoints")
    shutil.copy(folder / layout.commit(PLAN.commits - 1), copy / layout.commit(PLAN.commits - 1))
    store = CountingStore(copy)
    archive = open_archive(store)
    report = archive_bodies(archive, event("new", workspace="elsewhere"))
    assert report.commits == [PLAN.commits]
    assert store.commits_read() <= 4
