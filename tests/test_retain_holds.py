"""Expiry beside holds, compactions and other commits: what is kept, and that it races nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archiver import clock, layout
from archiver import retain as retaining
from archiver.archive import Archive, open_archive
from archiver.config import Retention
from archiver.errors import CommitConflictError, ConfigError
from archiver.holds import release_hold, set_hold
from archiver.ledger import commit as protocol
from archiver.ledger.entry import Content, DataFile, Hold, digest_of
from archiver.retain import retain
from archiver.spans import Span
from archiver.verify import verify
from tests.expiring import CASE, add, archive, at, days_ago, expired, keep, today, us
from tests.support import archive_bodies, event, ids_of, new_archive, rows_of

__all__ = ["archive", "today"]  # fixtures: pytest finds them here by name

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
