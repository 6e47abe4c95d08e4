"""Query files: what a header may say, what is refused and how, folders of one's own, values of parameters."""

from __future__ import annotations

import os
import re
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from archiver import clock
from archiver.errors import ConfigError
from archiver.query.catalog import TOPICS, Catalog, Query, by_topic, queries_folder, read_query
from archiver.query.header import OPTIONS, TYPES, as_written, parse
from archiver.query.reference import EXAMPLE, reference
from archiver.query.statement import checked

ROOT = Path(__file__).resolve().parent.parent
NOW_US = clock.to_us(datetime(2026, 3, 26, 12, tzinfo=UTC))
HEAD = "-- title: T\n-- answers: A?\n-- when: W.\n"
STANDARD = (
    "-- param since TIMESTAMP '1970-01-01' from this moment on\n"
    "-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment\n"
)


def query(header: str = "", statement: str = "SELECT 1") -> Query:
    return parse(Path("q.sql"), f"{HEAD}{header}{statement}")


def of_kind(kind: str, default: str = "NULL") -> Query:
    return query(f"-- param x {kind} {default} what it is\n", "SELECT $x")


def test_a_header_is_read_as_it_is_written() -> None:
    found = query(
        "-- topic: Logins\n"
        "-- param at_least INTEGER -5 how many\n"
        "-- param who VARCHAR 'it''s, me' a name\n"
        "-- param share DOUBLE 0.5 of all\n"
        "-- param is_new BOOLEAN true only new ones\n"
        "-- param at TIMESTAMP '2026-03-26T10:15:00+02:00' when\n"
        "-- column n DECIMAL(18,3) a number\n-- column tags VARCHAR[] texts\n"
        "-- column at TIMESTAMP WITH TIME ZONE when\n"
        "-- draw: sparkline n by tags\n",
        "SELECT $at_least, $who, $share, $is_new, $at\n-- not $this\n;",
    )
    assert (found.name, found.title, found.answers, found.when, found.topic) == (
        "q",
        "T",
        "A?",
        "W.",
        "Logins",
    )
    assert [one.default for one in found.parameters] == [
        -5,
        "it's, me",
        0.5,
        True,
        datetime(2026, 3, 26, 8, 15, tzinfo=UTC),
    ]
    assert [one.default_text for one in found.parameters] == [
        "-5",
        "it's, me",
        "0.5",
        "true",
        "2026-03-26T08:15:00.000000Z",
    ]
    assert [one.kind for one in found.columns] == ["DECIMAL(18,3)", "VARCHAR[]", "TIMESTAMP WITH TIME ZONE"]
    assert found.drawing is not None
    assert (found.drawing.kind, found.drawing.column, found.drawing.by) == ("sparkline", "n", "tags")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("SELECT 1", "no title, no answers, no when"),
        (HEAD, "no statement"),
        (HEAD + "-- author: me\nSELECT 1", "line 4 is no line of a header"),
        (HEAD + "-- title: Again\nSELECT 1", "title stands twice"),
        (HEAD + "-- param x\nSELECT $x", "name TYPE default"),
        (HEAD + "-- param x INT 5 what\nSELECT $x", "INT is none of VARCHAR, INTEGER"),
        (HEAD + "-- param x INTEGER five what\nSELECT $x", "'five' is not a whole number"),
        (HEAD + "-- param x TIMESTAMP soon what\nSELECT $x", "the default of x: 'soon' is not a date"),
        (HEAD + "-- param x INTEGER 5 what\nSELECT 1", "does not use $x"),
        (HEAD + "-- param x INTEGER 5 what\n-- param x INTEGER 5 what\nSELECT $x", "twice"),
        (HEAD + "-- param x BOOLEAN true w\n-- param no_x INTEGER 5 w\nSELECT $x, $no_x", "no_"),
        (HEAD + "-- param since_day VARCHAR NULL what\nSELECT $since_day", "made from since"),
        (HEAD + "SELECT $since_day", "need the parameters since and until"),
        (HEAD + "SELECT $x", "no parameter x"),
        (HEAD + "SELECT $X", "no parameter X"),
        (HEAD + "-- column n BIGINT\nSELECT 1", "name TYPE what it means"),
        (HEAD + "-- column n BIGINT a\n-- column n BIGINT b\nSELECT 1", "column stands twice"),
        (HEAD + "-- draw: pie n\nSELECT 1", "draw is `bars COLUMN`"),
        (HEAD + "-- draw: bars n\nSELECT 1", "no column is called n"),
        (HEAD + "-- column n VARCHAR a\n-- draw: bars n\nSELECT 1", "only numbers can be drawn"),
    ],
)
def test_a_file_that_is_no_query_says_why(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_query(tmp_path / "q.sql")
    assert told in refused.value.message
    assert str(tmp_path / "q.sql") in refused.value.message


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_a_parameter_may_not_have_the_name_of_an_option(name: str) -> None:
    with pytest.raises(ValueError, match="is an option of `archiver query`"):
        query(f"-- param {name} VARCHAR NULL what\n", f"SELECT ${name}")


def test_the_negative_of_a_boolean_may_not_be_an_option_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archiver.query.header.OPTIONS", frozenset({"no_x"}))
    with pytest.raises(ValueError, match="--no-x is an option"):
        query("-- param x BOOLEAN true what\n", "SELECT $x")


def test_a_dollar_in_a_text_a_name_or_a_comment_is_no_parameter() -> None:
    found = query("", "SELECT '$a', '--', \"$b\" -- $c\n/* $d\n$e */ FROM x WHERE 'it''s $f' = ''")
    assert found.bind({}) == {}
    assert query("-- param x INTEGER 1 w\n", "SELECT '--', $x").bind({}) == {"x": 1}


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        ("VARCHAR", "", ""),
        ("VARCHAR", "'; DROP TABLE x", "'; DROP TABLE x"),
        ("INTEGER", " +7 ", 7),
        ("INTEGER", 2**63 - 1, 2**63 - 1),
        ("INTEGER", np.int64(7), 7),
        ("DOUBLE", "1e3", 1000.0),
        ("DOUBLE", 7, 7.0),
        ("BOOLEAN", "Yes", True),
        ("BOOLEAN", "0", False),
        ("TIMESTAMP", "2026-03-26", datetime(2026, 3, 26, tzinfo=UTC)),
        ("TIMESTAMP", "12h", datetime(2026, 3, 26, tzinfo=UTC)),
        ("TIMESTAMP", date(2026, 3, 26), datetime(2026, 3, 26, tzinfo=UTC)),
        ("TIMESTAMP", datetime(2026, 3, 26), datetime(2026, 3, 26, tzinfo=UTC)),  # noqa: DTZ001
        (
            "TIMESTAMP",
            datetime(2026, 3, 26, 1, tzinfo=timezone(timedelta(hours=1))),
            datetime(2026, 3, 26, tzinfo=UTC),
        ),
        ("TIMESTAMP", pd.Timestamp("2026-03-26T00:00:00.000001"), datetime(2026, 3, 26, 0, 0, 0, 1, UTC)),
    ],
)
def test_a_value_is_read_by_its_type(kind: str, given: Any, value: Any) -> None:
    found = of_kind(kind).bind({"x": given}, now_us=NOW_US)["x"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("VARCHAR", 7),
        ("VARCHAR", "\udcff"),
        ("INTEGER", "1.5"),
        ("INTEGER", "٧"),
        ("INTEGER", True),
        ("INTEGER", 2**63),
        ("INTEGER", 1.5),
        ("DOUBLE", "nan"),
        ("DOUBLE", float("inf")),
        ("DOUBLE", 10**400),
        ("BOOLEAN", "maybe"),
        ("BOOLEAN", 1),
        ("TIMESTAMP", "soon"),
        ("TIMESTAMP", 7),
        ("TIMESTAMP", pd.NaT),
        ("TIMESTAMP", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))),
    ],
)
def test_a_value_of_another_type_names_the_parameter_and_what_it_means(kind: str, given: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        of_kind(kind).bind({"x": given})
    assert refused.value.message.startswith("x: ")
    assert TYPES[kind] in refused.value.message  # type: ignore[index]
    assert "what it is" in refused.value.hint


@pytest.mark.parametrize(
    ("bounds", "extent", "taken", "refused"),
    [
        ("INTEGER(1..)", "from 1", [1, "5"], [0, "-1"]),
        ("INTEGER(..-2)", "up to -2", [-2], [-1]),
        ("INTEGER(0..100000)", "from 0 to 100,000", [0, 100_000], [-1, 100_001]),
        ("DOUBLE(0..1)", "from 0 to 1", [0, 1.0, "0.5"], [-0.001, "1.001"]),
    ],
)
def test_a_number_beyond_its_bounds_is_refused_with_what_they_are(
    bounds: str, extent: str, taken: list[Any], refused: list[Any]
) -> None:
    bounded = of_kind(bounds)
    assert bounded.parameters[0].extent == extent
    for given in taken:
        assert bounded.bind({"x": given}) == {"x": float(given)}
    for given in refused:
        with pytest.raises(ConfigError, match=re.escape(f"x: {given!r} is not a ")) as caught:
            bounded.bind({"x": given})
        assert caught.value.message.endswith(f"number {extent}")


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("VARCHAR(1..) NULL", "only numbers have bounds"),
        ("INTEGER(1..) 0", "'0' is not a whole number from 1"),
        ("INTEGER(a..) 0", "a parameter is"),
    ],
)
def test_bounds_that_are_none_or_exclude_the_default_are_refused(header: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        query(f"-- param x {header} what it is\n", "SELECT $x")


def test_none_and_nothing_are_the_default() -> None:
    assert of_kind("INTEGER", "5").bind({"x": None}) == of_kind("INTEGER", "5").bind({}) == {"x": 5}
    assert of_kind("INTEGER").bind({}) == {"x": None}


def test_an_unknown_parameter_is_refused_and_the_nearest_proposed() -> None:
    with pytest.raises(ConfigError) as refused:
        query("-- param at_least INTEGER 5 w\n", "SELECT $at_least").bind({"atleast": 3})
    assert refused.value.message == "q has no parameter 'atleast'"
    assert refused.value.hint == "did you mean at_least?"


def test_days_are_those_of_since_and_until_in_utc() -> None:
    found = query(STANDARD, "SELECT $since, $until, $since_day, $until_day")
    zone = timezone(timedelta(hours=-2))
    values = found.bind({"since": datetime(2026, 3, 25, 23, tzinfo=zone), "until": "2026-03-26T01:00:00Z"})
    assert (values["since_day"], values["until_day"]) == ("2026-03-26", "2026-03-26")
    assert found.bind({})["since_day"] == "1970-01-01"


def test_a_time_that_ends_before_it_begins_is_refused_and_an_empty_one_is_not() -> None:
    found = query(STANDARD, "SELECT $since, $until")
    with pytest.raises(ConfigError, match=r"since \(2026-03-02\) is after until \(2026-03-01\)"):
        found.bind({"since": "2026-03-02", "until": "2026-03-01"})
    assert found.bind({"since": "2026-03-01", "until": "2026-03-01"})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (False, "false"),
        (5, "5"),
        (datetime(2026, 3, 26, tzinfo=UTC), "2026-03-26"),
        (datetime(2026, 3, 26, 1, tzinfo=UTC), "2026-03-26T01:00:00.000000Z"),
    ],
)
def test_a_value_is_written_as_a_user_writes_it(value: Any, text: str) -> None:
    assert as_written(value) == text


