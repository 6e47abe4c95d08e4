"""Expiry: which files go, and what stays readable."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver import clock, layout
from archiver import retain as retaining
from archiver.archive import Archive, AsOf, open_archive
from archiver.config import Retention
from archiver.errors import ConfigError
from archiver.holds import set_hold
from archiver.ledger.entry import DataFile, Hold
from archiver.retain import expiry_of, retain
from archiver.spans import Span, parse_span
from archiver.verify import verify
from tests.expiring import CASE, TODAY, add, archive, at, days_ago, expired, keep, today, us
from tests.support import alert, archive_bodies, event, ids_of

__all__ = ["archive", "today"]  # fixtures: pytest finds them here by name


def test_days_before_the_cutoff_expire_and_the_cutoff_day_stays(archive: Archive) -> None:
    cutoff = days_ago(60)
    archive_bodies(
        archive,
        event("last moment", timestamp=at(cutoff - timedelta(1), "23:59:59.999999")),
        event("first moment", timestamp=at(cutoff, "00:00:00.000000")),
        event("now", timestamp=at(TODAY)),
    )
    report = retain(archive, keep("60d"))
    assert ids_of(archive) == ["first moment", "now"]
    assert expired(report) == {("events", "ws_1"): 1}
    extent = report.expired["events", "ws_1"]
    assert extent.oldest == extent.newest == (cutoff - timedelta(1)).isoformat()
    assert retain(archive, keep("60d")).commits == []


def test_months_and_years_are_those_of_the_calendar(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    noon = clock.to_us(datetime(2024, 2, 29, 12, tzinfo=UTC))
    monkeypatch.setattr(clock, "now_us", lambda: noon)
    for day in ("2023-02-27", "2023-02-28", "2023-12-28", "2023-12-29"):
        archive_bodies(archive, event(day, timestamp=f"{day}T00:00:00Z"))
    retain(archive, keep("1y"))
    assert ids_of(archive) == ["2023-02-28", "2023-12-28", "2023-12-29"]
    retain(archive, keep("2mo"))
    assert ids_of(archive) == ["2023-12-29"]


def test_the_commit_says_expire_and_counts_nothing(archive: Archive) -> None:
    add(archive, 1, 100)
    before = archive.ledger.snapshot.totals
    (sequence,) = retain(archive, keep("60d")).commits
    said = archive.ledger.read(sequence).content
    assert said.operation == "expire"
    assert len(said.removed) == 1
    assert said.added == ()
    assert archive.ledger.snapshot.totals == before
    assert verify(archive.store).damages == []


def test_a_dry_run_says_the_same_and_writes_nothing(archive: Archive) -> None:
    add(archive, 1, 100, 200)
    there = [one.key for one in archive.store.list()]
    dry = retain(archive, keep("60d"), dry_run=True)
    assert [one.key for one in archive.store.list()] == there
    assert dry.to_json() | {"dry_run": False, "commits": [2]} == retain(archive, keep("60d")).to_json()


def test_rules_hold_by_dataset_and_workspace(archive: Archive) -> None:
    for workspace in ("a", "b", "c"):
        add(archive, 50, 100, 800, workspace=workspace)
        archive_bodies(
            archive,
            *(
                alert(f"{workspace}{age}", workspace=workspace, triggered_at=at(days_ago(age)))
                for age in (50, 100, 800)
            ),
        )
    rules = keep("60d", datasets={"alerts": Span(1, "y")}, workspaces={"b": Span(90, "d"), "c": None})
    assert expired(retain(archive, rules)) == {
        ("events", "a"): 2,
        ("events", "b"): 2,
        ("alerts", "a"): 1,
        ("alerts", "b"): 2,
    }


def test_only_what_is_named_expires(archive: Archive) -> None:
    for workspace in ("a", "b"):
        add(archive, 100, workspace=workspace)
        archive_bodies(archive, alert(workspace, workspace=workspace, triggered_at=at(days_ago(100))))
    named = retain(archive, keep("60d"), datasets=["alerts"], workspaces=["a"])
    assert expired(named) == {("alerts", "a"): 1}
    assert expired(retain(archive, keep("60d"), workspaces=["b"])) == {("alerts", "b"): 1, ("events", "b"): 1}
    assert ids_of(archive) == ["100"]


def test_supplements_expire_with_the_events(archive: Archive) -> None:
    then = at(days_ago(100))
    archive_bodies(archive, event("x", timestamp=then))
    archive_bodies(archive, event("x", timestamp=then, ip_city="Berlin"))
    assert ids_of(archive, "supplements") == ["x"]
    retain(archive, Retention(None, {"events": Span(60, "d")}))
    assert ids_of(archive, "supplements") == ids_of(archive) == []
    assert verify(archive.store).damages == []


def test_without_a_rule_nothing_expires_and_that_is_said(archive: Archive) -> None:
    add(archive, 5_000)
    with pytest.raises(ConfigError, match="nothing says how long") as caught:
        retain(archive, Retention())
    assert "--older-than" in caught.value.hint
    assert retain(archive, Retention(None, {}, {"ws_1": None})).commits == []


@pytest.mark.parametrize("span", ["30d", "4w", "1mo", "1d"])
def test_a_rule_shorter_than_the_identity_window_is_refused(archive: Archive, span: str) -> None:
    add(archive, 100)
    for rules in (
        keep(span),
        Retention(None, {"alerts": parse_span(span)}),
        keep("1y", workspaces={"w": parse_span(span)}),
    ):
        with pytest.raises(ConfigError, match="identity window of 31 days"):
            retain(archive, rules)
    assert ids_of(archive) == ["100"]
    assert retain(archive, keep("31d")).commits


def test_what_expired_is_readable_as_of_before(archive: Archive) -> None:
    add(archive, 1, 100)
    before = archive.ledger.refresh().sequence
    retain(archive, keep("60d"))
    assert ids_of(open_archive(archive.store, as_of=AsOf(sequence=before))) == ["001", "100"]
    assert ids_of(open_archive(archive.store)) == ["001"]


def test_a_long_expiry_is_cut_into_commits_that_stand_by_themselves(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retaining, "LONGEST_INLINE_LIST", 3)
    add(archive, *range(100, 108))
    report = retain(archive, keep("60d"))
    assert [len(archive.ledger.read(one).content.removed) for one in report.commits] == [3, 3, 2]
    assert expired(report) == {("events", "ws_1"): 8}
    assert report.expired["events", "ws_1"].files == 8
    assert ids_of(archive) == []


def test_planning_asks_for_old_files_only(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    add(archive, 1, 2, 100)
    files = type(archive.ledger.snapshot.files)
    asked: list[Any] = []
    original = files.select

    def select(self: Any, *args: Any, **rest: Any) -> list[DataFile]:
        found: list[DataFile] = original(self, *args, **rest)
        asked.append((rest.get("until_us"), len(found)))
        return found

    monkeypatch.setattr(files, "select", select)
    monkeypatch.setattr(files, "__iter__", None)
    monkeypatch.setattr(retaining, "after_commits", lambda *_: None)  # chores ask for themselves
    retain(archive, keep("60d"))
    assert all(until == us(days_ago(60)) for until, _ in asked)
    assert sum(count for _, count in asked) == 1


@given(
    st.dates(date(1990, 1, 1), date(2040, 1, 1)),
    st.builds(Span, st.integers(1, 40), st.sampled_from(["d", "w", "mo", "y"])),
)
def test_the_day_of_expiry_is_the_first_on_which_retain_takes_the_file(day: date, span: Span) -> None:
    key = layout.data_file("events", "w", day, "0" * 32, "0" * 28, 0, "parquet")
    first = expiry_of(DataFile(key, "", 0, 1, us(day), us(day)), Retention(span))
    assert first is not None
    assert span.before(first) > day
    assert span.before(first - timedelta(1)) <= day


def test_the_report_is_one_json_document(archive: Archive) -> None:
    add(archive, 100, 101)
    set_hold(archive, Hold("h", None, None, clock.from_text(at(days_ago(100))), CASE))
    told = json.loads(json.dumps(retain(archive, keep("60d")).to_json()))
    size = archive.ledger.at(1).files.select()[1].bytes
    day = days_ago(100).isoformat()
    assert told["expired"] == [
        {
            "dataset": "events",
            "workspace": "ws_1",
            "files": 1,
            "rows": 1,
            "bytes": size,
            "oldest": day,
            "newest": day,
        }
    ]
    assert [one["hold"] for one in told["held"]] == ["h"]
    assert told["commits"] == [3]
