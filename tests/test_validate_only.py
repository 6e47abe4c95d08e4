"""A validator of some columns: the same verdict, and what it makes is the same."""

from __future__ import annotations

from archiver.block import Block
from archiver.forward.deliveries import _NEEDED
from archiver.generate import generate_bodies
from archiver.validate import Rules, Validator


def test_a_validator_of_some_columns_finds_the_same_events_and_the_same_rejections() -> None:
    made = generate_bodies(events=2_000, invalid=0.1, supplements=0.02, conflicts=0.02, alerts=0.05)
    bodies, received, streams = map(list, zip(*made, strict=True))
    numbers = [*range(len(bodies))]
    block = Block(0, bodies, numbers, numbers, received, streams)

    every = Validator(Rules("door")).validate(block)
    some = Validator(Rules("door"), only=_NEEDED).validate(block)

    assert some.rejections == every.rejections
    assert (some.proven, some.judged) == (every.proven, every.judged)
    assert some.tables.keys() == every.tables.keys()
    for dataset, rows in some.tables.items():
        assert set(rows.schema.names) == _NEEDED & set(every.tables[dataset].schema.names)
        assert rows.equals(every.tables[dataset].select(rows.schema.names))