def test_a_later_folder_takes_the_place_of_an_earlier_and_says_so(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.sql").write_text(f"{HEAD}SELECT '{folder}'")
    (tmp_path / "b" / "failed_logins.sql").write_text(f"{HEAD}SELECT 1")
    catalog = Catalog.of([tmp_path / "a", tmp_path / "b", tmp_path / "b" / ".." / "b"])
    assert catalog.get("mine").statement == "SELECT 'b'"
    assert catalog.entry("mine").replaces == tmp_path / "a" / "mine.sql"
    own = catalog.entry("failed_logins")
    assert (own.replaces, own.is_own) == (queries_folder() / "failed_logins.sql", True)
    assert catalog.entry("activity_of_actor").replaces is None
    assert not catalog.entry("activity_of_actor").is_own


def test_a_broken_file_is_listed_with_its_problem_and_holds_up_nobody(tmp_path: Path) -> None:
    (tmp_path / "good.sql").write_text(f"{HEAD}SELECT 1")
    (tmp_path / "broken.sql").write_text("SELECT 1")
    (tmp_path / "binary.sql").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "Not A Name.sql").write_text(f"{HEAD}SELECT 1")
    (tmp_path / "long.sql").write_text("x" * 262_145)
    (tmp_path / "folder.sql").mkdir()
    (tmp_path / "dangling.sql").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.sql")  # reading it would wait for ever
    (tmp_path / ".hidden.sql").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    catalog = Catalog.of([tmp_path])
    problems = {entry.name: entry.problem for entry in catalog.entries() if entry.path.parent == tmp_path}
    assert problems.pop("good") == ""
    assert set(problems) == {
        "broken",
        "binary",
        "Not A Name",
        "long",
        "folder",
        "dangling",
        "pipe",
    }
    assert all(problems.values())
    assert "good" in {one.name for one in catalog}
    assert "broken" not in {one.name for one in catalog}
    assert "Not A Name" not in catalog.names()
    for name in problems:
        with pytest.raises(ConfigError):
            catalog.get(name)


