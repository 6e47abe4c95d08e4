"""Where an event came from: every place that has its id."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from archiver import layout
from archiver.archive import Archive, AsOf, open_archive
from archiver.cli.explain import explain_command
from archiver.compact import compact
from archiver.errors import ObjectNotFoundError
from archiver.explain import explain
from archiver.index import manifest
from tests.calling import Archiver, archiver
from tests.sqlite_rows import URL, new_app, url_of
from tests.support import alert, archive_bodies, event, new_archive

__all__ = ["archiver"]  # a fixture: pytest finds it here by name


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


def _in_every_state(tmp_path: Path) -> Archive:
    """An archive with an id in every place: indexed, compacted, not indexed yet, of other datasets."""
    archive = new_archive(tmp_path / "a")
    archive_bodies(archive, event("a"), event("b"), alert("a"), event("a", workspace="b/c=d"))
    archive_bodies(archive, event("a", ip_country="DE"), event("a", timestamp="2024-01-01T00:00:00.000000Z"))
    for number in range(4):
        archive_bodies(archive, event(f"x{number}"))
    compact(archive)
    assert archive.ledger.snapshot.sequence == 7
    archive.identities.update()
    archive_bodies(archive, event("a", timestamp="0001-01-01T00:00:00.000000Z"), event("c"))
    archive_bodies(archive, event("a", action="other"))
    return archive


@pytest.fixture(scope="module")
def in_every_state(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return _in_every_state(tmp_path_factory.mktemp("states"))


@pytest.mark.parametrize("workspace", [None, "ws_1", "b/c=d", "nobody"])
@pytest.mark.parametrize("event_id", ["a", "b", "c", "nobody", "\ud800"])
def test_the_index_leads_to_the_places_that_a_scan_finds(
    in_every_state: Archive, event_id: str, workspace: str | None
) -> None:
    for as_of in (None, AsOf(sequence=1), AsOf(sequence=6), AsOf(sequence=7), AsOf(sequence=8)):
        archive = open_archive(in_every_state.store, as_of=as_of)
        scanned = explain(archive, event_id, workspace=workspace, scan=True)
        assert explain(archive, event_id, workspace=workspace) == scanned
        if (event_id, workspace) == ("a", None):
            assert len(scanned) == {None: 7, 1: 3, 6: 5, 7: 5, 8: 6}[as_of and as_of.sequence]


def test_without_a_scan_a_file_that_cannot_hold_the_id_is_not_opened(tmp_path: Path) -> None:
    archive = new_archive(tmp_path / "a")
    archive_bodies(archive, event("a"))
    archive_bodies(archive, event("b"))
    archive.identities.update()
    (other,) = archive.ledger.snapshot.files.keys() - {explain(archive, "a")[0].object}
    archive.store.delete([other])
    archive = open_archive(archive.store)
    assert [place.commit for place in explain(archive, "a")] == [1]
    with pytest.raises(ObjectNotFoundError):
        explain(archive, "a", scan=True)


@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_of_a_month_whose_index_is_damaged_every_file_is_read(tmp_path: Path, damage: str) -> None:
    archive = _in_every_state(tmp_path)
    expected = explain(archive, "a", scan=True)
    for info in list(archive.store.list(layout.INDEX_RUNS)):
        if damage == "missing":
            archive.store.delete([info.key])
        else:
            archive.store.put(info.key, bytes(info.bytes), mode="overwrite")
    assert explain(open_archive(archive.store), "a") == expected


def test_the_command_scans_when_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that tells of no file hides the event from a look-up and from no scan."""
    archive = new_archive(tmp_path / "a")
    archive_bodies(archive, event("a"))
    head = archive.ledger.snapshot
    manifest.put(archive.store, head.sequence, head.digest, ())
    ask = ["a", "--archive", str(tmp_path / "a")]
    assert CliRunner().invoke(explain_command, ask).exit_code != 0
    assert event("a").decode() in CliRunner().invoke(explain_command, [*ask, "--scan"]).output
    monkeypatch.setenv("ARCHIVER_SCAN", "1")
    assert event("a").decode() in CliRunner().invoke(explain_command, ask).output


@pytest.mark.parametrize("data_format", ["jsonl.gz", "jsonl.zst"])
def test_what_json_lines_do_not_keep_is_not_invented(tmp_path: Path, data_format: str) -> None:
    archive = new_archive(tmp_path / "a", format=data_format)
    archive_bodies(archive, event("x"), event("a"))
    (place,) = explain(archive, "a")
    assert (place.input, place.ordinal, place.received_at) == (None, None, None)
    assert (place.source, place.commit, place.row) == ("spool", 1, 1)


def test_a_row_is_told_with_the_stretch_of_its_table_that_its_commit_read(
    tmp_path: Path, archiver: Archiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app(tmp_path)
    monkeypatch.setenv(URL, url_of(app.path))
    settings = tmp_path / "archiver.toml"
    settings.write_text(
        f'[archive]\nlocation = "{tmp_path / "archive"}"\n'
        f'[sources.app]\ntype = "database"\nurl_env = "{URL}"\ntable = "events"\n'
    )
    for name in "ab":
        app.insert_row(id=name)
        assert archiver("run", "-c", settings).code == 0
    said = {name: archiver("explain", name, "-c", settings).out for name in "ab"}
    assert "  read       events, from the first row, up to 1 (rowid)\n" in said["a"]
    assert "  read       events, behind 1, up to 2 (rowid)\n" in said["b"]
