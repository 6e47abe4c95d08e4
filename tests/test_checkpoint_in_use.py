"""Checkpoints in use: runs write them, readers go on from them, and collect clears them away."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from archiver import layout, maintain
from archiver.archive import Archive, AsOf, open_archive
from archiver.cli.checkpoint import checkpoint_command
from archiver.collect import collect
from archiver.errors import StoreError
from archiver.ledger import checkpoint
from archiver.ledger import commit as protocol
from archiver.ledger.entry import Content
from archiver.ledger.ledger import Ledger
from archiver.query.session import open_session
from archiver.verify import verify
from tests.checkpoints import _parts, _small_row_groups
from tests.support import archive_bodies, event, ids_of, new_archive

__all__ = ["_small_row_groups"]  # fixtures: pytest finds them here by name

OLD = timedelta(0)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    monkeypatch.setattr(maintain, "CHECKPOINT_COMMITS", 3)
    archive = new_archive(tmp_path / "archive")
    for name in "abcde":
        archive_bodies(archive, event(name, workspace=f"ws_{name}"), b"rubbish")
        maintain.after_commits(archive)
    return archive


def test_a_checkpoint_is_written_when_enough_commits_lie_behind_the_last(archive: Archive) -> None:
    found = [layout.checkpoint_of(key) for key in checkpoint.manifests(archive.store)]
    assert [one and one[0] for one in found] == [5, 2]


def test_writers_and_readers_go_on_from_a_checkpoint(archive: Archive) -> None:
    fresh = open_archive(archive.store)
    assert fresh.ledger.checkpoint == 5
    report = archive_bodies(fresh, event("a", workspace="ws_a"), event("f"))
    assert (report.counts.duplicates, report.counts.archived) == (1, 1)
    assert ids_of(fresh) == list("abcdef")
    with open_session(open_archive(archive.store)).sql("SELECT id FROM events ORDER BY id") as answer:
        assert answer.arrow()["id"].to_pylist() == list("abcdef")
    assert not verify(archive.store).damages


def test_a_batch_in_the_checkpoint_is_only_acknowledged(archive: Archive) -> None:
    fresh = open_archive(archive.store)
    batch = archive.ledger.read(2).content.batch
    assert fresh.ledger.snapshot.batches[batch] == 2


def test_the_view_commits_says_the_same_with_and_without_a_checkpoint(archive: Archive) -> None:
    def told() -> list[dict[str, Any]]:
        with open_session(open_archive(archive.store)).sql("FROM commits ORDER BY sequence") as answer:
            return answer.arrow().to_pylist()

    with_checkpoint = told()
    assert [row["sequence"] for row in with_checkpoint] == list(range(6))
    archive.store.delete([info.key for info in archive.store.list(layout.CHECKPOINTS)])
    assert told() == with_checkpoint


def test_the_past_can_be_asked_for_from_a_later_checkpoint(archive: Archive) -> None:
    then = open_archive(archive.store, as_of=AsOf(sequence=3))
    assert ids_of(then) == list("abc")
    assert len(then.ledger.snapshot.quarantine) == 3
    assert then.ledger.snapshot.totals.read == 6
    with open_session(then).sql("SELECT count(*) AS n FROM quarantine") as answer:
        assert answer.arrow()["n"].to_pylist() == [3]


def test_a_checkpoint_that_cannot_be_written_is_a_line_in_the_log(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: Ledger, **_: Any) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(Ledger, "write_checkpoint", refuse)
    monkeypatch.setattr(maintain, "CHECKPOINT_COMMITS", 0)
    with caplog.at_level(logging.WARNING):
        maintain.after_commits(archive)
    assert "the disk is full" in caplog.text


@pytest.fixture
def _own_logging() -> Iterator[None]:
    """A command sends log records elsewhere; the tests behind it want to see them."""
    logger = logging.getLogger("archiver")
    before = (logger.handlers, logger.propagate, logger.level)
    yield
    logger.handlers, logger.propagate = before[:2]
    logger.setLevel(before[2])


@pytest.mark.usefixtures("_own_logging")
def test_the_command_says_what_it_folded(archive: Archive, tmp_path: Path) -> None:
    place = ["--archive", str(tmp_path / "archive")]
    archive_bodies(archive, event("z"))
    told = CliRunner().invoke(checkpoint_command, [*place, "--json"])
    assert json.loads(told.output)["sequence"] == 6
    told = CliRunner().invoke(checkpoint_command, place)
    assert "checkpoint of commit 6: it was there already, 6 live files" in told.output
    told = CliRunner().invoke(checkpoint_command, [*place, "--rebuild"])
    assert "7 commits folded" in told.output


def test_collect_leaves_the_newest_two_checkpoints(archive: Archive) -> None:
    for _ in range(2):
        open_archive(archive.store).ledger.write_checkpoint(rebuild=True)
    manifests = list(checkpoint.manifests(archive.store))
    report = collect(archive, grace=OLD, keep_snapshots=timedelta(days=7), force=True)
    assert report.deleted == []
    assert report.caches > 0
    left = list(checkpoint.manifests(archive.store))
    assert left == manifests[:2]
    named = {
        one.key
        for key in left
        for part in checkpoint.Manifest.decode(archive.store.get(key), key).parts
        for one in part.objects()
    }
    assert set(_parts(archive.store)) == named
    assert ids_of(open_archive(archive.store)) == list("abcde")


def test_collect_deletes_a_file_that_the_checkpoint_has_forgotten(archive: Archive) -> None:
    """As after a crash between the commit that let go of it and its deletion."""
    gone = archive.ledger.snapshot.files.select(workspaces=["ws_a"])[0].key
    head = archive.ledger.refresh().sequence
    content = Content("expire", secrets.token_hex(16), layout.new_attempt(), removed=(gone,))
    assert isinstance(protocol.commit(archive.ledger, content, seen=head), protocol.Committed)
    for _ in range(5):  # enough for the parts to be merged
        fence = Content("fence", secrets.token_hex(16), layout.new_attempt())
        protocol.commit(archive.ledger, fence, seen=head, oldest_readable=head + 1)
    open_archive(archive.store).ledger.write_checkpoint()
    fresh = open_archive(archive.store)
    assert gone not in fresh.ledger.snapshot.files.superseded()
    report = collect(fresh, grace=OLD, force=True)
    assert (report.deleted, report.unexplained) == ([gone], [])
    assert not verify(archive.store).damages


def test_young_objects_of_checkpoints_are_left_alone(archive: Archive) -> None:
    before = [info.key for info in archive.store.list(layout.CHECKPOINTS)]
    open_archive(archive.store).ledger.write_checkpoint(rebuild=True)
    open_archive(archive.store).ledger.write_checkpoint(rebuild=True)
    collect(archive)
    assert set(before) <= {info.key for info in archive.store.list(layout.CHECKPOINTS)}
