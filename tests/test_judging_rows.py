"""Blocks of rows through the judges: in threads, in processes or here, the same comes out, in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from archiver.block import Block, RowBlock
from archiver.errors import SourceError
from archiver.judging import Judged, Judges
from archiver.validate import Rules
from tests.properties.row_batches import Batches, plain_block


def blocks(count: int) -> Iterator[RowBlock]:
    batches = Batches(7)
    first = 0
    for number in range(count):
        block = plain_block(40) if number % 5 == 0 else batches.block()
        yield replace(block, first_ordinal=first, input_bytes=number)
        first += block.rows.num_rows


def told(judged: Iterator[Judged]) -> list[tuple[object, ...]]:
    return [
        (
            each.read,
            each.input,
            each.input_bytes,
            each.judged,
            {name: (rows.rows.to_pylist(), rows.cuts) for name, rows in each.tables.items()},
            each.rejections,
        )
        for each in judged
    ]


def test_threads_and_this_one_give_the_same_in_the_same_order() -> None:
    results = []
    for workers in (0, 2):
        with Judges(Rules("db"), workers=workers) as judges:
            results.append(told(judges.judge(blocks(60), total_bytes=1 << 30)))
    assert results[0] == results[1]
    assert [each[2] for each in results[0]] == list(range(60))
    assert sum(each[0] for each in results[0]) == sum(block.rows.num_rows for block in blocks(60))  # type: ignore[misc]


def test_rows_under_a_users_schema_are_judged_in_processes_to_the_same_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("archiver.judging.SMALL_BATCH_BYTES", 0)
    rules = Rules("db", {"events": '{"properties": {"plan": {"const": "pro"}}}'})
    results = []
    for workers in (0, 1):
        with Judges(rules, workers=workers) as judges:
            results.append(told(judges.judge(blocks(12), total_bytes=1)))
            assert (judges._pool is not None, judges._threads) == (workers == 1, None)
    assert results[0] == results[1]


def test_rows_and_deliveries_come_out_in_the_order_they_went_in() -> None:
    delivery = Block(3, [b"{}"], [0], [0], [0], [None])
    mixed: list[Block | RowBlock] = [plain_block(2), delivery, plain_block(3), delivery]
    with Judges(Rules("db"), workers=2) as judges:
        assert [each.read for each in judges.judge(mixed, total_bytes=0)] == [2, 1, 3, 1]


def test_an_error_of_a_thread_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise SourceError("too large")

    monkeypatch.setattr("archiver.rows.objects", fail)
    with Judges(Rules("db"), workers=2) as judges, pytest.raises(SourceError, match="too large"):
        list(judges.judge(blocks(20), total_bytes=0))
