"""Sessions: the views of one snapshot, on every store and in every format; and how answers are written."""

from __future__ import annotations

import csv
import io
import json
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from archiver.archive import Archive, open_archive
from archiver.errors import IntegrityError, QueryError
from archiver.query.output import Format, shown, write_answer
from archiver.query.session import Session, open_session, size_in_bytes
from archiver.store.base import Store
from archiver.store.local import LocalStore
from tests.support import alert, archive_bodies, event, new_archive

BODIES = [
    event("e1", ip_country="DE"),
    event("e2", workspace="ws_2", timestamp="2026-03-27T00:00:00.000000Z"),
    event("e3", workspace="ws_2", timestamp="2026-03-28T23:59:59.999999Z", version=7),
    alert("a1"),
    event("e1", ip_country="DE"),
    b'{"event_type":"event.created"}',
    b"\xff not even text",
]


def rows(archive: Archive | Session, statement: str, parameters: Any = None) -> list[dict[str, Any]]:
    session = open_session(archive) if isinstance(archive, Archive) else archive
    return session.sql(statement, parameters).arrow().to_pylist()


def written(archive: Archive, statement: str, form: Format, **options: Any) -> str:
    stream = io.BytesIO()
    write_answer(open_session(archive).sql(statement), form, stream, **options)
    return stream.getvalue().decode()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    made = new_archive(tmp_path_factory.mktemp("query") / "archive")
    archive_bodies(made, *BODIES)
    return made


@pytest.fixture
def empty(tmp_path: Path) -> Archive:
    return new_archive(tmp_path / "empty")


@pytest.mark.parametrize("form", ["parquet", "jsonl.gz", "jsonl.zst"])
def test_every_store_and_format_gives_the_same_events(store: Store, form: str) -> None:
    made = new_archive(store, format=form)
    archive_bodies(made, *BODIES)
    found = rows(made, "SELECT id, workspace_id, event_time, version, body FROM events ORDER BY id")
    assert [(one["id"], one["workspace_id"], one["version"]) for one in found] == [
        ("e1", "ws_1", None),
        ("e2", "ws_2", None),
        ("e3", "ws_2", 7),
    ]
    assert [one["body"].encode() for one in found] == BODIES[:3]
    assert found[2]["event_time"] == datetime(2026, 3, 28, 23, 59, 59, 999999, UTC)
    assert rows(made, "SELECT alert_id FROM alerts") == [{"alert_id": "a1"}]
    some = rows(made, "SELECT id FROM events WHERE event_time >= '2026-03-27' AND event_time < '2026-03-28'")
    assert some == [{"id": "e2"}]


def test_what_json_lines_do_not_know_is_null(tmp_path: Path) -> None:
    made = new_archive(tmp_path / "a", format="jsonl.zst")
    archive_bodies(made, event("e1"))
    assert rows(made, "SELECT received_at, source, ordinal FROM events") == [
        {"received_at": None, "source": None, "ordinal": None}
    ]


def test_an_empty_archive_has_all_views_with_their_types(empty: Archive) -> None:
    for view in ("events", "alerts", "supplements", "quarantine"):
        assert rows(empty, f"SELECT count(*) AS n FROM {view}") == [{"n": 0}]
    assert rows(empty, "SELECT typeof(max(event_time)) AS t FROM events") == [
        {"t": "TIMESTAMP WITH TIME ZONE"}
    ]
    assert rows(empty, "SELECT operation FROM commits") == [{"operation": "init"}]


def test_the_views_are_shown_and_described(archive: Archive) -> None:
    shown_names = [one["name"] for one in rows(archive, "SHOW TABLES")]
    assert shown_names == ["alerts", "commits", "events", "quarantine", "supplements"]
    assert {one["column_name"] for one in rows(archive, "DESCRIBE commits")} >= {"sequence", "digest", "read"}
    assert rows(archive, "SUMMARIZE events")
    assert rows(archive, "EXPLAIN SELECT count(*) FROM events")
    assert rows(archive, "EXPLAIN ANALYZE SELECT count(*) FROM events;")


