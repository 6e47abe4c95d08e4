"""Rows and rejections that were added, taken out or changed are named, even with every digest made anew."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from archiver import layout
from archiver.datafile import Encoding
from archiver.ledger.entry import digest_of
from tests.verifying import Chained, Tree, built, check, found, ledger, root

__all__ = ["built", "ledger", "root"]  # fixtures: pytest finds them here by name


def doubled(table: pa.Table) -> pa.Table:
    """The table, its last row twice under another id."""
    row = table.slice(table.num_rows - 1).to_pylist()[0]
    other = "11111111-2222-4333-8444-555555555555"
    row["body"], row["id"] = row["body"].replace(row["id"], other), other
    return pa.concat_tables([table, pa.Table.from_pylist([row], schema=table.schema)])


def test_a_row_added_to_a_file_makes_it_altered(root: Path, ledger: Chained) -> None:
    file = ledger.file()
    (root / file.key).write_bytes(Encoding().encode(doubled(ledger.rows(file)), "events"))
    assert found(check(root)) == {("altered", file.key)}


def test_a_row_added_with_the_digest_made_anew_is_inserted(root: Path, ledger: Chained) -> None:
    file = ledger.file()
    ledger.replace_file(file, doubled(ledger.rows(file)))
    assert found(check(root)) == {("inserted", file.key)}


def test_a_row_added_and_recorded_but_not_counted_is_miscounted(root: Path, ledger: Chained) -> None:
    file = ledger.file()
    ledger.replace_file(file, doubled(ledger.rows(file)), rows=file.rows + 1)
    assert found(check(root)) == {("miscounted", layout.commit(1))}


def test_a_row_taken_out_with_the_digest_made_anew_is_missing(root: Path, ledger: Chained) -> None:
    file = ledger.file()
    table = ledger.rows(file)
    ledger.replace_file(file, pa.concat_tables([table.slice(0, 1), table.slice(2)]))
    damages = found(check(root))
    assert ("missing", file.key) in damages
    assert {word for word, _ in damages} == {"missing"}  # a supplement may miss its event, too


def changed(table: pa.Table, name: str, value: Any) -> pa.Table:
    """The table with another value in the second row of one column."""
    rows = table.to_pylist()
    rows[1][name] = value
    return pa.Table.from_pylist(rows, schema=table.schema)


@pytest.mark.parametrize(("name", "value"), [("id", "another"), ("action", "another"), ("extra", "{}")])
def test_a_column_that_does_not_follow_from_the_body_makes_the_file_altered(
    root: Path, ledger: Chained, name: str, value: str
) -> None:
    file = min((ledger.file(n) for n in range(3)), key=lambda one: one.rows)
    table = ledger.rows(file).slice(0, 20)
    times = table["event_time"].cast(pa.int64())
    tree_counts = file.rows - table.num_rows
    ledger.replace_file(
        file,
        changed(table, name, value),
        rows=table.num_rows,
        min_us=times[0].as_py(),
        max_us=times[-1].as_py(),
    )
    ledger.change(1, lambda tree: _count_less(tree, tree_counts))
    report = check(root)
    assert ("altered", file.key) in found(report)
    assert "row 1" in next(one.found for one in report.damages if one.object == file.key)


def test_an_id_that_is_not_that_of_its_body_is_found_in_every_row(root: Path, ledger: Chained) -> None:
    file = max((ledger.file(n) for n in range(3)), key=lambda one: one.rows)
    assert file.rows > 64  # so that the sample leaves row 1 out
    ledger.replace_file(file, changed(ledger.rows(file), "id", "another"))
    assert ("altered", file.key) in found(check(root))


def _count_less(tree: Tree, rows: int) -> None:
    tree["counts"]["archived"] -= rows
    tree["counts"]["read"] -= rows


def test_a_body_that_is_no_event_makes_the_file_altered(root: Path, ledger: Chained) -> None:
    file = ledger.file()
    table = ledger.rows(file)
    first = json.loads(table["body"][0].as_py())
    del first["data"]["action"]
    rows = table.to_pylist()
    rows[0]["body"] = json.dumps(first)
    ledger.replace_file(file, pa.Table.from_pylist(rows, schema=table.schema))
    assert found(check(root)) == {("altered", file.key)}


def test_a_row_in_the_partition_of_another_workspace_makes_the_file_altered(
    root: Path, ledger: Chained
) -> None:
    workspaces = {ledger.file(n).partition.workspace for n in range(3)}
    file = ledger.file()
    other = next(iter(workspaces - {file.partition.workspace}), "ws_other")
    rows = ledger.rows(file).to_pylist()
    rows[0]["body"] = rows[0]["body"].replace(rows[0]["workspace_id"], other)
    rows[0]["workspace_id"] = other
    ledger.replace_file(file, pa.Table.from_pylist(rows, schema=ledger.rows(file).schema))
    assert found(check(root)) == {("altered", file.key)}


def test_a_file_of_rubbish_with_a_fitting_digest_is_altered(root: Path, ledger: Chained) -> None:
    file = ledger.file()
    (root / file.key).write_bytes(b"PAR1 no parquet PAR1")

    def record(tree: Tree) -> None:
        entry = next(one for one in tree["added"] if one["key"] == file.key)
        entry.update(digest=digest_of(b"PAR1 no parquet PAR1"), bytes=20)

    ledger.change(1, record)
    assert ("altered", file.key) in found(check(root))


def test_times_that_a_commit_records_wrongly_are_miscounted(root: Path, ledger: Chained) -> None:
    file = ledger.file()
    ledger.replace_file(file, ledger.rows(file), max_us=file.max_us + 1)
    assert found(check(root)) == {("miscounted", file.key)}


def _rewrite_quarantine(root: Path, ledger: Chained, change: Callable[[list[bytes]], list[bytes]]) -> str:
    key = ledger.quarantine()
    content = gzip.compress(b"".join(change(gzip.decompress((root / key).read_bytes()).splitlines(True))))
    (root / key).write_bytes(content)
    ledger.change(
        1, lambda tree: tree["quarantined"][0].update(digest=digest_of(content), bytes=len(content))
    )
    return key


@pytest.mark.parametrize(
    ("word", "change"),
    [
        ("missing", lambda lines: lines[1:]),
        ("altered", lambda lines: lines[::-1]),
        ("altered", lambda lines: [b"{}\n", *lines[1:]]),
        ("inserted", lambda lines: [*lines, lines[-1].replace(b'"ordinal":', b'"ordinal":99')]),
    ],
)
def test_entries_of_a_quarantine_file_are_counted_and_ordered(
    root: Path, ledger: Chained, word: str, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    key = _rewrite_quarantine(root, ledger, change)
    assert found(check(root)) == {(word, key)}
