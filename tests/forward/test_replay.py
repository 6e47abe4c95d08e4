"""Sending a time of the archive again: what it would be, once each, on from where it was stopped."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from archiver import clock
from archiver.archive import Archive
from archiver.config import Settings
from archiver.errors import SourceError
from archiver.forward import replay as replays
from archiver.forward.intakes import intake_of
from archiver.forward.outlet import locked
from archiver.forward.replay import Replay, Scope, begin, list_replays, plan
from archiver.forward.replaying import estimate, replay, scope_of, warnings_of
from archiver.forward.run import Forwarded
from archiver.forward.sending import Policy
from archiver.forward.settings import Destination
from archiver.secret import SecretPlace
from tests.forward.reading import LIMITS, compact_and_collect, ids, taken, until_none_is_left
from tests.services.hook import HookStandIn
from tests.services.standin import Fault
from tests.support import alert, archive_bodies, event, new_archive

QUICK = Policy(first_wait=0.001, longest_wait=0.002, give_up_after=0.01)
EVERYTHING = Scope()


def at(day: int, minute: int = 0) -> str:
    return f"2026-03-{day:02d}T10:{minute:02d}:00.000000Z"


def us(day: int, minute: int = 0) -> int:
    return clock.from_text(at(day, minute))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Three days of two workspaces, in commits that lie across the days; ids are day, minute, workspace."""
    archive = new_archive(tmp_path / "a")
    for half in (0, 1):
        archive_bodies(
            archive,
            *(
                event(
                    f"{day}-{minute}-{workspace}",
                    workspace=workspace,
                    timestamp=at(day, minute),
                    action="auth.login" if minute % 4 else "doc.read",
                )
                for day in (1, 2, 3)
                for minute in range(half, 8, 2)
                for workspace in ("w1", "w2")
            ),
            alert(f"alert-{half}", workspace="w1", triggered_at=at(2, 30 + half)),
        )
    return archive


def reader_of(archive: Archive, folder: Path, scope: Scope = EVERYTHING) -> Replay:
    folder.mkdir(exist_ok=True)
    file, snapshot, _ = begin(archive, folder, scope)
    return Replay(archive, snapshot, scope, None, LIMITS, file)


def test_a_replay_comes_by_day_and_workspace(tmp_path: Path, archive: Archive) -> None:
    found = taken(reader_of(archive, tmp_path / "r"))
    assert len(found) == 50
    days = [(clock.to_text(one.at_us)[:10], one.workspace) for one in found]
    assert days == sorted(days)


def test_times_are_cut_within_a_file(tmp_path: Path, archive: Archive) -> None:
    scope = Scope(since_us=us(1, 6), until_us=us(2, 2), workspaces=("w2",))
    assert sorted(ids(taken(reader_of(archive, tmp_path / "r", scope)))) == [
        "1-6-w2",
        "1-7-w2",
        "2-0-w2",
        "2-1-w2",
    ]


def test_an_estimate_opens_no_data_file(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(archive.store), "get", None)
    found = plan(archive, EVERYTHING)
    assert (found.events, found.files) == (50, 14)
    assert (found.oldest_us, found.newest_us) == (us(1), us(3, 7))
    assert found.days == {"2026-03-01": 16, "2026-03-02": 18, "2026-03-03": 16}
    assert found.bytes > 0


def test_an_estimate_tells_the_times_that_were_asked_for(archive: Archive) -> None:
    found = plan(archive, Scope(since_us=us(1, 3), until_us=us(3, 2), workspaces=("w1",)))
    assert (found.oldest_us, found.newest_us) == (us(1, 3), us(3, 2) - 1)
    nothing = plan(archive, Scope(since_us=us(9)))
    assert (nothing.events, nothing.oldest_us, nothing.days) == (0, None, {})
    only_events = plan(archive, Scope(actions=("auth.*",)))  # alerts have none
    assert only_events.events == 48


@pytest.mark.parametrize("most", [3, 16])
def test_a_replay_that_was_killed_goes_on_where_it_was(tmp_path: Path, archive: Archive, most: int) -> None:
    expected = ids(taken(reader_of(archive, tmp_path / "once")))
    assert until_none_is_left(lambda: reader_of(archive, tmp_path / "r"), most) == expected


def test_a_replay_goes_on_in_its_own_snapshot(tmp_path: Path, archive: Archive) -> None:
    expected = ids(taken(reader_of(archive, tmp_path / "once")))
    found = ids(taken(reader_of(archive, tmp_path / "r"), 7))
    archive_bodies(archive, event("new", timestamp=at(1, 1)))
    assert found + ids(taken(reader_of(archive, tmp_path / "r"))) == expected


def test_a_replay_whose_snapshot_is_not_kept_begins_anew_and_says_so(
    tmp_path: Path, archive: Archive
) -> None:
    for number in range(4):
        archive_bodies(archive, event(f"more-{number}", workspace="w1", timestamp=at(1, 20 + number)))
    reader = reader_of(archive, tmp_path / "r")
    halfway = ids(taken(reader, 7))
    assert len(halfway) == 7
    compact_and_collect(archive)
    with pytest.raises(SourceError, match="is kept no more"):
        taken(reader)
    _, snapshot, note = begin(archive, tmp_path / "r", EVERYTHING)
    assert note.startswith("this replay begins anew: commit ")
    assert snapshot.sequence == archive.ledger.snapshot.sequence
    assert len(taken(reader_of(archive, tmp_path / "r"))) == 54


def test_a_position_that_was_altered_is_none(tmp_path: Path, archive: Archive) -> None:
    taken(reader_of(archive, tmp_path / "r"), 7)
    (path,) = (tmp_path / "r").glob("*.json")
    path.write_bytes(path.read_bytes().replace(b'"place": ', b'"place": 1'))
    assert list_replays(tmp_path / "r") == []
    assert len(taken(reader_of(archive, tmp_path / "r"))) == 50


