"""The live reader: every valid event of every segment, from where it was left, in order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from archiver.errors import SourceError
from archiver.forward import deliveries
from archiver.forward.cursor import read_cursor
from archiver.forward.deliveries import Waiting
from archiver.forward.folders import folder_of, make_folders
from archiver.forward.wanted import Wanted
from tests.forward.spooling import bodies, ids, reader, seal, waiting
from tests.support import alert, event


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    make_folders([folder], "siem")
    (tmp_path / "state").mkdir()
    return folder


@pytest.fixture
def state(spool: Path) -> Path:
    return spool.parent / "state"


def test_segments_come_oldest_first_and_events_in_the_order_of_their_delivery(
    spool: Path, state: Path
) -> None:
    seal(spool, bodies(0, 6))
    seal(spool, [*bodies(6, 1), alert("a1"), *bodies(7, 1)])
    found = list(reader(spool, state).read())
    assert ids(found) == ["e0", "e1", "e2", "e3", "e4", "e5", "e6", "a1", "e7"]
    assert [len(portion.events) for portion in found] == [4, 2, 3]
    assert [portion.is_last for portion in found] == [False, True, True]


def test_an_event_is_told_with_its_columns_and_its_very_bytes(spool: Path, state: Path) -> None:
    body = event("e1").replace(b"{", b"{ ", 1)
    seal(spool, [body])
    ((found,),) = [portion.events for portion in reader(spool, state).read()]
    assert found.body == body
    assert (found.id, found.dataset, found.event_type, found.place) == ("e1", "events", "event.created", 1)
    assert found.workspace
    assert found.action
    assert found.at_us > 0


def test_what_is_invalid_torn_or_of_a_foreign_workspace_is_counted_and_not_forwarded(
    spool: Path, state: Path
) -> None:
    seal(spool, [*bodies(0, 1), b"{", b'{"event_type":"event.created"}', *bodies(1, 1)])
    seal(spool, bodies(2, 1), stream="pinned")
    found = list(reader(spool, state).read())
    assert ids(found) == ["e0", "e1"]
    assert sum(portion.invalid for portion in found) == 3
    assert found[0].events[1].place == 4


def test_filters_are_applied_and_counted(spool: Path, state: Path) -> None:
    seal(spool, [*bodies(0, 3), alert("a1")])
    found = list(reader(spool, state, wanted=Wanted(event_types=("alert.triggered",))).read())
    assert ids(found) == ["a1"]
    assert sum(portion.filtered for portion in found) == 3


def test_a_segment_that_is_taken_loses_its_link_and_keeps_its_other_names(spool: Path, state: Path) -> None:
    name = seal(spool, bodies(0, 6))
    one = reader(spool, state)
    first, second = one.read()
    one.acknowledge(first, first.end)
    assert waiting(spool) == [name]
    one.acknowledge(second, second.end)
    assert waiting(spool) == []
    assert (spool / name).exists()


def test_a_new_process_goes_on_behind_what_was_taken(spool: Path, state: Path) -> None:
    seal(spool, bodies(0, 10))
    seal(spool, bodies(10, 2))
    one = reader(spool, state)
    portions = one.read()
    next(portions)
    second = next(portions)
    one.acknowledge(second, second.events[1].place)
    assert ids(list(reader(spool, state).read())) == ["e6", "e7", "e8", "e9", "e10", "e11"]


def test_acknowledging_a_later_segment_settles_those_before_it(spool: Path, state: Path) -> None:
    seal(spool, bodies(0, 2))
    seal(spool, bodies(2, 2))
    last = seal(spool, bodies(4, 3))
    one = reader(spool, state)
    found = list(one.read())
    one.acknowledge(found[-1], 1)
    assert waiting(spool) == [last]
    assert ids(list(reader(spool, state).read())) == ["e5", "e6"]


def test_a_death_between_the_cursor_and_the_link_repeats_nothing(
    spool: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(spool, bodies(0, 2))
    one = reader(spool, state)
    (found,) = one.read()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "no")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        one.acknowledge(found, found.end)
        assert ids(list(one.read())) == []
    assert len(waiting(spool)) == 1
    assert ids(list(reader(spool, state).read())) == []
    assert waiting(spool) == []


def test_a_segment_with_an_older_name_that_comes_late_is_read_all_the_same(spool: Path, state: Path) -> None:
    name = seal(spool, bodies(0, 2))
    folder = folder_of(spool, "siem")
    (folder / name).rename(spool / "aside")
    seal(spool, bodies(2, 6))
    one = reader(spool, state)
    first = next(iter(one.read()))
    one.acknowledge(first, first.end)
    os.link(spool / "aside", folder / name)
    # What is begun comes first: a folder has one place, and the rest of it would be sent from its start.
    one = reader(spool, state)
    for portion in one.read():
        one.acknowledge(portion, portion.end)
        break
    assert ids(list(reader(spool, state).read())) == ["e0", "e1"]


def test_links_that_cannot_be_removed_are_told_before_they_are_many(
    spool: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "_MOST_STUCK", 3)
    seal(spool, bodies(0, 1)), seal(spool, bodies(1, 1))
    one = reader(spool, state)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    for portion in one.read():
        one.acknowledge(portion, portion.end)
    seal(spool, bodies(2, 1))
    (portion,) = one.read()
    with pytest.raises(SourceError, match="3 segments are taken and cannot be removed: Permission denied"):
        one.acknowledge(portion, portion.end)
    assert read_cursor(state).spools[str(portion.unit.folder)].finished == waiting(spool)  # type: ignore[union-attr]


def test_names_that_are_no_sealed_segments_are_left_alone(spool: Path, state: Path) -> None:
    folder = folder_of(spool, "siem")
    (folder / "notes.txt").write_text("mine")
    (folder / ".x.seg.live").write_text("growing")
    assert list(reader(spool, state).read()) == []
    assert (folder / "notes.txt").exists()


def test_a_segment_that_somebody_takes_away_is_passed_over(spool: Path, state: Path) -> None:
    name = seal(spool, bodies(0, 2))
    seal(spool, bodies(2, 1))
    one = reader(spool, state)
    found = one.read()
    (folder_of(spool, "siem") / name).unlink()
    rest = list(found)
    assert ids(rest) == ["e2"]
    one.acknowledge(rest[-1], rest[-1].end)
    assert waiting(spool) == []


def test_a_link_that_leads_elsewhere_is_an_error_and_not_followed(spool: Path, state: Path) -> None:
    seal(spool, bodies(0, 1))
    (folder_of(spool, "siem") / f"{0:016x}-{1:016x}.seg").symlink_to("/etc/passwd")
    with pytest.raises(SourceError):
        list(reader(spool, state).read())


class Serving(RuleBasedStateMachine):
    """Seals, partial readings, deaths: each event is read at least once, and once where nobody died."""

    @initialize()
    def begin(self) -> None:
        import tempfile  # noqa: PLC0415 - hypothesis makes many of these

        self.top = tempfile.TemporaryDirectory()
        self.spool = Path(self.top.name) / "spool"
        self.state = Path(self.top.name) / "state"
        self.state.mkdir()
        self.spool.mkdir()
        make_folders([self.spool], "siem")
        self.sealed = 0
        self.taken: list[str] = []
        self.one = reader(self.spool, self.state, most_events=3)

    @rule(count=st.integers(1, 7))
    def seals(self, count: int) -> None:
        seal(self.spool, bodies(self.sealed, count))
        self.sealed += count

    @rule(portions=st.integers(1, 4), part=st.booleans())
    def serves(self, portions: int, part: bool) -> None:
        found = []
        for portion in self.one.read():
            found.append(portion)
            if len(found) == portions:
                break
        if found:
            last = found[-1]
            place = last.events[0].place if part and last.events else last.end
            self.one.acknowledge(last, place)
            self.taken += ids(found[:-1]) + [each.id for each in last.events if each.place <= place]

    @rule()
    def dies(self) -> None:
        self.one = reader(self.spool, self.state, most_events=3)

    @invariant()
    def each_is_taken_once_in_order(self) -> None:
        if hasattr(self, "taken"):
            assert self.taken == [f"e{number}" for number in range(len(self.taken))]

    def teardown(self) -> None:
        rest = list(self.one.read())
        assert self.taken + ids(rest) == [f"e{number}" for number in range(self.sealed)]
        self.top.cleanup()


TestServing = Serving.TestCase
TestServing.settings = settings(
    max_examples=25, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_a_unit_names_its_folder_and_its_segment(spool: Path, state: Path) -> None:
    name = seal(spool, bodies(0, 1))
    (found,) = reader(spool, state).read()
    assert found.unit == Waiting(folder_of(spool, "siem"), name)
