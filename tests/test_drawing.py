"""Drawings of answers: their scale, their edges, their width, and other people's text in their labels."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from archiver.query.drawing import MOST_BARS, MOST_LINES, MOST_POINTS, Sketch, Style
from archiver.query.header import Drawing
from archiver.query.session import Answer

PLAIN = Style(False, "ascii")
BARS = Drawing("bars", "n")
UTC = dt.UTC


def drawn(drawing: Drawing, width: int = 60, style: Style = Style(), **columns: Any) -> list[str]:  # noqa: B008
    table = pa.table(columns)
    sketch = Sketch(drawing, table.schema)
    for batch in table.to_batches(max_chunksize=7):
        sketch.add(batch)
    return sketch.text(width, style).splitlines()


def test_bars_are_as_long_as_their_values_and_the_scale_is_told() -> None:
    lines = drawn(BARS, 30, PLAIN, who=["ann", "bob", "cyd"], n=[20, 10, 1])
    assert lines == [
        "n: bars up to 20",
        "ann  20  #####################",
        "bob  10  ##########",
        "cyd   1  #",
    ]


def test_blocks_show_eighths() -> None:
    lines = drawn(BARS, 20, who=["a", "b", "c"], n=[26, 25, 1])
    # 20 cells less 1 for labels, 2 for numbers and 4 between leave 13.
    assert [line.split()[-1] for line in lines[1:]] == ["█" * 13, "█" * 12 + "▌", "▌"]


def test_nothing_is_drawn_for_zero_null_and_no_number_but_the_least_value_is_seen() -> None:
    lines = drawn(BARS, 40, PLAIN, who=list("abcd"), n=[0.0, None, math.nan, 1e-9])
    assert [line.split()[1:] for line in lines[1:]] == [["0"], ["null"], ["nan"], ["1e-09", "#" * 30]]
    big = drawn(BARS, 40, PLAIN, who=list("ab"), n=[1, 10**15])
    assert big[1].endswith("  #")


def test_negative_values_grow_to_the_left_of_an_axis() -> None:
    lines = drawn(BARS, 29, PLAIN, who=list("abc"), n=[10, -10, 0])
    assert lines[0] == "n: bars from -10 to 10"
    assert [line[8:] for line in lines[1:]] == ["          |##########", "##########|", "          |"]
    halves = drawn(BARS, 30, who=list("abcd"), n=[10, -10, -1.5, -2])
    assert [line[9:] for line in halves[2:]] == ["██████████│", "        ▐█│", "        ██│"]


def test_the_largest_numbers_that_there_are_have_bars() -> None:
    lines = drawn(BARS, 80, PLAIN, who=["a", "b", "c"], n=[1.7e308, -1.7e308, 0.85e308])
    assert [line.count("#") for line in lines[1:]] == [32, 32, 16]


@pytest.mark.parametrize(
    "values",
    [
        [math.inf, 1.0],
        [-math.inf, 1.0],
        [math.inf, -math.inf],
        [math.inf, -1.0],
        [-math.inf, math.nan],
        [1e308, -1e308],
        [5e-324, 0.0],
    ],
)
@pytest.mark.parametrize("width", [8, 20, 80])
def test_the_largest_and_infinite_values_fit(values: list[float], width: int) -> None:
    for style in (Style(), PLAIN):
        lines = drawn(BARS, width, style, who=["a", "b"], n=values)
        assert all(cell_len(line) <= width for line in lines)
        if width == 80:
            for line, value in zip(lines[1:], values, strict=True):
                assert (">" in line) == (value == math.inf)
                assert ("<" in line) == (value == -math.inf)


def test_integers_and_decimals_of_any_size_are_drawn() -> None:
    huge = [Decimal(10**37), Decimal(1)]
    lines = drawn(BARS, 100, PLAIN, who=["a", "b"], n=pa.array(huge, pa.decimal128(38, 0)))
    assert lines[1].split()[1] == "10" + 12 * ",000"
    assert lines[1].count("#") > 30
    assert lines[2].endswith("  #")


HOSTILE = "\x1b[31mred\x07 \u202etxt \x9b2J\r\n\u2800"


@pytest.mark.parametrize("drawing", [BARS, Drawing("bars", "n", "who"), Drawing("sparkline", "n", "who")])
def test_other_peoples_text_is_shown_and_not_sent(drawing: Drawing) -> None:
    for style in (Style(), PLAIN, Style(False, "latin-1")):
        text = "\n".join(
            drawn(drawing, 200, style, who=[HOSTILE, "b\ud800".encode("utf-8", "replace").decode()], n=[1, 2])
        )
        assert [char for char in "\x1b\x07\u202e\x9b\r\u2800" if char in text] == []
        assert "\\x1b[31mred" in text


def test_wide_characters_count_twice_and_long_labels_are_cut() -> None:
    lines = drawn(BARS, 40, who=["漢字" * 50, "x" * 500, "b"], n=[3, 2, 1])
    assert all(cell_len(line) <= 40 for line in lines)
    assert "…" in lines[1]
    assert "…" in lines[2]
    assert "~" in drawn(BARS, 40, PLAIN, who=["x" * 500, "b"], n=[2, 1])[1]


def test_a_label_leaves_out_what_all_rows_have_and_the_time_where_nobody_needs_it() -> None:
    when = [dt.datetime(2026, 3, 26, hour, 5, 7, tzinfo=UTC) for hour in (1, 2)]
    lines = drawn(BARS, 60, PLAIN, at=when, place=["ws", "ws"], who=["ann", "bob"], n=[2, 1], more=[9, 9])
    assert [line.split("  ")[0] for line in lines[1:]] == ["ann", "bob"]
    lines = drawn(BARS, 60, PLAIN, at=when, who=["ann", "ann"], n=[2, 1])
    assert [line.split("  ")[0] for line in lines[1:]] == ["2026-03-26 01:05", "2026-03-26 02:05"]
    lines = drawn(BARS, 60, PLAIN, who=["ann", None], of=["x", "y"], n=[2, 1])
    assert [line.split("  ")[0] for line in lines[1:]] == ["ann, x", "y"]
    assert [line.split("  ")[0] for line in drawn(BARS, n=[2, 1])[1:]] == ["1", "2"]
    by = drawn(Drawing("bars", "n", "of"), 60, PLAIN, who=["ann", "bob"], n=[2, 1], of=["x", "y"])
    assert [line.split("  ")[0] for line in by[1:]] == ["x", "y"]


def test_only_the_first_rows_are_bars_and_that_is_told() -> None:
    count = MOST_BARS + 5
    lines = drawn(BARS, 60, PLAIN, who=[str(n) for n in range(count)], n=list(range(count)))
    assert len(lines) == MOST_BARS + 2
    assert lines[-1] == f"(drawn: the first {MOST_BARS} of {count} rows)"


@pytest.mark.parametrize("drawing", [BARS, Drawing("sparkline", "n")])
def test_one_row_or_none_is_not_drawn(drawing: Drawing) -> None:
    assert drawn(drawing, n=pa.array([], pa.int64())) == []
    assert drawn(drawing, n=[1]) == []


@pytest.mark.parametrize(
    ("drawing", "told"),
    [
        (Drawing("bars", "m"), "the answer has no column m"),
        (Drawing("sparkline", "n", "m"), "the answer has no column m"),
        (Drawing("bars", "who"), "who holds no numbers"),
    ],
)
def test_an_answer_that_is_not_as_its_header_says_is_not_drawn(drawing: Drawing, told: str) -> None:
    assert drawn(drawing, who=["a", "b"], n=[1, 2]) == [f"({told}: nothing is drawn)"]


DAYS = [dt.date(2026, 3, day) for day in range(1, 9)]


def test_a_sparkline_goes_from_nothing_to_the_highest_mark() -> None:
    assert drawn(Drawing("sparkline", "n"), n=[0, 1, 2, 3, 4, 5, 6, 7, 8])[1:] == ["n  ·▁▂▃▄▅▆▇█  max 8"]
    plain = drawn(Drawing("sparkline", "n"), 60, PLAIN, n=[0, 1, 2, 3, 4, 5, 6, 7, 8])
    assert plain[1:] == ["n  _.:-=+*#@  max 8"]


def test_each_value_of_by_has_a_line_and_a_scale_of_its_own_told_beside_it() -> None:
    lines = drawn(
        Drawing("sparkline", "n", "who"),
        80,
        PLAIN,
        day=DAYS[:3] * 2,
        who=["ann"] * 3 + ["bob"] * 3,
        n=[1, 2, 4, 400, 200, 0],
    )
    assert lines == [
        "n by who: each line on a scale of its own, day from 2026-03-01 to 2026-03-03",
        "ann  :=@  max 4",
        "bob  @=_  max 400",
    ]


def test_marks_of_one_time_stand_below_each_other_though_a_line_lacks_some() -> None:
    rows = [(DAYS[2], "b", 1), (DAYS[0], "a", 1), (DAYS[1], "a", 2), (DAYS[2], "a", 2), (DAYS[0], "b", 1)]
    day, who, n = (list(column) for column in zip(*rows, strict=True))
    lines = drawn(Drawing("sparkline", "n", "who"), 80, PLAIN, day=day, who=who, n=n)
    assert lines[1:] == ["b  @ @  max 1", "a  =@@  max 2"]


def test_rows_that_share_a_time_are_drawn_in_the_order_of_the_rows() -> None:
    lines = drawn(Drawing("sparkline", "n"), 80, PLAIN, day=[DAYS[1], DAYS[1], DAYS[0]], n=[1, 2, 4])
    assert lines == ["n: each line on a scale of its own", "n  :=@  max 4"]


def test_null_infinite_and_negative_values_have_marks_of_their_own() -> None:
    lines = drawn(Drawing("sparkline", "n"), 80, PLAIN, n=[-4.0, None, math.inf, -math.inf, math.nan, 4.0])
    assert lines[1] == "n  . ^v?@  min -4 max 4"
    assert drawn(Drawing("sparkline", "n"), n=pa.array([None, None], pa.int64()))[1] == "n      no number"


def test_many_points_share_a_mark_that_shows_the_highest_of_them() -> None:
    values = [0] * 1_000
    values[777] = 9
    lines = drawn(Drawing("sparkline", "n"), 40, n=values)
    assert "each mark the highest of" in " ".join(" ".join(lines).split())
    assert lines[-1].count("█") == 1
    assert all(cell_len(line) <= 40 for line in lines)


def test_lines_and_points_beyond_a_bound_are_not_kept_and_that_is_told() -> None:
    names = [str(n) for n in range(MOST_LINES + 10)]
    lines = drawn(Drawing("sparkline", "n", "who"), 60, who=names * 2, n=[1] * len(names) * 2)
    assert len([line for line in lines if "max" in line]) == MOST_LINES
    assert "(drawn:" in lines[-1]
    table = pa.table({"n": pa.array(range(MOST_POINTS + 1))})
    sketch = Sketch(Drawing("sparkline", "n"), table.schema)
    for batch in table.to_batches():
        sketch.add(batch)
    assert sketch._kept == MOST_POINTS
    assert "(drawn:" in sketch.text(60, Style())


@given(
    rows=st.lists(st.tuples(st.text(max_size=30), st.none() | st.floats()), min_size=2, max_size=12),
    width=st.integers(1, 120),
    style=st.sampled_from([Style(), PLAIN, Style(False, "cp437")]),
    drawing=st.sampled_from([BARS, Drawing("sparkline", "n"), Drawing("sparkline", "n", "who")]),
)
def test_no_line_is_wider_than_the_terminal_and_none_fails(
    rows: list[tuple[str, float | None]], width: int, style: Style, drawing: Drawing
) -> None:
    names = [name.encode("utf-8", "replace").decode() for name, _ in rows]
    values = pa.array([value for _, value in rows], pa.float64())
    for line in drawn(drawing, width, style, who=names, n=values):
        assert cell_len(line) <= width
        assert line.isprintable()
        line.encode(style.encoding)


@pytest.mark.parametrize(
    ("encoding", "environment", "blocks"),
    [
        ("utf-8", {}, True),
        ("UTF8", {"TERM": "xterm"}, True),
        ("utf-8", {"NO_COLOR": "1"}, False),
        ("utf-8", {"TERM": "dumb"}, False),
        ("ascii", {}, False),
        ("latin-1", {}, False),
        (None, {}, False),
        ("no-such-encoding", {}, False),
    ],
)
def test_the_style_is_what_the_terminal_has(
    encoding: str | None, environment: dict[str, str], blocks: bool
) -> None:
    assert Style.of(encoding, environment).blocks is blocks


def test_watching_an_answer_changes_nothing_and_closes_it() -> None:
    class Rows(Answer):
        """A stand-in for an answer."""

        closed = 0

        def __init__(self) -> None:
            self.schema = pa.schema({"who": pa.string(), "n": pa.int64()})

        def batches(self) -> Iterator[pa.RecordBatch]:
            for n in range(3):
                yield pa.record_batch({"who": [str(n)], "n": [n]}, schema=self.schema)

        def close(self) -> None:
            self.closed += 1

    rows = Rows()
    sketch = Sketch(BARS, rows.schema)
    with sketch.watch(rows) as watched:
        assert watched.schema == rows.schema
        assert [batch.to_pydict()["n"] for batch in watched.batches()] == [[0], [1], [2]]
    assert rows.closed == 1
    assert len(sketch.text(60, PLAIN).splitlines()) == 4