def test_arguments_and_archive_tell_replays_apart(tmp_path: Path, archive: Archive) -> None:
    names = {
        replays.replay_id(archive.id, EVERYTHING),
        replays.replay_id("another", EVERYTHING),
        replays.replay_id(archive.id, Scope(since_us=1)),
        replays.replay_id(archive.id, Scope(until_us=1)),
        replays.replay_id(archive.id, Scope(workspaces=("w",))),
        replays.replay_id(archive.id, Scope(actions=("w",))),
        replays.replay_id(archive.id, Scope(event_types=("w",))),
    }
    assert len(names) == 7
    taken(reader_of(archive, tmp_path / "r"), 7)
    taken(reader_of(archive, tmp_path / "r", Scope(since_us=us(2))), 3)
    assert [one.rows for one in list_replays(tmp_path / "r")] == [3, 7]
    assert list_replays(tmp_path / "nothing") == []


class Site:
    """A destination, what it was sent, and the settings that lead there."""

    def __init__(self, hook: HookStandIn, folder: Path, archive: Archive) -> None:
        self.hook = hook
        self.archive = archive
        self.folder = folder / "state" / "siem"
        self.settings = Settings(forward_state=str(folder / "state"))
        self.destination = Destination(
            "siem", "http", url=hook.url, batch_events=5, options={"batch": "lines"}, workspaces=("w1",)
        )

    def replay(self, scope: Scope = EVERYTHING, **options: object) -> Forwarded:
        return replay(
            self.settings,
            self.destination,
            self.archive,
            scope,
            **{"policy": QUICK, **options},  # type: ignore[arg-type]
        )

    def ids(self) -> list[str]:
        return [
            json.loads(body).get("data", json.loads(body)).get("id", "alert") for body in self.hook.bodies
        ]


@pytest.fixture
def site(tmp_path: Path, archive: Archive) -> Iterator[Site]:
    hook = HookStandIn()
    with hook.serving():
        yield Site(hook, tmp_path, archive)


def test_a_replay_sends_what_both_destination_and_command_want(site: Site) -> None:
    scope = scope_of(since_us=us(2), actions=["auth.*"], workspaces=["w1", "w2"])
    told: list[int] = []
    result = site.replay(scope, watch=lambda now: told.append(now.tally.taken))
    assert result.is_complete
    assert sorted(site.ids()) == sorted(f"{d}-{m}-w1" for d in (2, 3) for m in (1, 2, 3, 5, 6, 7))
    assert (result.tally.taken, result.tally.filtered, told[-1]) == (12, 4, 12)
    assert estimate(site.destination, site.archive, scope).events == 16
    (position,) = list_replays(site.folder / "replays")
    assert (position.finished, position.taken) == (True, 12)
    assert not (site.folder / "cursor.json").exists()


def test_a_destination_that_fails_is_gone_on_with_later(site: Site) -> None:
    site.hook.fault(Fault("slow", times=2), Fault("reply", times=1_000))
    result = site.replay()
    assert result.error is not None
    assert (result.tally.taken, len(site.ids())) == (10, 10)
    site.hook.script.clear()
    notes: list[str] = []
    again = site.replay(note=notes.append)
    assert again.is_complete
    assert (again.tally.taken, len(set(site.ids())), len(site.ids())) == (16, 25, 26)
    assert "10 rows on" in notes[0]
    (position,) = list_replays(site.folder / "replays")
    assert position.taken == 26


def test_a_replay_whose_destination_has_other_filters_now_is_another_one(site: Site) -> None:
    site.hook.fault(Fault("slow", times=3), Fault("reply", times=1_000))
    assert site.replay().error is not None
    site.hook.script.clear()
    site.destination = replace(site.destination, workspaces=("w1", "w2"))
    expected = estimate(site.destination, site.archive, EVERYTHING).events
    result = site.replay()
    assert result.is_complete
    assert result.tally.taken == expected > 26


def test_a_replay_that_ended_or_shall_restart_begins_anew(site: Site) -> None:
    scope = scope_of(since_us=us(3))
    for expected in (8, 16):
        assert site.replay(scope).is_complete
        assert len(site.ids()) == expected
    stop = threading.Event()
    stop.set()
    assert not site.replay(scope, stop=stop).is_complete
    assert site.replay(scope, restart=True).is_complete
    assert len(site.ids()) == 24


def test_two_replays_to_one_destination_do_not_run_at_once(site: Site) -> None:
    folder = site.folder / "replays"
    folder.mkdir(parents=True)
    with locked(folder, "siem"):
        assert site.replay().is_busy
    assert site.ids() == []


def test_old_events_are_warned_of_where_their_time_is_not_taken(archive: Archive) -> None:
    token = SecretPlace("the token", "TOKEN")
    datadog = Destination("dd", "datadog", token=token, options={"site": "datadoghq.eu"})
    intake = intake_of(datadog, {"TOKEN": "x" * 32})
    found = estimate(datadog, archive, EVERYTHING)
    (told,) = warnings_of(datadog, intake, found, us(3, 30))
    assert told == (
        "datadog does not take the time of events older than 18 h: 2 of 3 days are older, or in part"
        " (2026-03-01 to 2026-03-02)"
    )
    assert warnings_of(datadog, intake, found, us(1, 1)) == []
    http = Destination("h", "http", url="http://127.0.0.1:1")
    assert warnings_of(http, intake_of(http), found, us(3)) == []
    elastic = Destination("e", "elastic", url="http://127.0.0.1:1", options={"index": "logs"})
    assert "one backing index" in warnings_of(elastic, intake_of(elastic), found, us(3))[0]
