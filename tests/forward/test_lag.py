"""How far behind a destination is told to be: exactly, or as `at least`; live and by the ledger."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from archiver import clock
from archiver.archive import Archive
from archiver.config import Settings
from archiver.errors import ConfigError, SourceError
from archiver.forward import lag as counting
from archiver.forward.base import Lag, Limits
from archiver.forward.commits import Commits
from archiver.forward.cursor import CursorFile, InArchive, InSpool
from archiver.forward.folders import folder_of
from archiver.forward.lag import lag_of
from archiver.forward.standing import standing_of
from archiver.forward.wanted import Wanted
from archiver.runs import run_sources
from tests.forward.place import LATER_US, LIVE, OF_ARCHIVE, archive, settings, spool, state
from tests.forward.spooling import bodies, reader, seal

__all__ = ["archive", "settings", "spool", "state"]  # fixtures: pytest finds them here by name


def take(spool: Path, state: Path, count: int) -> None:
    """Take so many events, as the live reader does."""
    live = reader(spool, state)
    for portion in live.read():
        for one in portion.events:
            if count == 0:
                return
            count -= 1
            is_end = one is portion.events[-1]
            live.acknowledge(portion, portion.end if is_end else one.place)


# --- lag, live ---------------------------------------------------------------------------------------


def test_lag_is_what_waits_behind_the_cursor_and_the_age_of_the_oldest_of_it(
    settings: Settings, spool: Path, state: Path
) -> None:
    assert lag_of(settings, LIVE, None, LATER_US) == Lag()
    seal(spool, bodies(0, 9))
    size = sum(one.stat().st_size for one in folder_of(spool, "siem").iterdir())
    assert lag_of(settings, LIVE, None, LATER_US) == Lag(9, 90.0, True, size)
    take(spool, state, 6)
    found = lag_of(settings, LIVE, None, LATER_US)
    assert (found.events, found.seconds, found.is_complete) == (3, 89.999994, True)
    seal(spool, bodies(9, 5))
    assert lag_of(settings, LIVE, None, LATER_US).events == 8
    take(spool, state, 20)
    assert lag_of(settings, LIVE, None, LATER_US) == Lag()


def test_a_segment_that_is_taken_and_whose_link_stayed_is_no_lag(
    settings: Settings, spool: Path, state: Path
) -> None:
    done = seal(spool, bodies(0, 3))
    cursor = CursorFile(state)
    cursor.cursor.spools[str(folder_of(spool, "siem"))] = InSpool(finished=[done])
    cursor.write()
    assert lag_of(settings, LIVE, None, LATER_US) == Lag(stuck=1)


def test_a_cursor_holds_however_the_spool_is_named(
    settings: Settings, spool: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(spool, bodies(0, 4))
    take(spool, state, 3)
    monkeypatch.chdir(spool.parent)
    named = replace(settings, spools=(f"./{spool.name}",), forward_state=str(settings.forward_folder))
    assert lag_of(named, LIVE, None, LATER_US).events == 1


def test_counting_ends_in_time_and_says_that_there_is_more(
    settings: Settings, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        seal(spool, bodies(4 * number, 4))
    monkeypatch.setattr(counting, "MOST_SECONDS", -1.0)
    monkeypatch.setattr(counting, "_LOOK_EVERY", 2)
    found = lag_of(settings, LIVE, None, LATER_US)
    assert (found.events, found.seconds, found.is_complete) == (3, 90.0, False)
    assert found.bytes == sum(one.stat().st_size for one in folder_of(spool, "siem").iterdir())


def test_large_bodies_small_ones_and_what_is_torn_are_counted_by_their_heads(
    settings: Settings, spool: Path
) -> None:
    name = seal(spool, [b"x" * 200_000, b"y", b"z" * 70_000, b"", b"w" * 65_536, b"v"])
    with (folder_of(spool, "siem") / name).open("ab") as file:
        file.write(b"\0" * 4096)
    assert lag_of(settings, LIVE, None, LATER_US).events == 6


def test_what_is_no_segment_still_has_an_age_and_ends_nothing(settings: Settings, spool: Path) -> None:
    folder = folder_of(spool, "siem")
    begun_us = LATER_US - 7_000_000
    (folder / f"{begun_us * 1000:016x}-{1:016x}.seg").write_bytes(b"no segment")
    (folder / "notes.txt").write_bytes(b"not ours")
    (folder / f"{1:016x}-{1:016x}.seg").symlink_to("/etc/passwd")
    found = lag_of(settings, LIVE, None, LATER_US)
    assert (found.events, found.seconds, found.bytes) == (1, 7.0, 10)


def test_a_folder_that_is_not_there_yet_is_no_lag_and_a_cursor_that_is_none_is_told(
    settings: Settings, spool: Path, state: Path
) -> None:
    folder_of(spool, "siem").rmdir()
    assert lag_of(settings, LIVE, None, LATER_US) == Lag()
    (state / "cursor.json").write_text("{}")
    with pytest.raises(SourceError, match="is no cursor"):
        lag_of(settings, LIVE, None, LATER_US)
    found = standing_of(settings, LIVE, None, LATER_US)
    assert found.lag is None
    assert found.has_begun
    assert len(found.problems) == 1


# --- lag, by the ledger ------------------------------------------------------------------------------


def test_lag_of_the_ledger_is_what_was_archived_from_the_cursor_on(
    settings: Settings, state: Path, archive: Archive
) -> None:
    now = clock.now_us() + 60_000_000
    assert lag_of(settings, OF_ARCHIVE, archive, now) == Lag(), "it begins at the head"
    cursor = CursorFile(state)
    cursor.cursor.archive = InArchive(1)
    cursor.write()
    left = [7]
    commits = Commits(archive, cursor, Limits(3, 1 << 20, 1 << 20), Wanted())
    for portion in commits.read():
        for one in portion.events:
            commits.acknowledge(portion, one.place)
            left.append(lag_of(settings, OF_ARCHIVE, archive, now).events)
        if portion.is_last:
            commits.acknowledge(portion, portion.end)
    assert left == [7, 6, 5, 4, 3, 2, 1, 0]
    assert lag_of(settings, OF_ARCHIVE, archive, now) == Lag()


def test_the_age_of_the_ledgers_lag_is_that_of_the_first_commit_that_archived_something(
    settings: Settings, state: Path, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursor = CursorFile(state)
    cursor.cursor.archive = InArchive(0)
    cursor.write()
    first = archive.ledger.read(1).committed_us
    found = lag_of(settings, OF_ARCHIVE, archive, first + 5_000_000)
    assert found == Lag(7, 5.0, True, 0)
    monkeypatch.setattr(counting, "MOST_COMMITS", 1)
    found = lag_of(settings, OF_ARCHIVE, archive, first + 5_000_000)
    assert (found.events, found.is_complete) == (4, False)


def test_a_destination_that_overflowed_has_the_ledgers_lag_and_what_no_commit_lists(
    settings: Settings, spool: Path, state: Path, archive: Archive
) -> None:
    cursor = CursorFile(state)
    cursor.cursor.archive = InArchive(2)
    cursor.write()
    seal(spool, bodies(0, 5))
    found = lag_of(settings, LIVE, archive, clock.now_us())
    assert (found.events, found.is_complete) == (3 + 5, True)
    assert found.bytes > 0
    run_sources(archive.store, replace(settings, settle_seconds=0, workers=0))
    archive.ledger.refresh()
    assert len(list(folder_of(spool, "siem").iterdir())) == 1, "the link is there until its commit is taken"
    assert lag_of(settings, LIVE, archive, clock.now_us()).events == 3 + 5
    with pytest.raises(ConfigError, match="none is open"):
        lag_of(settings, LIVE, None, LATER_US)
