"""What the tests of queries on other engines share: all cases in one archive, and answers to compare.

An archive for each case would take minutes. So each case's workspaces get a name of its own in
front, and whoever asks for a case sees its rows alone, without that name: nothing else of them
differs. What must be found are the rows that were written out by hand, which DuckDB finds too
(`tests/queries/test_cases.py`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

import archiver
from archiver import clock
from archiver.delta.publish import publish
from archiver.query.catalog import Catalog, Query, Value
from archiver.reader import Reader
from tests.queries.case import Case, Delivery, archive_of, cases

CASES = cases()
# What another engine answers otherwise, and rightly so by its own rules; told in `portable.py`.
DIFFERENT = ("half_an_emoji_in_the_targets_hides_them_and_nothing_else",)


def name_of(number: int) -> str:
    return f"{CASES[number].query}-{CASES[number].name}"


@dataclass(frozen=True, slots=True)
class Asked:
    """A case, and what another engine is to be asked.

    Attributes:
        mark: What stands before the names of its workspaces.
        wanted: Its rows, as `comparable` writes them.
    """

    case: Case
    query: Query
    values: dict[str, Value]
    mark: str
    wanted: list[list[Any]]

    def answer(self, rows: Iterable[list[Any]]) -> list[list[Any]]:
        """Return the columns that the case tells of, of rows with all of the query's."""
        names = [column.name for column in self.query.columns]
        places = [names.index(name) for name in self.case.columns or names]
        return comparable([row[place] for place in places] for row in rows)


@dataclass(frozen=True, slots=True)
class Together:
    """All cases that ask of events, in one archive.

    Attributes:
        asked: By the case's place among all. A case that is not there asks of something else
            than events, or of one that has supplements, or is one of `DIFFERENT`.
    """

    reader: Reader
    place: Path
    asked: dict[int, Asked]

    def rows(self, one: Asked, view: str = "events") -> pa.Table:
        """Return the rows of one case, its workspaces called as it calls them."""
        there = len(one.mark) + 1
        return self.reader.sql(
            f"SELECT * REPLACE (workspace_id[{there}:] AS workspace_id, workspace[{there}:] AS workspace) "
            f"FROM {view} WHERE starts_with(workspace_id, '{one.mark}')"
        ).arrow()


def together(place: Path) -> Together:
    """Make the archive, with its Delta log."""
    deliveries: list[Delivery] = []
    found: dict[int, Asked] = {}
    catalog = Catalog()
    for number, case in enumerate(CASES):
        query = catalog.get(case.query)
        if "FROM quarantine" in query.statement or case.name in DIFFERENT:
            continue
        mark = f"case{number}~"
        deliveries += [_marked(one, mark) for one in case.deliveries]
        found[number] = Asked(case, query, query.bind(case.parameters), mark, comparable(case.rows))
    archive = archive_of(place / "together", tuple(deliveries))
    publish(archive)
    reader = archiver.open(place / "together")
    supplemented = reader.sql("SELECT DISTINCT workspace_id AS name FROM supplements").arrow()["name"]
    marks = {name.split("~")[0] + "~" for name in supplemented.to_pylist()}
    asked = {number: one for number, one in found.items() if one.mark not in marks}
    return Together(reader, place / "together", asked)


def _marked(one: Delivery, mark: str) -> Delivery:
    try:
        tree = json.loads(one.body)
        tree["workspace_id"] = mark + tree["workspace_id"]
    except (ValueError, KeyError, TypeError):
        return one  # of which no query of events sees anything
    return replace(one, body=json.dumps(tree).encode())


def rows_of(table: pa.Table) -> Iterable[Iterable[Any]]:
    """Return a table's rows; each a value for each column, also where two have one name."""
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def comparable(rows: Iterable[Iterable[Any]]) -> list[list[Any]]:
    """Return rows with times as microseconds, days as text, fractions with twelve digits."""
    return [[_plain(value) for value in row] for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return clock.to_us(value if value.tzinfo is not None else value.replace(tzinfo=UTC))
    if isinstance(value, date):
        return value.isoformat()
    if not isinstance(value, float | Decimal):
        return value
    number = float(value)
    return None if math.isnan(number) else float(f"{number:.11e}")
