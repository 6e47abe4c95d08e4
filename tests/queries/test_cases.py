"""Each named query gives the rows that were written out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

import archiver
from archiver.query.catalog import Catalog
from tests.queries.case import Case, answer, archive_of, cases


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.query}: {case.name}")
def test_a_case_of_a_query(case: Case, tmp_path: Path) -> None:
    archive_of(tmp_path / "a", case.deliveries)
    assert answer(archiver.open(tmp_path / "a"), case) == list(case.rows)


@pytest.mark.parametrize("query", list(Catalog()), ids=lambda query: query.name)
def test_the_header_names_the_columns_and_their_types(query, tmp_path: Path) -> None:
    archive_of(tmp_path / "a", ())
    reader = archiver.open(tmp_path / "a")
    told = reader.sql(f"DESCRIBE {query.statement}", query.bind({})).arrow().to_pylist()
    assert [(one["column_name"], one["column_type"]) for one in told] == [
        (one.name, one.kind) for one in query.columns
    ]
