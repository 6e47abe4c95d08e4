"""Expiry: which files go, which a hold keeps, what stays readable, and that it races nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archiver import clock, layout
from archiver import retain as retaining
from archiver.archive import Archive, AsOf, open_archive
from archiver.config import Retention
from archiver.errors import CommitConflictError, ConfigError
from archiver.holds import release_hold, set_hold
from archiver.ledger import commit as protocol
from archiver.ledger.entry import Content, DataFile, Hold, digest_of
from archiver.retain import RetainReport, expiry_of, retain
from archiver.spans import Span, parse_span
from archiver.verify import verify
from tests.support import alert, archive_bodies, event, ids_of, new_archive, rows_of

TODAY = date(2026, 11, 23)
CASE = "case 7, asked for by legal"


@pytest.fixture(autouse=True)
def today(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is noon of the 23rd, and every commit is of that moment."""
    noon = clock.to_us(datetime(2026, 11, 23, 12, tzinfo=UTC))
    monkeypatch.setattr(clock, "now_us", lambda: noon)


def at(day: date, time: str = "10:15:00.000000") -> str:
    return f"{day.isoformat()}T{time}Z"


def days_ago(count: int) -> date:
    return TODAY - timedelta(count)


def us(day: date) -> int:
    return clock.to_us(datetime(day.year, day.month, day.day, tzinfo=UTC))


def keep(span: str, **rules: Any) -> Retention:
    return Retention(parse_span(span), **rules)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return new_archive(tmp_path / "a")


def add(archive: Archive, *ages: int, workspace: str = "ws_1") -> None:
    """Archive one event for each age in days; its id is its age."""
    archive_bodies(
        archive, *(event(f"{age:03d}", workspace=workspace, timestamp=at(days_ago(age))) for age in ages)
    )


def expired(report: RetainReport) -> dict[tuple[str, str], int]:
    return {where: extent.rows for where, extent in report.expired.items()}


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


# --- holds ---------------------------------------------------------------------------------------------


def test_a_hold_keeps_exactly_the_files_that_it_covers(archive: Archive) -> None:
    add(archive, 98, 99, 100, 101, 102)
    add(archive, 100, workspace="other")
    moment = clock.from_text(at(days_ago(100)))
    # One microsecond after the row of 101 days ago, up to and without that of 99.
    set_hold(
        archive,
        Hold("h", "ws_1", moment - 86_400_000_000 + 1, moment + 86_400_000_000, CASE),
    )
    report = retain(archive, keep("60d"))
    assert ids_of(archive) == ["100"]
    assert {row["workspace_id"] for row in rows_of(archive)} == {"ws_1"}
    assert {name: extent.rows for name, extent in report.held.items()} == {"h": 1}
    assert expired(report) == {("events", "ws_1"): 4, ("events", "other"): 1}


def test_a_holds_bounds_are_at_or_after_and_before(archive: Archive) -> None:
    add(archive, 99, 100, 101)
    moment = clock.from_text(at(days_ago(100)))
    set_hold(archive, Hold("from", "ws_1", moment, moment + 1, CASE))
    retain(archive, keep("60d"))
    assert ids_of(archive) == ["100"]
    set_hold(archive, Hold("from", "ws_1", moment - 5, moment, CASE), replace_cover=True)
    retain(archive, keep("60d"))
    assert ids_of(archive) == []


def test_when_the_last_hold_is_released_its_rows_expire(archive: Archive) -> None:
    add(archive, 100)
    set_hold(archive, Hold("one", "ws_1", reason=CASE))
    set_hold(archive, Hold("all", reason=CASE))
    assert set(retain(archive, keep("60d")).held) == {"one", "all"}
    release_hold(archive, "one", reason="settled")
    assert set(retain(archive, keep("60d")).held) == {"all"}
    assert ids_of(archive) == ["100"]
    release_hold(archive, "all", reason="settled")
    assert retain(archive, keep("60d")).held == {}
    assert ids_of(archive) == []


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Do something just before the next commits of `retain`."""

    def arrange(*deeds: Any) -> None:
        original, left = protocol.commit, list(deeds)

        def commit(ledger: Any, content: Content, **rest: Any) -> protocol.Outcome:
            if content.operation == "expire" and left:
                left.pop(0)()
            return original(ledger, content, **rest)

        monkeypatch.setattr(retaining.protocol, "commit", commit)

    return arrange


def test_a_hold_between_plan_and_commit_keeps_its_rows(archive: Archive, meanwhile: Any) -> None:
    add(archive, 100, workspace="a")
    add(archive, 100, workspace="b")
    other = open_archive(archive.store)
    meanwhile(lambda: set_hold(other, Hold("h", "a", reason=CASE)))
    report = retain(archive, keep("60d"))
    assert [row["workspace_id"] for row in rows_of(archive)] == ["a"]
    assert expired(report) == {("events", "b"): 1}
    assert set(report.held) == {"h"}
    assert verify(archive.store).damages == []


def _compact(archive: Archive) -> None:
    """Stand-in for a compaction: every file's rows in a new file, the same bytes."""
    files = archive.ledger.refresh().files.select()
    batch, attempt = digest_of(b"compact")[7:39], layout.new_attempt()
    added = []
    for number, file in enumerate(files):
        where = file.partition
        key = layout.data_file(
            where.dataset, where.workspace, date.fromisoformat(where.dt), batch, attempt, number, "parquet"
        )
        content = archive.store.get(file.key)
        archive.store.put(key, content)
        added.append(DataFile(key, file.digest, file.bytes, file.rows, file.min_us, file.max_us, file.bodies))
    content_ = Content(
        "compact", batch, attempt, added=tuple(added), removed=tuple(file.key for file in files)
    )
    outcome = protocol.commit(archive.ledger, content_, seen=archive.ledger.snapshot.sequence)
    assert isinstance(outcome, protocol.Committed)