def test_a_session_stays_at_its_snapshot(tmp_path: Path) -> None:
    made = new_archive(tmp_path / "a")
    archive_bodies(made, event("e1"))
    session = open_session(made)
    archive_bodies(made, event("e2"), b"{}")
    assert rows(session, "SELECT id FROM events") == [{"id": "e1"}]
    assert rows(session, "SELECT count(*) AS n FROM quarantine") == [{"n": 0}]
    assert rows(session, "SELECT max(sequence) AS n FROM commits") == [{"n": session.sequence}]
    assert rows(made, "SELECT count(*) AS n FROM events") == [{"n": 2}]


def test_the_quarantine_shows_reason_and_body(archive: Archive) -> None:
    found = rows(archive, "SELECT * FROM quarantine ORDER BY ordinal")
    assert [(one["commit"], one["ordinal"], one["name"], one["reason"]) for one in found] == [
        (1, 5, "1:5", "invalid"),
        (1, 6, "1:6", "not_utf8"),
    ]
    assert (found[0]["body"], found[0]["body_base64"]) == (BODIES[5].decode(), None)
    assert (found[1]["body"], found[1]["body_base64"]) == (None, "/yBub3QgZXZlbiB0ZXh0")
    assert {one["source"] for one in found} == {"spool"}


def test_what_was_moved_out_of_the_quarantine_is_not_shown(archive: Archive) -> None:
    moved = open_archive(archive.store)
    moved.ledger.snapshot.moved.add((1, 5))
    assert rows(moved, "SELECT name FROM quarantine") == [{"name": "1:6"}]


def test_the_commits_carry_counts_that_add_up(archive: Archive) -> None:
    first, second = rows(archive, "SELECT * FROM commits ORDER BY sequence")
    assert second["previous"] == first["digest"]
    assert second["digest"] == archive.ledger.snapshot.digest
    assert second["read"] == 7
    assert second["read"] == sum(
        second[name] for name in ("archived", "supplements", "duplicates", "quarantined")
    )
    assert (second["source"], second["rows"], second["inputs"]) == ("spool", 4, 1)


# --- supplements


def supplemented(place: Path, **encoding: Any) -> Archive:
    made = new_archive(place, **encoding)
    archive_bodies(made, event("e1", ip_city="Berlin"), event("e2"))
    archive_bodies(made, event("e1", ip_city="Berlin", ip_country="DE"))
    archive_bodies(made, event("e1", actor_name="Eve", version=3), event("e2", actor_name="Al"))
    return made


@pytest.mark.parametrize("form", ["parquet", "jsonl.gz"])
def test_several_supplements_fill_one_event_and_do_not_multiply_it(tmp_path: Path, form: str) -> None:
    made = supplemented(tmp_path / "a", format=form)
    assert rows(made, "SELECT count(*) AS n FROM supplements") == [{"n": 3}]
    found = rows(made, "SELECT id, ip_city, ip_country, actor_name, version FROM events ORDER BY id")
    assert found == [
        {"id": "e1", "ip_city": "Berlin", "ip_country": "DE", "actor_name": "Eve", "version": 3},
        {"id": "e2", "ip_city": None, "ip_country": None, "actor_name": "Al", "version": None},
    ]
    assert rows(made, "SELECT body FROM events WHERE id = 'e1'") == [
        {"body": event("e1", ip_city="Berlin").decode()}
    ]
    assert rows(made, "SELECT count(*) AS n FROM events") == [{"n": 2}]


def test_a_supplement_fills_only_within_the_identity_window(tmp_path: Path) -> None:
    made = new_archive(tmp_path / "a")
    late = "2026-08-01T00:00:00.000000Z"
    archive_bodies(made, event("e1"), event("e1", timestamp=late))
    archive_bodies(made, event("e1", actor_name="Eve", timestamp=late))
    found = rows(made, "SELECT actor_name FROM events ORDER BY event_time")
    assert found == [{"actor_name": None}, {"actor_name": "Eve"}]


