"""`archiver.open` and what it gives: snapshots, named queries, SQL, events in every form."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import archiver
from archiver.archive import open_archive
from archiver.errors import ArchiveNotFoundError, ArchiverError, ConfigError, QueryError
from archiver.query import lazy
from archiver.store.local import LocalStore
from tests.support import archive_bodies, event, new_archive

DAY = "2026-03-{:02d}T10:15:00.000000Z"
BODIES = [
    event(f"e{n:02d}", workspace=f"ws_{n % 2}", timestamp=DAY.format(n + 1), version=n if n % 3 else None)
    for n in range(12)
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader") / "archive"
    archive_bodies(new_archive(folder), *BODIES)
    return folder


@pytest.fixture(scope="module", params=["native", "supplemented", "lines", "bucket"])
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> archiver.Reader:
    """The same events, in every way that a lazy frame may come to them."""
    folder = tmp_path_factory.mktemp(request.param) / "archive"
    made = new_archive(folder, format="jsonl.zst" if request.param == "lines" else "parquet")
    archive_bodies(made, *BODIES)
    if request.param == "supplemented":
        archive_bodies(made, event("e03", workspace="ws_1", timestamp=DAY.format(4), ip_city="Berlin"))
    if request.param == "bucket":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("archiver.reader.open_store", lambda place, _: Remote(Path(place)))
            return archiver.open(folder)
    return archiver.open(folder)


class Remote(LocalStore):
    """A stand-in for a bucket: nobody but the store itself may read its files."""

    def local_path(self, key: str) -> str | None:
        return None


def ids(frame: pl.LazyFrame) -> list[str]:
    return sorted(frame.collect()["id"].to_list())


COMPARED = ["id", "version", "event_time", "dt", "workspace", "ip_city"]


# --- snapshots


def test_a_reader_stays_at_its_snapshot_and_refresh_gives_the_newest(tmp_path: Path) -> None:
    made = new_archive(tmp_path / "a")
    archive_bodies(made, event("e1"))
    first = archiver.open(tmp_path / "a")
    archive_bodies(made, event("e2"))
    second = first.refresh()
    assert (first.sequence, second.sequence) == (1, 2)
    assert (len(ids(first.events().pl())), len(ids(second.events().pl()))) == (1, 2)
    assert first.sql("SELECT id FROM events").arrow().num_rows == 1
    assert second.head == open_archive(LocalStore(tmp_path / "a")).ledger.snapshot.digest != first.head
    assert first.as_of <= second.as_of
    assert second.as_of.tzinfo is UTC


def test_as_of_takes_a_commit_or_a_time_and_refresh_leaves_it(place: Path) -> None:
    old = archiver.open(place, as_of=0)
    assert old.sql("SELECT count(*) AS n FROM events").arrow().to_pylist() == [{"n": 0}]
    assert ids(old.events().pl()) == []
    assert archiver.open(place, as_of=datetime.now(UTC)).sequence == old.refresh().sequence == 1


@pytest.mark.parametrize("as_of", [-1, 2, True, "yesterday", date(1999, 1, 1), 1.5])
def test_no_such_snapshot_is_a_configuration_error(place: Path, as_of: Any) -> None:
    with pytest.raises(ConfigError):
        archiver.open(place, as_of=as_of)


# --- what is wrong is said


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("nothing/here", ArchiveNotFoundError),
        ("", ConfigError),
        ("s3a://bucket/x", ConfigError),
        ("a\0b", ConfigError),
        (42, ConfigError),
        (None, ConfigError),
    ],
)
def test_a_wrong_location_is_told_with_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: Any, error: type[ArchiverError]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as failed:
        archiver.open(location)
    assert failed.value.hint
    assert list(tmp_path.iterdir()) == []  # and none was made


@pytest.mark.parametrize(
    "options",
    [
        {"memory_limit": "much"},
        {"memory_limit": 1_000_000},
        {"memory_limit": "9" * 400 + "TB"},
        {"timeout_seconds": 0},
        {"timeout_seconds": "30"},
        {"timeout_seconds": float("nan")},
        {"queries": "no/such/folder"},
    ],
)
def test_options_that_mean_nothing_are_refused(place: Path, options: dict[str, Any]) -> None:
    with pytest.raises((ConfigError, QueryError)):
        archiver.open(place, **options)


def test_a_query_tells_what_is_wrong_with_its_parameters(place: Path) -> None:
    reader = archiver.open(place)
    for name, given, hint in [
        ("failed_login", {}, "failed_logins"),
        ("failed_logins", {"sinc": "7d"}, "since"),
        ("failed_logins", {"at_least": "many"}, "at_least"),
        ("failed_logins", {"since": object()}, "since"),
        (7, {}, ""),
    ]:
        with pytest.raises(ConfigError) as failed:
            reader.query(name, **given)  # type: ignore[arg-type]
        assert hint in failed.value.hint


@pytest.mark.parametrize(
    "given",
    [
        {"columns": ["ID"]},
        {"columns": []},
        {"columns": 7},
        {"columns": ["id", "id"]},
        {"columns": ['id" FROM events; --']},
        {"workspace": 7},
        {"since": 7},
        {"since": "soon"},
        {"since": datetime.max.replace(tzinfo=timezone(-timedelta(hours=14)))},
        {"since": "2026-03-27", "until": "2026-03-27"},
    ],
)
def test_events_tell_what_is_wrong_with_what_is_asked(place: Path, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        archiver.open(place).events(**given)


@pytest.mark.parametrize(
    ("statement", "parameters"),
    [
        ("SELECT ?", None),
        ("SELECT ?", [object()]),
        ("SELECT ?", "text"),
        ("SELECT ?", b"x"),
        ("SELECT ?", 7),
        ("SELECT $a", {"b": 1}),
        ("SELECT $a", {1: 1}),
        ("SELECT 1", [1]),
        (None, None),
        (b"SELECT 1", None),
    ],
)
def test_sql_that_cannot_be_asked_is_a_query_error(place: Path, statement: Any, parameters: Any) -> None:
    with pytest.raises(QueryError):
        archiver.open(place).sql(statement, parameters).arrow()


# --- named queries


def test_queries_are_listed_by_name_and_title(place: Path, tmp_path: Path) -> None:
    text = (archiver.open(place).queries["failed_logins"]).path.read_text()
    (tmp_path / "my_own.sql").write_text(text.replace("Failed logins", "Mine <b>"))
    queries = archiver.open(place, queries=tmp_path).queries
    assert {"failed_logins", "my_own"} <= set(queries.names())
    assert len(queries) == len(list(queries))
    assert "my_own" in queries
    assert "my_own" in repr(queries)
    assert "Mine &lt;b&gt;" in queries._repr_html_()
    with pytest.raises(ConfigError):
        queries["nothing"]


def test_a_query_takes_dates_and_datetimes(place: Path) -> None:
    reader = archiver.open(place)
    for since in (date(2026, 3, 1), datetime(2026, 3, 1), datetime(2026, 3, 1, tzinfo=UTC), "2026-03-01"):  # noqa: DTZ001
        assert reader.query("failed_logins", since=since).arrow().num_rows == 0


# --- events


def test_events_are_those_of_the_workspace_and_the_time(reader: archiver.Reader) -> None:
    some = reader.events(workspace="ws_1", since="2026-03-04", until=date(2026, 3, 8))
    assert ids(some.pl()) == sorted(some.arrow()["id"].to_pylist()) == ["e03", "e05"]
    edge = reader.events(since=DAY.format(2), until=DAY.format(3), columns=["id"])  # from, and not until
    assert ids(edge.pl()) == edge.arrow()["id"].to_pylist() == ["e01"]


def test_all_forms_of_events_are_equal(reader: archiver.Reader) -> None:
    events = reader.events(in_order=True)
    table, frame = events.arrow(), events.pl().collect()
    assert frame.schema == pl.DataFrame(pl.from_arrow(table)).schema == events.pl().collect_schema()
    assert frame.to_dicts() == table.to_pylist()
    assert list(events.df()["id"]) == table["id"].to_pylist() == [f"e{n:02d}" for n in range(12)]
    assert sum(batch.num_rows for batch in events.batches()) == 12
    assert table.column_names[-2:] == ["workspace", "dt"]
    assert table["dt"].to_pylist()[:2] == ["2026-03-01", "2026-03-02"]


def test_columns_come_in_the_order_asked_for(reader: archiver.Reader) -> None:
    events = reader.events(columns=["dt", "id"], since="2026-03-12")
    assert events.arrow().to_pylist() == [{"dt": "2026-03-12", "id": "e11"}]
    assert events.pl().collect().rows() == [("2026-03-12", "e11")]


PREDICATES: list[pl.Expr] = [
    pl.col("id") == "e03",
    pl.lit("e03") < pl.col("id"),
    (pl.col("version") > 3) & (pl.col("version") <= 7),
    (pl.col("version") > 7) | (pl.col("id") == "e00"),
    (pl.col("version") > 7) | pl.col("id").is_in(["e00"]),
    pl.col("id").is_in(["e01", "e02"]) & (pl.col("version") != 1),
    pl.col("version").is_null(),
    pl.col("version").is_not_null() & ~(pl.col("id") == "e01"),
    pl.col("version").eq_missing(None),
    pl.col("version") > 6.5,
    pl.col("id").str.starts_with("e0"),
    pl.col("id").is_between(pl.lit("e02"), pl.lit("e04"), closed="left"),
    pl.col("event_time") >= datetime(2026, 3, 9, 10, 15, tzinfo=UTC),
    pl.col("event_time") > datetime(2026, 3, 9, 10, 15, tzinfo=UTC),
    pl.col("dt").is_between(pl.lit("2026-03-02"), pl.lit("2026-03-03")),
    pl.col("workspace") == "ws_1",
    pl.col("ip_city") == "Berlin",
    pl.col("id") == "'; DROP VIEW events; --",
    pl.lit(value=False),
]


def test_a_condition_on_the_lazy_frame_means_what_it_means_on_a_frame(reader: archiver.Reader) -> None:
    frame = pl.DataFrame(pl.from_arrow(reader.events(in_order=True, columns=COMPARED).arrow()))
    asked = reader.events(columns=COMPARED).pl()
    for predicate in PREDICATES:
        found, expected = asked.filter(predicate).collect().sort("id"), frame.filter(predicate)
        assert found.equals(expected), predicate


def test_head_and_length_of_a_filtered_lazy_frame_are_right(reader: archiver.Reader) -> None:
    some = reader.events().pl().filter(pl.col("version") > 3, pl.col("id").is_in(["e04", "e05", "e07"]))
    assert some.select(pl.len()).collect(engine="in-memory").item() == 3
    assert set(some.select("id").head(2).collect(engine="in-memory")["id"]) < {"e04", "e05", "e07"}
    assert some.head(2).collect().height == 2


def test_selection_conditions_and_head_reach_the_statement(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = archiver.open(place)
    monkeypatch.setattr(lazy, "_native_paths", lambda *_: None)
    asked: list[tuple[str, Any]] = []
    original = lazy.Session.sql

    def sql(self: Any, statement: str, parameters: Any = None, **rest: Any) -> Any:
        asked.append((statement, parameters))
        return original(self, statement, parameters, **rest)

    monkeypatch.setattr(lazy.Session, "sql", sql)
    reader.events().pl().select("id").head(3).collect()
    frame = reader.events(workspace="ws_1").pl()
    frame.filter((pl.col("version") > 3) & pl.col("id").str.contains("e")).select("id").collect()
    frame.filter((pl.col("version") > 3) | (pl.col("action") == "x")).select("id").collect()
    assert asked == [
        ('SELECT "id" FROM events LIMIT 3', {}),
        (
            'SELECT "id", "version" FROM events WHERE workspace_id = $workspace AND ("version" > $p0)',
            {"workspace": "ws_1", "p0": 3},
        ),
        (
            'SELECT "id", "action", "version" FROM events WHERE workspace_id = $workspace '
            'AND ("version" > $p0 OR "action" = $p1)',
            {"workspace": "ws_1", "p0": 3, "p1": "x"},
        ),
    ]


def test_a_local_lazy_frame_opens_no_file_that_cannot_match(tmp_path: Path) -> None:
    archive_bodies(new_archive(tmp_path / "a"), *BODIES)
    (gone,) = (tmp_path / "a/events/workspace=ws_0/dt=2026-03-01").iterdir()
    gone.unlink()
    reader = archiver.open(tmp_path / "a")
    assert len(ids(reader.events(since="2026-03-02").pl())) == 11
    assert len(ids(reader.events(workspace="ws_1").pl())) == 6


def test_a_supplement_fills_its_event_in_the_lazy_frame(tmp_path: Path) -> None:
    made = new_archive(tmp_path / "a")
    archive_bodies(made, event("e1"), event("e2"))
    archive_bodies(made, event("e1", ip_city="Berlin"))
    frame = archiver.open(tmp_path / "a").events().pl()
    assert frame.filter(pl.col("ip_city") == "Berlin").select("id").collect().rows() == [("e1",)]
    assert frame.filter(pl.col("ip_city").is_null()).select("id").collect().rows() == [("e2",)]


def test_a_path_with_signs_of_a_pattern_is_read_as_it_is(tmp_path: Path) -> None:
    for name in ("a[b]*?'", "ab", "dt=2020-01-01"):
        archive_bodies(new_archive(tmp_path / name / "x"), event(f"in {name}"))
        assert ids(archiver.open(tmp_path / name / "x").events().pl()) == [f"in {name}"]
        assert (
            archiver.open(tmp_path / name / "x").events(columns=["dt"]).pl().collect().item() == "2026-03-26"
        )


def test_time_that_is_up_comes_out_of_collect_as_our_error(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = archiver.open(place, timeout_seconds=0.3)
    monkeypatch.setattr(lazy, "_native_paths", lambda *_: None)
    monkeypatch.setattr(lazy, "_select", lambda *_: "SELECT sleep_ms(600000)::VARCHAR AS id")
    with pytest.raises(QueryError, match="no answer within"):
        reader.events().pl().select("id").collect()


# --- threads


def test_several_threads_ask_one_reader(place: Path) -> None:
    reader = archiver.open(place)
    counted = reader.sql("SELECT count(*) AS n FROM events")

    def ask(number: int) -> Any:
        if number % 3 == 0:
            return counted.arrow().to_pylist()[0]["n"]
        if number % 3 == 1:
            return reader.events(columns=["id"]).pl().collect().height
        return reader.sql("SELECT count(*) AS n FROM events WHERE ?", [True]).pl().item()

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(ask, range(18))) == [12] * 18
