"""`archiver upgrade`: nothing to do for version 1, refusal of what is newer, and room for steps to come."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from archiver import layout
from archiver.archive import Archive, open_archive
from archiver.cli.upgrade import upgrade_command
from archiver.errors import ArchiveNotFoundError, CommitConflictError, IntegrityError
from archiver.ledger import commit as protocol
from archiver.ledger.entry import FORMAT, Content
from archiver.ledger.snapshot import Snapshot
from archiver.progress import Progress
from archiver.store.local import LocalStore
from archiver.upgrade import STEPS, Step, upgrade
from archiver.verify import verify
from tests.golden.forge import Forge
from tests.support import archive_bodies, event, ids_of, new_archive


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    archive = new_archive(tmp_path / "archive")
    archive_bodies(archive, event("one"))
    return archive


def objects(archive: Archive) -> list[tuple[str, bytes]]:
    return [(info.key, archive.store.get(info.key)) for info in archive.store.list()]


def test_the_first_version_has_no_steps_and_nothing_to_do(archive: Archive) -> None:
    before = objects(archive)
    report = upgrade(archive.store)
    assert (report.found, report.newest, report.steps) == (1, FORMAT, [])
    assert STEPS == {}
    assert objects(archive) == before


def test_the_command_says_that_there_is_nothing_to_do(archive: Archive) -> None:
    place = archive.store.location
    done = CliRunner().invoke(upgrade_command, ["--archive", place])
    assert done.exit_code == 0
    assert done.stdout == "format 1; the newest that this program writes is 1\nnothing to do\n"
    told = CliRunner().invoke(upgrade_command, ["--archive", place, "--json", "--dry-run"])
    assert json.loads(told.stdout) == {
        "message_type": "upgrade_report",
        "dry_run": True,
        "found": 1,
        "newest": 1,
        "steps": [],
    }


def test_a_newer_format_is_refused_and_left_as_it_is(archive: Archive) -> None:
    Forge(Path(archive.store.location)).append("fence", format=2)
    before = objects(archive)
    with pytest.raises(IntegrityError, match="expected format 1, found 2") as raised:
        upgrade(archive.store)
    assert "newer version" in raised.value.hint
    assert raised.value.exit_code == 20
    assert objects(archive) == before


def test_an_empty_place_is_no_archive_to_upgrade(tmp_path: Path) -> None:
    with pytest.raises(ArchiveNotFoundError):
        upgrade(LocalStore(tmp_path / "nothing"))


ToCome = Callable[..., list[int]]
# A made-up version 2 is an archive with a fence against the attempt of all ones; a version 3, of all twos.
MARKS = {2: "1" * 28, 3: "2" * 28}


def version_of(snapshot: Snapshot) -> int:
    return max([1, *(version for version, mark in MARKS.items() if mark in snapshot.fenced)])


def step_to(version: int) -> Step:
    def step(archive: Archive, progress: Progress) -> None:
        progress.start("upgrading", None)
        content = Content("fence", f"{version:032x}", layout.new_attempt(), fenced=(MARKS[version],))
        protocol.commit(archive.ledger, content, seen=archive.ledger.snapshot.sequence)
        progress.finish()

    return step


STEPS_TO_COME = {1: step_to(2), 2: step_to(3)}


@pytest.fixture
def to_come(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> ToCome:
    """A program of a time when there are three versions."""

    def run(
        steps: Mapping[int, Step] = STEPS_TO_COME, newest: int = 3, *, dry_run: bool = False
    ) -> list[int]:
        monkeypatch.setattr("archiver.upgrade.STEPS", steps)
        monkeypatch.setattr("archiver.upgrade.NEWEST", newest)
        monkeypatch.setattr("archiver.upgrade.format_of", version_of)
        return upgrade(archive.store, dry_run=dry_run).steps

    return run


def test_every_step_from_the_archives_version_on_is_made_once_and_is_a_commit(
    archive: Archive, to_come: ToCome
) -> None:
    head = archive.ledger.refresh().sequence
    assert to_come() == [2, 3]
    assert to_come() == []
    after = open_archive(archive.store)
    assert after.ledger.snapshot.sequence == head + 2
    assert ids_of(after) == ["one"]
    assert verify(archive.store).is_intact


def test_a_dry_run_names_the_steps_and_makes_none(archive: Archive, to_come: ToCome) -> None:
    before = objects(archive)
    assert to_come(dry_run=True) == [2, 3]
    assert objects(archive) == before


def test_an_interrupted_upgrade_goes_on_where_it_stopped(archive: Archive, to_come: ToCome) -> None:
    def interrupted(_: Archive, __: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        to_come(STEPS_TO_COME | {2: interrupted})
    assert version_of(archive.ledger.refresh()) == 2
    assert to_come() == [3]


def test_a_step_that_does_not_arrive_is_not_taken_for_done(archive: Archive, to_come: ToCome) -> None:
    with pytest.raises(CommitConflictError, match="expected format 2 after its step, found 1"):
        to_come(STEPS_TO_COME | {1: lambda *_: None})
    assert version_of(archive.ledger.refresh()) == 1


def test_a_version_from_which_no_step_leads_is_refused_before_anything_is_done(
    archive: Archive, to_come: ToCome
) -> None:
    before = objects(archive)
    with pytest.raises(IntegrityError, match="a way leads to 3, found 1"):
        to_come({1: step_to(2)})
    assert objects(archive) == before


def test_an_archive_beyond_the_newest_version_is_refused(archive: Archive, to_come: ToCome) -> None:
    to_come()
    with pytest.raises(IntegrityError) as raised:
        to_come(newest=2)
    assert "newest version" in raised.value.hint
