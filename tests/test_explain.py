"""Where an event came from: every place that has its id."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from archiver.cli.explain import explain_command
from archiver.compact import compact
from archiver.explain import explain
from tests.support import archive_bodies, event, new_archive


def test_twins_supplements_and_conflicts_are_told_with_their_commits(tmp_path: Path) -> None:
    archive = new_archive(tmp_path / "a")
    archive_bodies(archive, event("x"), event("a"))
    archive_bodies(archive, event("a", ip_country="DE"))
    archive_bodies(archive, event("a", action="other"))
    archive_bodies(archive, event("a", workspace="ws_2"))
    places = explain(archive, "a")
    assert sorted((place.what, place.commit, place.workspace) for place in places) == [
        ("archived", 1, "ws_1"),
        ("archived", 4, "ws_2"),
        ("quarantined", 3, "ws_1"),
        ("supplement", 2, "ws_1"),
    ]
    first = next(place for place in places if place.commit == 1)
    assert (first.input, first.ordinal, first.body) == ("memory", 1, event("a").decode())
    assert archive.ledger.snapshot.files[first.object].rows == 2
    conflict = next(place for place in places if place.what == "quarantined")
    assert (conflict.reason, conflict.object) == ("conflict", "3:0")
    assert "action" in str(conflict.detail)
    assert [place.commit for place in explain(archive, "a", workspace="ws_2")] == [4]
    assert explain(archive, "nobody") == []


def test_a_compacted_row_is_told_with_the_commit_that_first_archived_it(tmp_path: Path) -> None:
    archive = new_archive(tmp_path / "a")
    for number in range(4):
        archive_bodies(archive, event(f"x{number}"), event(f"a{number}"))
    before = explain(archive, "a2")[0]
    compact(archive)
    (place,) = explain(archive, "a2")
    changed = {name for name in place.to_json() if getattr(place, name) != getattr(before, name)}
    assert changed == {"object", "row", "compacted_by"}
    assert (place.commit, place.input, place.ordinal) == (3, "memory", 1)
    assert place.compacted_by == archive.ledger.snapshot.sequence
    assert place.object in archive.ledger.snapshot.files


def test_the_command_shows_both_versions_of_a_conflict(tmp_path: Path) -> None:
    archive = new_archive(tmp_path / "a")
    archive_bodies(archive, event("a", action="first"))
    archive_bodies(archive, event("a", action="second"))
    told = CliRunner().invoke(explain_command, ["a", "--archive", str(tmp_path / "a")]).output
    assert event("a", action="first").decode() in told
    assert event("a", action="second").decode() in told
    assert "quarantined (conflict: contradicts the event in events/workspace=ws_1/" in told


@pytest.mark.parametrize("data_format", ["jsonl.gz", "jsonl.zst"])
def test_what_json_lines_do_not_keep_is_not_invented(tmp_path: Path, data_format: str) -> None:
    archive = new_archive(tmp_path / "a", format=data_format)
    archive_bodies(archive, event("x"), event("a"))
    (place,) = explain(archive, "a")
    assert (place.input, place.ordinal, place.received_at) == (None, None, None)
    assert (place.source, place.commit, place.row) == ("spool", 1, 1)
