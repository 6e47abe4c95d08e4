"""Spans by the calendar, and which rule of a configuration holds for what."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.config import Retention, read_settings
from archiver.errors import ConfigError
from archiver.spans import Span, parse_span

SPANS = st.builds(Span, st.integers(1, 99_999), st.sampled_from(["d", "w", "mo", "y"]))
SHORT = st.builds(Span, st.integers(1, 120), st.sampled_from(["d", "w", "mo", "y"]))


@pytest.mark.parametrize(
    ("span", "day", "before"),
    [
        ("1d", "2026-03-01", "2026-02-28"),
        ("1d", "2024-03-01", "2024-02-29"),
        ("2w", "2026-01-01", "2025-12-18"),
        ("400d", "2026-11-23", "2025-10-19"),
        ("1mo", "2026-03-31", "2026-02-28"),
        ("1mo", "2024-03-31", "2024-02-29"),
        ("1mo", "2026-01-15", "2025-12-15"),
        ("2mo", "2026-01-31", "2025-11-30"),
        ("13mo", "2025-03-29", "2024-02-29"),
        ("13mo", "2026-03-29", "2025-02-28"),
        ("12mo", "2024-02-29", "2023-02-28"),
        ("1y", "2024-02-29", "2023-02-28"),
        ("4y", "2024-02-29", "2020-02-29"),
        ("100y", "2000-02-29", "1900-02-28"),
    ],
)
def test_a_span_before_a_day_is_by_the_calendar(span: str, day: str, before: str) -> None:
    assert parse_span(span).before(date.fromisoformat(day)) == date.fromisoformat(before)


@pytest.mark.parametrize(
    ("span", "day", "after"),
    [
        ("1mo", "2026-01-31", "2026-02-28"),
        ("1y", "2024-02-29", "2025-02-28"),
        ("4y", "2024-02-29", "2028-02-29"),
        ("1mo", "2025-12-31", "2026-01-31"),
        ("30d", "2026-01-31", "2026-03-02"),
    ],
)
def test_a_span_after_a_day_is_by_the_calendar(span: str, day: str, after: str) -> None:
    assert parse_span(span).after(date.fromisoformat(day)) == date.fromisoformat(after)


@pytest.mark.parametrize(
    "text", ["", "0d", "-1d", "1", "d", "1m", "1.5y", "1h", "1 d", "٣d", "100000d", "1D", "1d2w", "forever"]
)
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no span of days"):
        parse_span(text)


def test_a_span_is_written_as_it_is_read() -> None:
    for text in ("400d", "2w", "13mo", "7y"):
        assert str(parse_span(text)) == text


@given(SPANS, st.dates())
def test_a_span_never_leaves_the_calendar(span: Span, day: date) -> None:
    assert span.before(day) <= day <= span.after(day)


@given(SHORT, st.dates(date(1000, 1, 1), date(3000, 1, 1)))
def test_a_span_is_never_shorter_than_it_says(span: Span, day: date) -> None:
    assert (day - span.before(day)).days >= span.shortest_days
    assert (span.after(day) - day).days >= span.shortest_days


@given(SHORT, st.dates(date(1000, 1, 1), date(3000, 1, 1)))
def test_a_later_day_has_no_earlier_cutoff(span: Span, day: date) -> None:
    assert span.before(day) <= span.before(day + timedelta(1))


# --- which rule ----------------------------------------------------------------------------------------

D60, Y2, Y7 = Span(60, "d"), Span(2, "y"), Span(7, "y")


def test_a_workspaces_rule_comes_before_a_datasets_and_that_before_keep() -> None:
    rules = Retention(D60, {"alerts": Y2}, {"w": Y7, "for_ever": None})
    assert rules.span_for("events", "other") == D60
    assert rules.span_for("alerts", "other") == Y2
    assert rules.span_for("alerts", "w") == rules.span_for("events", "w") == Y7
    assert rules.span_for("alerts", "for_ever") is None


def test_supplements_go_with_the_events_unless_they_have_a_rule_of_their_own() -> None:
    assert Retention(D60, {"events": Y2}).span_for("supplements") == Y2
    assert Retention(D60, {"events": Y2, "supplements": Y7}).span_for("supplements") == Y7
    assert Retention(D60).span_for("supplements") == D60


def test_a_span_that_is_given_takes_the_place_of_keep_and_of_what_is_named_with_it() -> None:
    rules = Retention(Y2, {"alerts": Y2}, {"w": Y7})
    bare = rules.with_span(D60)
    assert bare.span_for("events", "other") == D60
    assert bare.span_for("alerts", "other") == Y2
    assert bare.span_for("events", "w") == Y7
    assert rules.with_span(D60, workspaces=["w"]).span_for("alerts", "w") == D60
    assert rules.with_span(D60, workspaces=["w"]).span_for("events", "other") == Y2
    assert rules.with_span(D60, ["alerts"]).span_for("alerts", "other") == D60
    assert rules.with_span(D60, ["alerts"]).span_for("alerts", "w") == Y7


def _read(folder: Path, text: str) -> Retention:
    (folder / "archiver.toml").write_text(text)
    return read_settings(folder / "archiver.toml").retention


def test_rules_are_read_from_the_configuration(tmp_path: Path) -> None:
    rules = _read(
        tmp_path,
        '[retention]\nkeep = "400d"\n[retention.datasets]\nalerts = "2y"\n'
        '[retention.workspaces]\nw = "7y"\n"odd name" = "forever"\n',
    )
    assert rules == Retention(Span(400, "d"), {"alerts": Y2}, {"w": Y7, "odd name": None})
    assert _read(tmp_path, "") == Retention()
    assert _read(tmp_path, '[retention]\nkeep = "forever"\n').keep is None


@pytest.mark.parametrize(
    "text",
    [
        '[retention]\nkeep = "400"',
        "[retention]\nkeep = 400",
        '[retention]\nkept = "400d"',
        '[retention.datasets]\nevent = "400d"',
        "[retention.workspaces]\nw = 7",
        '[retention]\nworkspaces = "7y"',
    ],
)
def test_a_rule_that_means_nothing_is_an_error_with_the_files_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"archiver\.toml: \[retention"):
        _read(tmp_path, text)