def test_files_that_were_compacted_meanwhile_expire_in_their_new_form(
    archive: Archive, meanwhile: Any
) -> None:
    add(archive, 1, 100)
    other = open_archive(archive.store)
    meanwhile(lambda: _compact(other))
    report = retain(archive, keep("60d"))
    assert len(report.commits) == 1
    assert ids_of(archive) == ["001"]
    assert expired(report) == {("events", "ws_1"): 1}


def test_what_was_committed_before_a_conflict_is_reported_once(
    archive: Archive, meanwhile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retaining, "LONGEST_INLINE_LIST", 1)
    add(archive, 100, workspace="a")
    add(archive, 100, workspace="b")
    add(archive, 100, workspace="c")
    other = open_archive(archive.store)
    meanwhile(lambda: None, lambda: set_hold(other, Hold("h", "b", reason=CASE)))
    report = retain(archive, keep("60d"))
    assert expired(report) == {("events", "a"): 1, ("events", "c"): 1}
    assert len(report.commits) == 2


def test_an_expiry_that_is_always_overtaken_gives_up_and_says_so(archive: Archive, meanwhile: Any) -> None:
    add(archive, 100)
    other = open_archive(archive.store)

    def again() -> Iterator[Any]:
        for number in range(20):
            yield lambda number=number: _compact_as(other, number)

    meanwhile(*again())
    with pytest.raises(CommitConflictError, match="overtaken"):
        retain(archive, keep("60d"))
    assert ids_of(archive) == ["100"]


def _compact_as(archive: Archive, number: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "digest_of", lambda _: f"sha256:{number:032x}")
        _compact(archive)


# --- when a file may expire ----------------------------------------------------------------------------


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


# --- against a model -----------------------------------------------------------------------------------

WORKSPACES = ("a", "b")
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(WORKSPACES), st.integers(0, 120)),
        st.tuples(st.just("retain"), st.sampled_from([None, *WORKSPACES]), st.integers(31, 120)),
        st.tuples(
            st.just("hold"),
            st.sampled_from("xyz"),
            st.sampled_from([None, *WORKSPACES]),
            st.one_of(st.none(), st.integers(60, 120)),
            st.one_of(st.none(), st.integers(0, 59)),
        ),
        st.tuples(st.just("release"), st.sampled_from("xyz")),
    ),
    max_size=14,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTIONS)
def test_random_holds_and_expiries_do_what_a_dictionary_does(
    tmp_path_factory: pytest.TempPathFactory, actions: list[Any]
) -> None:
    archive = new_archive(tmp_path_factory.mktemp("model"))
    rows: dict[str, tuple[str, int]] = {}
    holds: dict[str, tuple[str | None, int | None, int | None]] = {}
    for number, (what, *how) in enumerate(actions):
        if what == "add":
            workspace, age = how
            archive_bodies(archive, event(f"e{number}", workspace=workspace, timestamp=at(days_ago(age))))
            rows[f"e{number}"] = (workspace, age)
        elif what == "retain":
            workspace, age = how
            retain(archive, Retention(Span(age, "d")), workspaces=[workspace] if workspace else [])
            rows = {
                one: (where, old)
                for one, (where, old) in rows.items()
                if old <= age
                or workspace not in (None, where)
                or any(
                    of in (None, where) and (since is None or old <= since) and (until is None or old > until)
                    for of, since, until in holds.values()
                )
            }
        elif what == "hold":
            name, workspace, since, until = how
            bounds = [None if age is None else us(days_ago(age)) for age in (since, until)]
            set_hold(archive, Hold(name, workspace, *bounds, CASE), replace_cover=True)
            holds[name] = (workspace, since, until)
        elif how[0] in holds:
            release_hold(archive, how[0], reason=CASE)
            del holds[how[0]]
        else:
            with pytest.raises(ConfigError):
                release_hold(archive, how[0], reason=CASE)
    assert ids_of(archive) == sorted(rows)
    assert set(archive.ledger.snapshot.holds) == set(holds)
    fresh = open_archive(archive.store).ledger.snapshot
    assert fresh.holds == archive.ledger.snapshot.holds
    assert verify(archive.store).damages == []


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
