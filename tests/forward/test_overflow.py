"""A folder that outgrows its limit: its links go, the ledger is read, and then the folder again."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from archiver.config import Settings
from archiver.forward.commits import Commits
from archiver.forward.cursor import CursorFile, InArchive, InSpool, read_cursor
from archiver.forward.deliveries import Deliveries, waiting_in
from archiver.forward.folders import make_folders
from archiver.forward.overflow import drop_links, has_overflowed
from archiver.forward.run import forward
from archiver.forward.settings import Destination
from archiver.live import LiveSegment
from archiver.pipeline import run
from archiver.segment import frame_head
from archiver.sources.spool import SpoolSource
from archiver.validate import Rules
from tests.forward.reading import ALL, LIMITS, compact_and_collect
from tests.services.hook import HookStandIn
from tests.support import RECEIVED_US, event, new_archive

RULES = {"spool": Rules(source="spool"), "spool-2": Rules(source="spool-2")}


class KilledError(Exception):
    """The process died here."""


@dataclass
class World:
    """Spools, an archive, and one destination of their deliveries; `got` is what it has, in order."""

    folder: Path
    spools: int = 1
    got: list[str] = field(default_factory=list)
    sealed: list[str] = field(default_factory=list)
    segments: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.archive = new_archive(self.folder / "a")
        names = [f"spool-{number}" for number in range(1, self.spools + 1)]
        self.places = [self.folder / name for name in names]
        for place in self.places:
            place.mkdir()
        self.waiting = make_folders(self.places, "siem")
        (self.folder / "state").mkdir()

    def seal(self, count: int = 3, spool: int = 0) -> list[str]:
        new = [f"e{len(self.sealed) + number:03d}" for number in range(count)]
        self.sealed += new
        growing = LiveSegment(self.places[spool])
        for name in new:
            body = event(name, timestamp=f"2026-03-26T10:{len(self.sealed) % 60:02d}:00.000000Z")
            growing.append([frame_head(body, RECEIVED_US, None), body], 1)
        sealed = growing.seal()
        assert sealed is not None
        self.segments[sealed.name] = new
        return new

    def taken_of(self, first: int, last: int) -> set[str]:
        """Return what the destination has of the events of these commits."""
        inputs = [
            one["name"]
            for number in range(first, last + 1)
            for one in self.archive.ledger.read(number).content.inputs
        ]
        return {one for name in inputs for one in self.segments.get(name, [])} & {*self.got}

    def run(self) -> None:
        for number, place in enumerate(self.places, start=1):
            name = "spool" if number == 1 else f"spool-{number}"
            run(self.archive, SpoolSource(place, name=name), rules=Rules(source=name), workers=0)

    def drop(self) -> None:
        drop_links(self.waiting, self.archive, CursorFile(self.folder / "state"), "siem")

    def cursor(self) -> CursorFile:
        return CursorFile(self.folder / "state")

    def send(self, most: int | None = None, between: Callable[[], None] = lambda: None) -> None:
        """Do as a pass of `archiver forward` does; a new process each time, which may die."""
        cursor = self.cursor()
        if cursor.cursor.archive is not None:
            commits = Commits(self.archive, cursor, LIMITS, ALL, folders=self.waiting)
            most = self._take(commits, most)
            between()
            cursor.cursor.archive = None
            cursor.write(sync=True)
        sources = dict(zip(self.waiting, RULES, strict=False))
        self._take(Deliveries(sources, RULES, cursor, LIMITS, ALL), most)

    def _take(self, reader: Commits | Deliveries, most: int | None) -> int | None:
        for portion in reader.read():
            for one in portion.events:
                self.got.append(one.id)
                if most is not None:
                    most -= 1
                    if most < 0:  # it arrived, and nobody noted it
                        raise KilledError
                reader.acknowledge(portion, one.place)
            reader.acknowledge(portion, portion.end)
        return most

    def links(self) -> list[str]:
        return [one.name for one in waiting_in(self.waiting)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_folder_has_overflowed_when_its_segments_are_larger_than_the_limit(world: World) -> None:
    world.seal()
    (path,) = [one.folder / one.name for one in waiting_in(world.waiting)]
    (path.parent / "notes.txt").write_bytes(b"x" * 100_000)
    size = path.stat().st_size
    assert not has_overflowed(world.waiting, size)
    assert has_overflowed(world.waiting, size - 1)


def test_what_the_archive_has_is_sent_from_the_ledger_and_the_rest_live(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.seal(), world.run(), world.seal(), world.run()
    late = world.seal()
    world.drop()
    assert len(world.links()) == 1  # no commit lists it
    assert world.cursor().cursor.archive == InArchive(1)
    assert "destination siem: 2 segments (" in caplog.text
    world.send()
    assert world.got == world.sealed
    assert world.got[-3:] == late
    assert world.links() == []
    assert world.cursor().cursor.archive is None


def test_nothing_is_dropped_that_the_archive_does_not_have(world: World) -> None:
    world.seal(), world.seal()
    world.drop()
    assert len(world.links()) == 2
    assert world.cursor().cursor.archive is None


def test_a_ledger_that_cannot_be_read_leaves_all_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.seal(), world.run()

    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(type(world.archive.ledger), "refresh", fails)
        with pytest.raises(OSError, match="Input"):
            world.drop()
    assert len(world.links()) == 1
    assert world.cursor().cursor.archive is None


def test_who_dies_before_the_links_are_removed_sends_nothing_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        world.seal(), world.run()

    def dies(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", dies)
        with pytest.raises(KilledError):
            world.drop()
    assert len(world.links()) == 3
    assert world.cursor().cursor.archive == InArchive(1)
    world.send()
    assert world.got == world.sealed
    assert world.links() == []


def test_who_dies_before_the_cursor_is_written_has_removed_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.seal(), world.run()

    def dies(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(CursorFile, "write", dies)
        with pytest.raises(KilledError):
            world.drop()
    assert len(world.links()) == 1
    world.send()
    assert world.got == world.sealed


def test_who_dies_where_a_commit_is_taken_whole_sends_none_of_it_live(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.seal(), world.run()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # killed before the links are removed
        world.drop()

    def dies(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", dies)
        with pytest.raises(KilledError):
            world.send()
    world.send()
    assert world.got == world.sealed


def test_only_the_batch_that_was_under_way_repeats(world: World) -> None:
    world.seal(), world.seal(), world.run()
    world.seal(), world.run()
    with pytest.raises(KilledError):
        world.send(4)  # within the second segment of the first commit
    world.drop()
    world.send()
    assert Counter(world.got[5:]) == Counter(world.sealed)


def test_what_is_sealed_and_archived_while_the_ledger_is_caught_up_with_comes_once(world: World) -> None:
    world.seal(), world.run()
    world.drop()

    def between() -> None:
        world.seal(), world.run()  # behind the head that was read to
        world.seal()  # and one that waits

    world.send(between=between)
    assert world.got == world.sealed
    world.send()
    assert world.got == world.sealed


def test_a_second_overflow_keeps_the_place_in_the_ledger(world: World) -> None:
    for _ in range(3):
        world.seal(), world.run()
    world.drop()
    with pytest.raises(KilledError):
        world.send(5)
    world.seal(), world.run()
    world.drop()
    assert world.links() == []
    at = world.cursor().cursor.archive
    assert at is not None
    assert (at.commit, at.place) == (2, 2)
    world.send()
    assert Counter(world.got) == Counter([*world.sealed, world.sealed[5]])


def test_links_that_were_taken_before_are_neither_dropped_nor_sent_again(world: World) -> None:
    world.seal(), world.run()
    (name,) = world.links()
    cursor = world.cursor()
    cursor.cursor.spools[str(world.waiting[0])] = InSpool(finished=[name])
    cursor.write(sync=True)
    world.drop()
    assert world.cursor().cursor.archive is None
    world.send()
    assert world.got == []


def test_a_link_that_cannot_be_removed_is_not_sent_live(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.seal(), world.run()

    def refuses(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuses)
        world.drop()
        world.send()
    world.send()
    assert world.got == world.sealed
    assert world.links() == []


def test_a_pass_of_forward_goes_from_the_folder_to_the_ledger_and_back(world: World) -> None:
    for _ in range(3):
        world.seal(), world.run()
    late = world.seal()
    hook = HookStandIn()
    with hook.serving():
        siem = Destination(
            "siem", "http", url=hook.url, batch_events=4, options={"batch": "lines"}, max_waiting_bytes=1
        )
        settings = Settings(
            spools=tuple(map(str, world.places)),
            destinations={"siem": siem},
            forward_state=str(world.folder / "states"),
        )
        (result,) = forward(settings, ["siem"], lambda: world.archive)
    assert (result.error, result.is_complete, result.tally.taken) == (None, True, 12)
    found = [json.loads(body)["data"]["id"] for body in hook.bodies]
    assert found == world.sealed
    assert found[-3:] == late
    assert world.links() == []
    cursor = read_cursor(world.folder / "states" / "siem")
    assert cursor is not None
    assert cursor.archive is None


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_each_event_arrives_and_only_what_was_under_way_repeats(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    world = World(tmp_path, spools=1 + seed % 2)
    may_repeat: Counter[str] = Counter()

    def send(most: int | None = None) -> None:
        before = len(world.got)
        try:
            world.send(most, between=lambda: chance.random() < 0.5 and step(("seal", "run")))
        except KilledError:
            may_repeat[world.got[-1]] += 1
        assert len(world.got) - before <= len(world.sealed)

    def drop() -> None:
        cursor = world.cursor().cursor
        before, positions = cursor.archive, cursor.spools.values()
        under_way = {one for at in positions for one in world.segments.get(at.segment, [])}
        world.drop()
        after = world.cursor().cursor.archive
        if after is not None and before is None:
            # Of one spool the first commit's; of several those that were committed later, too.
            last = after.commit if world.spools == 1 else world.archive.ledger.snapshot.sequence
            may_repeat.update(world.taken_of(after.commit, last) | under_way)

    def step(among: tuple[str, ...]) -> None:
        match chance.choice(among):
            case "seal":
                world.seal(chance.randint(1, 4), chance.randrange(world.spools))
            case "run":
                world.run()
            case "drop":
                drop()
            case "kill":
                send(chance.randrange(6))
            case "send":
                send()
            case "collect":
                compact_and_collect(world.archive)

    everything = ("seal",) * 5 + ("run",) * 3 + ("drop",) * 2 + ("kill",) * 3 + ("send", "collect")
    for _ in range(40):
        step(everything)
    send()
    world.run()
    send()
    counts = Counter(world.got)
    assert set(counts) == set(world.sealed)
    repeated = counts - Counter(world.sealed)
    assert not repeated - may_repeat, json.dumps(repeated - may_repeat)
    assert world.links() == []