def test_a_supplement_of_another_workspace_fills_nothing(tmp_path: Path) -> None:
    made = new_archive(tmp_path / "a")
    archive_bodies(made, event("e1"), event("e1", workspace="ws_2"))
    archive_bodies(made, event("e1", workspace="ws_2", actor_name="Eve"))
    found = rows(made, "SELECT workspace_id, actor_name FROM events ORDER BY 1")
    assert [one["actor_name"] for one in found] == [None, "Eve"]


def test_the_supplemented_view_still_prunes_by_time_and_gathers_only_what_is_asked(tmp_path: Path) -> None:
    made = new_archive(tmp_path / "a")
    archive_bodies(made, *BODIES)
    archive_bodies(made, event("e1", ip_country="DE", ip_city="Berlin"))
    statement = "SELECT ip_city FROM events WHERE event_time < '2026-03-27'"
    assert rows(made, statement) == [{"ip_city": "Berlin"}]
    plan = rows(made, f"EXPLAIN {statement}")[0]["explain_value"]
    assert "event_time < '2026-03-27" in plan  # among the filters of the base's files
    assert "Window" not in plan.title()
    assert "actor_name" not in plan


# --- what is read


class Watched(LocalStore):
    """A store whose files DuckDB may not read itself, and which notes what is asked of it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.calls: list[str] = []

    def local_path(self, key: str) -> str | None:
        return None

    def get(self, key: str, **part: Any) -> bytes:
        self.calls.append(key)
        return super().get(key, **part)

    def list(self, prefix: str = "", *, start_after: str = "") -> Any:
        self.calls.append(f"list {prefix}")
        return super().list(prefix, start_after=start_after)


def test_in_a_bucket_files_that_cannot_match_are_not_opened(tmp_path: Path) -> None:
    new = new_archive(tmp_path / "a")
    archive_bodies(new, *BODIES)
    made = open_archive(Watched(tmp_path / "a"))
    (gone,) = (tmp_path / "a/events/workspace=ws_2/dt=2026-03-28").iterdir()
    gone.unlink()
    assert rows(made, "SELECT id FROM events WHERE workspace_id = 'ws_1'") == [{"id": "e1"}]
    assert rows(made, "SELECT id FROM events WHERE event_time < '2026-03-28' ORDER BY 1") == [
        {"id": "e1"},
        {"id": "e2"},
    ]
    with pytest.raises(QueryError) as failed:
        rows(made, "SELECT count(*) FROM events")
    assert "verify" in failed.value.hint


def test_a_statement_lists_nothing_and_reads_the_quarantine_and_commits_only_when_it_scans_them(
    tmp_path: Path,
) -> None:
    archive_bodies(new_archive(tmp_path / "a"), *BODIES)
    store = Watched(tmp_path / "a")
    made = open_archive(store)
    store.calls.clear()
    rows(made, "SELECT count(*) FROM events")
    assert store.calls == []
    rows(made, "SELECT count(*) FROM quarantine")
    assert [key.split("/")[0] for key in store.calls] == ["_quarantine"]


def test_a_damaged_quarantine_file_is_an_integrity_error(tmp_path: Path) -> None:
    made = new_archive(tmp_path / "a")
    archive_bodies(made, b"{}")
    (file,) = (tmp_path / "a/_quarantine").iterdir()
    file.write_bytes(b"rubbish")
    with pytest.raises(IntegrityError, match="expected a quarantine file"):
        rows(made, "SELECT * FROM quarantine")


def test_a_folder_with_signs_of_a_pattern_in_its_name_is_read_exactly(tmp_path: Path) -> None:
    made = new_archive(tmp_path / "a[b]*?'")
    other = new_archive(tmp_path / "ab")
    archive_bodies(made, event("e1"))
    archive_bodies(other, event("other"))
    assert rows(made, "SELECT id FROM events") == [{"id": "e1"}]


# --- asking


def test_parameters_are_values_and_never_sql(archive: Archive) -> None:
    assert rows(archive, "SELECT ? AS x", ["'; DROP TABLE events"]) == [{"x": "'; DROP TABLE events"}]
    assert rows(archive, "SELECT id FROM events WHERE id = $id", {"id": "e2"}) == [{"id": "e2"}]


def test_columns_of_one_name_stay_apart(archive: Archive) -> None:
    assert open_session(archive).sql("SELECT 1 AS a, 2 AS a").arrow().column_names == ["a", "a_1"]


def test_an_answer_comes_in_batches_and_can_be_left(archive: Archive) -> None:
    with open_session(archive).sql("SELECT * FROM range(100000000000)") as answer:
        assert next(answer.batches()).num_rows > 0
    assert list(answer.batches()) == []


def test_the_time_zone_is_utc(archive: Archive) -> None:
    assert rows(archive, "SELECT TIMESTAMPTZ '2026-07-01 12:00:00'::VARCHAR AS t") == [
        {"t": "2026-07-01 12:00:00+00"}
    ]


@pytest.mark.parametrize(("text", "size"), [("1GB", 10**9), ("1.5 KiB", 1536), ("7b", 7)])
def test_sizes(text: str, size: int) -> None:
    assert size_in_bytes(text) == size


@pytest.mark.parametrize("text", ["", "1", "GB", "-1GB", "0MB", "1GB'; SELECT 1", "٣MB"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(QueryError, match="is no size"):
        size_in_bytes(text)


def test_after_the_time_is_up_the_session_answers_again(archive: Archive) -> None:
    session = open_session(archive, timeout_seconds=0.5)
    started = time.monotonic()
    with pytest.raises(QueryError, match=r"no answer within 0\.5 seconds"):
        rows(session, "SELECT count(*) FROM range(1000000000) a, range(1000000) b")
    assert time.monotonic() - started < 10
    assert rows(open_session(archive), "SELECT 1 AS one") == [{"one": 1}]


# --- writing

NASTY = "SELECT '=1+1' AS f, chr(27) || '[31m[red]x' AS e, chr(8238) || 'x' AS t, NULL AS gone"


def test_the_table_shows_control_characters_and_takes_nothing_for_markup(archive: Archive) -> None:
    text = written(archive, NASTY, "table", width=200)
    assert "\x1b" not in text
    assert "\\x1b[31m[red]x" in text
    assert "\u202e" not in text
    assert "\\u202ex" in text


def test_the_table_is_cut_to_the_terminal_and_nowhere_else(archive: Archive) -> None:
    statement = "SELECT repeat('界x', 100) AS wide, 12345 AS n"
    cut = written(archive, statement, "table", width=40).splitlines()
    assert all(len(line) <= 40 for line in cut)
    assert cut[2].endswith("12345")
    assert "…" in cut[2]
    assert "界x" * 100 in written(archive, statement, "table")


def test_more_columns_than_fit_are_written_one_a_line(archive: Archive) -> None:
    text = written(archive, "SELECT * FROM events WHERE id = 'e3'", "table", width=80)
    assert "workspace_id         ws_2\n" in text
    assert "ip_city" not in text


def test_an_empty_answer_has_its_columns(archive: Archive) -> None:
    statement = "SELECT id, version FROM events WHERE false"
    assert written(archive, statement, "table").startswith("id  version\n")
    assert written(archive, statement, "csv") == "id,version\n"
    assert json.loads(written(archive, statement, "json")) == []
    assert written(archive, statement, "jsonl") == ""


def test_csv_guards_formulas_unless_raw(archive: Archive) -> None:
    statement = "SELECT unnest(['=1', '+1', '-1', '@a', chr(9) || 'x', chr(13) || 'x', 'a=1']) AS v"
    guarded = list(csv.reader(io.StringIO(written(archive, statement, "csv"), newline="")))
    assert [row[0] for row in guarded[1:]] == ["'=1", "'+1", "'-1", "'@a", "'\tx", "'\rx", "a=1"]
    raw = list(csv.reader(io.StringIO(written(archive, statement, "csv", raw=True), newline="")))
    assert [row[0] for row in raw[1:]] == ["=1", "+1", "-1", "@a", "\tx", "\rx", "a=1"]
    assert written(archive, "SELECT -5 AS n", "csv") == "n\n-5\n"


def test_json_keeps_every_digit_and_writes_times_in_utc(archive: Archive) -> None:
    statement = """SELECT 9007199254740993 AS i, 170141183460469231731687303715884105727::HUGEINT AS h,
        sum(1) AS s, 1.50 AS d,
        TIMESTAMPTZ '2026-03-26 12:15:00.000001+02' AS t, TIMESTAMP '2026-03-26' AS naive,
        DATE '2026-03-26' AS day, [TIMESTAMPTZ '2026-03-26 00:00:00Z'] AS l, {'a': 1.5} AS o, 'x'::BLOB AS b,
        INTERVAL '3 days 1.5 seconds' AS span,
        'infinity'::TIMESTAMPTZ AS far, 'nan'::DOUBLE AS nan, NULL AS gone"""
    for form in ("json", "jsonl"):
        found = json.loads(written(archive, statement, form), parse_float=Decimal)  # type: ignore[arg-type]
        assert (found[0] if form == "json" else found) == {
            "i": 9007199254740993,
            "h": 2**127 - 1,
            "s": 1,
            "d": Decimal("1.50"),
            "t": "2026-03-26T10:15:00.000001Z",
            "naive": "2026-03-26T00:00:00.000000",
            "day": "2026-03-26",
            "l": ["2026-03-26T00:00:00.000000Z"],
            "o": {"a": Decimal("1.5")},
            "b": "eA==",
            "span": "P3DT1.5S",
            "far": "infinity",
            "nan": None,
            "gone": None,
        }


def test_json_holds_no_character_that_a_terminal_acts_upon(archive: Archive) -> None:
    text = written(archive, "SELECT chr(155) || chr(8238) || chr(27) || 'é' AS x", "jsonl")
    assert text.strip() == r'{"x":"\u009b\u202e\u001bé"}'
    assert json.loads(text) == {"x": "\x9b\u202e\x1bé"}


def test_markdown_escapes_what_it_would_take_for_its_own(archive: Archive) -> None:
    assert written(archive, "SELECT '<b>|*x' AS a", "markdown").splitlines() == [
        "| a |",
        "| --- |",
        r"| \<b\>\|\*x |",
    ]


def test_parquet_keeps_the_types(archive: Archive) -> None:
    stream = io.BytesIO()
    answer = open_session(archive).sql(
        "SELECT event_time, version, INTERVAL 1 DAY AS i FROM events WHERE id = 'e3'"
    )
    assert write_answer(answer, "parquet", stream) == 1
    table = pq.read_table(stream)
    assert table.schema.types == [pa.timestamp("us", tz="UTC"), pa.int64(), pa.string()]
    assert table["i"].to_pylist() == ["P1D"]


def test_an_instant_that_no_calendar_writes_is_an_error_and_no_wrong_text(archive: Archive) -> None:
    with pytest.raises(QueryError, match="years 1 to 9999"):
        written(archive, "SELECT TIMESTAMPTZ '12000-01-01 00:00:00Z' AS t", "csv")


def test_shown_leaves_printable_text_alone() -> None:
    assert shown("Zoë 界 🙂") == "Zoë 界 🙂"
    assert shown("a\nb\x00\x7f") == "a\\nb\\x00\\x7f"