def test_a_broken_file_with_the_programs_own_name_does_not_fall_back(tmp_path: Path) -> None:
    (tmp_path / "failed_logins.sql").write_text("SELECT 1")
    with pytest.raises(ConfigError, match="no title"):
        Catalog.of([tmp_path]).get("failed_logins")


def test_a_folder_that_is_not_there_or_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere: no such folder"):
        Catalog.of([tmp_path / "nowhere"])
    (tmp_path / "gone").mkdir()
    catalog = Catalog.of([tmp_path / "gone"])
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigError, match="gone: cannot be read"):
        catalog.names()


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ConfigError) as refused:
        Catalog().get("faild_logins")
    assert refused.value.hint == "did you mean failed_logins?"
    with pytest.raises(ConfigError) as refused:
        Catalog().get("zzz")
    assert "archiver queries" in refused.value.hint


def test_a_file_may_begin_with_a_byte_order_mark_and_end_lines_as_windows_does(tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_bytes(b"\xef\xbb\xbf" + f"{HEAD}SELECT\n1;\n".replace("\n", "\r\n").encode())
    assert read_query(tmp_path / "q.sql").statement == "SELECT\n1"


def test_the_programs_own_queries_can_all_be_read_and_have_a_topic() -> None:
    entries = Catalog().entries()
    assert [entry.problem for entry in entries] == [""] * len(entries)
    assert {entry.topic for entry in entries} <= set(TOPICS)
    assert list(by_topic(entries)) == list(TOPICS)


def test_what_the_programs_own_queries_count_or_go_back_by_has_bounds() -> None:
    names = re.compile("at_least|limit|.*_(days|hour)|.*(within|window|offset|least)_minutes")
    for one in Catalog():
        for parameter in one.parameters:
            if parameter.kind == "INTEGER" and names.fullmatch(parameter.name):
                assert parameter.least is not None, (one.name, parameter.name)


def test_the_page_of_queries_is_up_to_date() -> None:
    page = (ROOT / "docs" / "queries.md").read_text(encoding="utf-8")
    assert page == reference(Catalog()), "run `make docs`"


def test_the_page_names_every_query_parameter_and_column() -> None:
    page = reference(Catalog())
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))
    assert set(sections) == set(Catalog().names())
    for one in Catalog():
        for name in [*(p.name for p in one.parameters), *(c.name for c in one.columns)]:
            assert f"| `{name}` |" in sections[one.name]


def test_the_example_of_the_page_is_a_query() -> None:
    found = parse(Path("logins_without_second_factor.sql"), EXAMPLE)
    checked(found.statement)
    assert found.drawing is not None
    assert found.bind({})["within_minutes"] == 5
    assert EXAMPLE in reference(Catalog())


def test_a_header_cannot_break_the_page(tmp_path: Path) -> None:
    text = "-- title: a | b <script> *c*\n-- answers: A?\n-- when: W.\n-- column n BIGINT x | y\nSELECT 1"
    (tmp_path / "q.sql").write_text(text)
    page = reference(Catalog((tmp_path,)))
    assert "a \\| b \\<script\\> \\*c\\*" in page
    assert "| `n` | BIGINT | x \\| y |" in page
