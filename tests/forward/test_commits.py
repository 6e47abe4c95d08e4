"""Reading the ledger on: each archived event once, in a fixed order, wherever its rows lie by now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from archiver import layout
from archiver.archive import Archive, open_archive
from archiver.errors import IntegrityError, SourceError
from archiver.forward.commits import Commits, begin_at_head
from archiver.forward.cursor import CursorFile, InArchive
from archiver.forward.wanted import Wanted
from archiver.ledger.entry import Content
from archiver.pipeline import run
from archiver.requeue import requeue
from archiver.store.local import LocalStore
from archiver.validate import Rules
from tests.forward.reading import (
    ALL,
    LIMITS,
    compact_and_collect,
    cursor_at,
    ids,
    portions_of,
    reader_at,
    taken,
    until_none_is_left,
)
from tests.support import (
    MemoryBatch,
    MemorySource,
    alert,
    archive_bodies,
    archive_rows,
    event,
    new_archive,
    row,
)

FORMATS = pytest.mark.parametrize("form", ["parquet", "jsonl.gz"])


def at(minute: int) -> str:
    return f"2026-03-26T{minute // 60:02d}:{minute % 60:02d}:00.000000Z"


def fill(archive: Archive, commits: int = 6, rows: int = 7) -> list[list[str]]:
    """Archive commits of one partition whose times overlap; return their ids as they must come."""
    expected = []
    for number in range(commits):
        minutes = {f"{number}-{one}": (number * 5 + one * 13) % 61 for one in range(rows)}
        archive_bodies(archive, *(event(name, timestamp=at(minute)) for name, minute in minutes.items()))
        expected.append(sorted(minutes, key=lambda name: (minutes[name], name)))
    return expected


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return new_archive(tmp_path / "a")


@FORMATS
def test_events_come_by_commit_and_in_it_by_day_workspace_and_time(tmp_path: Path, form: str) -> None:
    archive = new_archive(tmp_path / "a", format=form)
    archive_bodies(
        archive,
        event("late", workspace="w1", timestamp="2026-03-27T00:00:00.000000Z"),
        event("z", workspace="w2", timestamp=at(3)),
        event("b", workspace="w1", timestamp=at(9)),
        event("a", workspace="w1", timestamp=at(8)),
        alert("warning", workspace="w1"),
    )
    archive_bodies(archive, event("next", timestamp=at(1)))
    found = taken(reader_at(archive, tmp_path / "c"))
    assert ids(found) == ["warning", "a", "b", "z", "late", "next"]
    first = next(one for one in found if one.id == "a")
    assert (first.body, first.workspace, first.action) == (
        event("a", workspace="w1", timestamp=at(8)),
        "w1",
        "document.created",
    )
    assert first.received_us > 1_700_000_000_000_000
    assert found[0].event_type == "alert.triggered"


def test_rows_of_databases_come_and_what_is_no_new_event_does_not(tmp_path: Path, archive: Archive) -> None:
    archive_rows(archive, row("r"))
    archive_bodies(archive, event("e"), event("e"), b"rubbish")
    archive_rows(archive, row("e", created_at="2026-03-26T10:15:00.000000Z", session_id="s"))  # a supplement
    assert ids(taken(reader_at(archive, tmp_path / "c"))) == ["r", "e"]


@FORMATS
def test_a_reader_killed_after_any_number_of_events_neither_loses_nor_repeats_one(
    tmp_path: Path, form: str
) -> None:
    archive = new_archive(tmp_path / "a", format=form)
    expected = [name for commit in fill(archive, 3) for name in commit]
    for most in (1, 2, 5):
        folder = tmp_path / str(most)
        found = until_none_is_left(lambda folder=folder: reader_at(archive, folder), most)
        assert found == expected
        assert CursorFile(folder).cursor.archive == InArchive(4)


def test_what_a_destination_does_not_want_is_counted_and_passed_over(
    tmp_path: Path, archive: Archive
) -> None:
    archive_bodies(
        archive,
        *(event(f"{n}", action="auth.login" if n % 2 else "doc.read", timestamp=at(n)) for n in range(9)),
        alert("warning"),
    )
    found = portions_of(reader_at(archive, tmp_path / "c", Wanted(actions=("auth.*",))))
    assert [one.id for portion in found for one in portion.events] == ["1", "3", "5", "7"]
    assert sum(portion.filtered for portion in found) == 6


def test_commits_without_events_move_the_cursor(tmp_path: Path, archive: Archive) -> None:
    archive_bodies(archive, b"rubbish")
    assert taken(reader_at(archive, tmp_path / "c")) == []
    assert CursorFile(tmp_path / "c").cursor.archive == InArchive(2)
    archive_bodies(archive, event("e"))
    assert ids(taken(reader_at(archive, tmp_path / "c"))) == ["e"]


def test_what_was_moved_out_of_quarantine_comes_with_its_commit(tmp_path: Path, archive: Archive) -> None:
    strict = Rules(source="spool", schemas={"events": '{"properties":{"data":{"required":["session_id"]}}}'})
    run(
        archive,
        MemorySource([MemoryBatch([event("a"), event("b", session_id="s")])]),
        rules=strict,
        workers=0,
    )
    requeue(archive, lambda source: Rules(source=source), lambda _: True)
    assert ids(taken(reader_at(archive, tmp_path / "c"))) == ["b", "a"]


def test_a_reader_finds_what_another_process_archived(tmp_path: Path, archive: Archive) -> None:
    reader = reader_at(archive, tmp_path / "c")
    archive_bodies(open_archive(LocalStore(tmp_path / "a")), event("e"))
    assert ids(taken(reader)) == ["e"]


def test_a_new_destination_begins_behind_the_head(tmp_path: Path, archive: Archive) -> None:
    archive_bodies(archive, event("old"))
    (tmp_path / "c").mkdir()
    begin_at_head(archive, CursorFile(tmp_path / "c"))
    archive_bodies(archive, event("new"))
    assert ids(taken(reader_at(archive, tmp_path / "c"))) == ["new"]


def test_an_older_copy_of_the_archive_is_told(tmp_path: Path, archive: Archive) -> None:
    with pytest.raises(SourceError, match="newest commit is 0, and the cursor stands at 7"):
        taken(Commits(archive, cursor_at(tmp_path / "c", 7), LIMITS, ALL))


def test_files_that_a_commit_only_lists_are_read(
    tmp_path: Path, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archiver.attempt.LONGEST_INLINE_LIST", 2)
    archive_bodies(archive, *(event(f"{n}", workspace=f"w{n}") for n in range(7)))
    assert archive.ledger.read(1).content.lists
    again = open_archive(LocalStore(tmp_path / "a"))
    assert ids(taken(reader_at(again, tmp_path / "c"))) == [f"{n}" for n in range(7)]


def test_an_altered_file_is_not_forwarded(tmp_path: Path, archive: Archive) -> None:
    archive_bodies(archive, event("e"))
    (file,) = archive.ledger.snapshot.files.select("events")
    path = tmp_path / "a" / file.key
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"user_1", b"user_2"))
    with pytest.raises(IntegrityError, match="expected sha256"):
        taken(reader_at(archive, tmp_path / "c"))


def test_rows_of_files_that_were_merged_and_deleted_come_once_as_before(
    tmp_path: Path, archive: Archive
) -> None:
    expected = fill(archive)
    before = taken(reader_at(archive, tmp_path / "before"))
    compact_and_collect(archive)
    later = fill_more(archive)
    compact_and_collect(archive)  # what was merged is merged again
    reader = reader_at(archive, tmp_path / "c")
    found = taken(reader)
    assert found[: len(before)] == before
    assert ids(found) == [name for commit in [*expected, later] for name in commit]
    assert reader.notes == []
    for most in (1, 4):
        folder = tmp_path / str(most)
        assert until_none_is_left(lambda folder=folder: reader_at(archive, folder), most) == ids(found)


def fill_more(archive: Archive) -> list[str]:
    archive_bodies(archive, *(event(f"more-{n}", timestamp=at(n * 9)) for n in range(5)))
    return [f"more-{n}" for n in range(5)]


def test_a_reader_stopped_within_a_file_goes_on_in_the_one_that_took_it_over(
    tmp_path: Path, archive: Archive
) -> None:
    expected = [name for commit in fill(archive) for name in commit]
    found = ids(taken(reader_at(archive, tmp_path / "c"), 10))
    compact_and_collect(archive)
    assert found + ids(taken(reader_at(archive, tmp_path / "c"))) == expected


def test_a_file_that_goes_while_it_is_looked_for_is_found_again(
    tmp_path: Path, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [name for commit in fill(archive) for name in commit]
    compact_and_collect(archive)
    fill_more(archive)
    reader = reader_at(archive, tmp_path / "c")
    real = Commits._live_around

    def stale(self: Commits, file: Any) -> Any:
        found = real(self, file)
        monkeypatch.setattr(Commits, "_live_around", real)
        compact_and_collect(archive)
        return found

    monkeypatch.setattr(Commits, "_live_around", stale)
    assert ids(taken(reader)) == expected + [f"more-{n}" for n in range(5)]
    assert reader.notes == []


def test_of_merged_json_lines_each_event_comes_once_in_one_reading(tmp_path: Path) -> None:
    archive = new_archive(tmp_path / "a", format="jsonl.gz")
    expected = [name for commit in fill(archive) for name in commit]
    compact_and_collect(archive)
    later = fill_more(archive)
    reader = reader_at(archive, tmp_path / "c")
    found = ids(taken(reader))
    assert sorted(found) == sorted(expected + later)
    assert reader.notes == []
    broken = until_none_is_left(lambda: reader_at(archive, tmp_path / "d"), 30)
    assert set(broken) == {*expected, *later}


def test_events_that_expired_are_told_and_no_error(tmp_path: Path, archive: Archive) -> None:
    archive_bodies(archive, event("old"), event("older", timestamp=at(1)))
    archive_bodies(archive, event("new", timestamp="2026-03-28T00:00:00.000000Z"))
    _expire_first_file(archive)
    reader = reader_at(archive, tmp_path / "c")
    assert ids(taken(reader)) == ["new"]
    assert [note.split(" of ")[0] for note in reader.notes] == ["commit 1: 2 events"]


def _expire_first_file(archive: Archive) -> None:
    from archiver.ledger import commit as protocol  # noqa: PLC0415

    file = archive.ledger.refresh().files.select("events")[0]
    content = Content(operation="expire", batch="1" * 32, attempt=layout.new_attempt(), removed=(file.key,))
    protocol.commit(archive.ledger, content, seen=archive.ledger.snapshot.sequence)
    compact_and_collect(archive)
