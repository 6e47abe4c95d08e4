"""The proof for rows may only acquit, and its columns are those that the body would give.

The same rows go both ways: as columns, and as bodies, one by one. What the proof acquits, the judge
(`jsonschema` on `json.loads`, built here from the schema file) must accept as well.
"""

from __future__ import annotations

import json
import os
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from jsonschema import Draft202012Validator

import archiver
from archiver.block import Block, RowBlock
from archiver.database.bodies import bodies
from archiver.database.fetched import Fetched
from archiver.validate import Rules, Validated, Validator
from tests.properties.row_batches import Batches, plain_block

VALIDATOR = Validator(Rules("db"))
JUDGE = Draft202012Validator(
    json.loads((Path(archiver.__file__).parent / "schemas" / "event-row.1.json").read_text()),
    format_checker=Draft202012Validator.FORMAT_CHECKER,
)


def as_bodies(block: RowBlock) -> Block:
    written = bodies(block.rows, block.layout).view(pa.binary()).to_pylist()
    return Block(
        block.input,
        written,
        list(range(block.first_ordinal, block.first_ordinal + len(written))),
        [0] * len(written),
        [block.received_at] * len(written),
        [None] * len(written),
        shape="row",
    )


def rows_of(verdict: Validated) -> list[dict[str, Any]]:
    assert set(verdict.tables) <= {"events"}
    if "events" not in verdict.tables:
        return []
    table = verdict.tables["events"]
    table.validate(full=True)
    assert table.num_rows
    return table.sort_by("ordinal").to_pylist()  # type: ignore[no-any-return]


def no_two_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def differ(block: RowBlock) -> tuple[int, int]:
    """Hold both ways against each other; return how many rows there were, and how many were proven."""
    quick, slow = VALIDATOR.validate_rows(block), VALIDATOR.validate(as_bodies(block))
    assert quick.rejections == slow.rejections
    assert rows_of(quick) == rows_of(slow)
    assert quick.proven + quick.judged == block.rows.num_rows
    proven = VALIDATOR._rows.prove(block).rows
    for body in proven.column("body").to_pylist():
        assert JUDGE.is_valid(json.loads(body, object_pairs_hook=no_two_members))
    return block.rows.num_rows, proven.num_rows


def search(seed: int, blocks: int) -> tuple[int, int]:
    batches = Batches(seed)
    rows = proven = 0
    for _ in range(blocks):
        more, certain = differ(batches.block())
        rows += more
        proven += certain
    return rows, proven


@pytest.mark.parametrize("seed", range(4))
def test_a_row_ends_as_its_body_would(seed: int) -> None:
    rows, proven = search(seed, 500)
    assert proven > rows * 0.3  # or the search looked at nothing
    assert proven < rows


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_a_row_ends_as_its_body_would_in_a_long_search(capsys: pytest.CaptureFixture[str]) -> None:
    deadline = time.monotonic() + float(os.environ.get("SOAK_SECONDS", "7200"))
    rows = proven = 0
    while time.monotonic() < deadline:
        more, certain = search(random.SystemRandom().randrange(2**32), 500)
        rows, proven = rows + more, proven + certain
    with capsys.disabled():
        print(f"{rows} rows, {proven} proven")


def test_plain_rows_are_proven() -> None:
    block = plain_block(50)
    assert differ(block) == (50, 50)
    assert VALIDATOR.validate_rows(block).judged == 0


def test_a_users_schema_leaves_nothing_to_the_proof() -> None:
    strict = Validator(Rules("db", {"events": '{"properties": {"plan": {"const": "free"}}}'}))
    verdict = strict.validate_rows(plain_block(3))
    assert [rejection.reason for rejection in verdict.rejections] == ["invalid"] * 3
    assert verdict.tables == {}


def test_bytes_that_are_no_utf8_are_quarantined_and_the_rows_beside_them_archived() -> None:
    block = plain_block(4)
    raw = pa.array([b"good", b"\xff", b"a\xc3", b"\xa9b"], pa.binary()).view(pa.string())
    for column in ("plan", "id", "workspace_id", "metadata"):
        place = block.rows.schema.get_field_index(column)
        found = block.rows.set_column(place, column, raw)
        layout = tuple(replace(one, kind="text") if one.member == column else one for one in block.layout)
        verdict = VALIDATOR.validate_rows(replace(block, rows=found, layout=layout))
        assert [one.reason for one in verdict.rejections][-3:] == ["not_utf8"] * 3
        assert b"\xff" in verdict.rejections[-3].body
        if column != "metadata":
            assert verdict.tables["events"].column("ordinal").to_pylist() == [100]


def test_a_member_that_stands_twice_is_proven_of_no_row() -> None:
    block = plain_block(2)
    twice = replace(block, layout=(*block.layout, Fetched("plan", "text", "id")))
    assert [one.reason for one in VALIDATOR.validate_rows(twice).rejections] == ["duplicate_member"] * 2


def test_a_member_named_event_type_is_proven_of_no_row() -> None:
    block = plain_block(2)
    layout = tuple(replace(one, member="event_type") if one.member == "plan" else one for one in block.layout)
    verdict = VALIDATOR.validate_rows(replace(block, layout=layout))
    assert [one.reason for one in verdict.rejections] == ["invalid"] * 2


@pytest.mark.parametrize("digits", [299, 300, 301, 336, 4300, 4301])
@pytest.mark.parametrize("shift", range(0, 74, 9))
def test_a_long_run_of_digits_is_found_wherever_it_begins(digits: int, shift: int) -> None:
    block = plain_block(3)
    texts = pa.array(['{"a": "' + "x" * shift + '"}', '{"n": ' + "7" * digits + "}", '{"a": 1}'], pa.string())
    place = block.rows.schema.get_field_index("metadata")
    found = replace(block, rows=block.rows.set_column(place, "metadata", texts))
    assert differ(found) == (3, 3 if digits < 300 else 2)
