"""A validator of some columns: the same verdict, and what it makes is the same."""

from __future__ import annotations

import pytest

from archiver.block import Block
from archiver.forward.events import outgoing
from archiver.forward.judged import NEEDED, Judged
from archiver.generate import generate_bodies
from archiver.validate import Rules, Validator
from tests.support import event


def test_a_validator_of_some_columns_finds_the_same_events_and_the_same_rejections() -> None:
    made = generate_bodies(events=2_000, invalid=0.1, supplements=0.02, conflicts=0.02, alerts=0.05)
    bodies, received, streams = map(list, zip(*made, strict=True))
    numbers = [*range(len(bodies))]
    block = Block(0, bodies, numbers, numbers, received, streams)

    every = Validator(Rules("door")).validate(block)
    some = Validator(Rules("door"), only=NEEDED).validate(block)

    assert some.rejections == every.rejections
    assert (some.proven, some.judged) == (every.proven, every.judged)
    assert some.tables.keys() == every.tables.keys()
    for dataset, rows in some.tables.items():
        assert set(rows.schema.names) == NEEDED & set(every.tables[dataset].schema.names)
        assert rows.equals(every.tables[dataset].select(rows.schema.names))


def test_what_goes_on_is_what_a_validator_finds_valid_with_the_same_columns() -> None:
    made = generate_bodies(events=3_000, invalid=0.1, supplements=0.02, conflicts=0.02, alerts=0.05)
    bodies, received, streams = map(list, zip(*made, strict=True))
    numbers = [*range(100, 100 + len(bodies))]
    block = Block(0, bodies, numbers, numbers, received, streams)

    every = Validator(Rules("door")).validate(block)
    found, invalid = Judged(Rules("door")).events(block)

    wanted = []
    for dataset, rows in every.tables.items():
        wanted += outgoing(rows, dataset, [one + 1 for one in rows["ordinal"].to_pylist()])  # type: ignore[arg-type]
    assert found == sorted(wanted, key=lambda event: event.place)
    assert invalid == len(every.rejections)
    assert found
    assert {event.dataset for event in found} == {"events", "alerts"}


def test_a_foreign_workspace_does_not_go_on() -> None:
    rules = Rules("door", workspaces_of_stream={"eu": frozenset({"ws_1"})})
    bodies = [event("a"), event("b", workspace="ws_2"), event("c")]
    block = Block(0, bodies, [0, 1, 2], [0, 1, 2], [5, 6, 7], ["eu", "eu", "us"])
    found, invalid = Judged(rules).events(block)
    assert [one.id for one in found] == ["a", "c"]
    assert [one.received_us for one in found] == [5, 7]
    assert invalid == 1


@pytest.mark.parametrize("member", ["event_hash", "previous_event_hash"])
@pytest.mark.parametrize("value", ["0" * 63, "0" * 65, "g" * 64, " " * 64, "²" * 64, "٣" * 64, "AbC9" * 16])
def test_hashes_are_proven_as_the_judge_has_them(member: str, value: str) -> None:
    bodies = [event("a", **{member: "f" * 64}), event("b", **{member: value}), event("c", **{member: None})]
    block = Block(0, bodies, [0, 1, 2], [0, 1, 2], [5, 6, 7], [None] * 3)
    every = Validator(Rules("door")).validate(block)
    found, _ = Judged(Rules("door")).events(block)
    assert [one.id for one in found] == sorted(every.tables["events"]["id"].to_pylist())
