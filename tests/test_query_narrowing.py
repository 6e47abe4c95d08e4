"""What a statement is told to want never loses a row, and where it is plain, few files are left."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from archiver.archive import Archive
from archiver.query import views
from archiver.query.narrowing import Narrow, wanted_by
from archiver.query.session import open_session
from tests.support import alert, archive_bodies, event, new_archive

MARCH_26 = 1_774_483_200_000_000
DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    archive = new_archive(tmp_path_factory.mktemp("narrowing") / "archive")
    for workspace in ("a", "b", "c"):
        for day in ("25", "26", "27"):
            times = {"workspace": workspace, "timestamp": f"2026-03-{day}T10:15:00.000000Z"}
            archive_bodies(archive, event(f"{workspace}{day}", **times))
        archive_bodies(archive, alert(f"alert-{workspace}", workspace=workspace))
    more = event("a26", workspace="a", timestamp="2026-03-27T09:00:00.000000Z", session_id="s1")
    report = archive_bodies(archive, more)
    assert report.counts.supplements == 1
    return archive


STATEMENTS: list[tuple[str, Any]] = [
    ("SELECT id, session_id FROM events WHERE workspace_id = 'a'", None),
    ("SELECT id, session_id FROM events WHERE workspace_id = 'a' AND event_time::date = '2026-03-26'", None),
    ("SELECT id, session_id FROM events WHERE event_time < '2026-03-27' AND event_time > '2026-03-26'", None),
    ("SELECT id FROM events WHERE event_time BETWEEN ? AND ?", [date(2026, 3, 26), date(2026, 3, 27)]),
    ("SELECT id FROM events WHERE event_time > $t", {"t": datetime(2026, 3, 26, 10, 15, tzinfo=UTC)}),
    ("SELECT id FROM events WHERE event_time = TIMESTAMP '2026-03-26 10:15:00'", None),
    ("SELECT id FROM events WHERE TIMESTAMPTZ '2026-03-26 12:00:00+02' <= event_time", None),
    ("SELECT id FROM events WHERE workspace_id IN ('a', ?) ORDER BY id LIMIT 4", ["b"]),
    ("SELECT id FROM events WHERE workspace_id IN ('a', lower('B'))", None),
    ("SELECT id FROM events WHERE workspace_id = 'a' OR event_time > '2026-03-27'", None),
    ("SELECT id FROM events WHERE NOT workspace_id = 'a'", None),
    ("SELECT id FROM events WHERE (workspace_id = 'a') = false", None),
    ("SELECT id FROM events WHERE workspace_id = 'a' UNION ALL SELECT id FROM events", None),
    ("SELECT a.alert_id, e.id FROM alerts a LEFT JOIN events e USING (workspace_id) "
     "WHERE a.workspace_id = 'a' AND e.workspace_id IS NOT NULL", None),
    ("SELECT a.alert_id, e.id FROM alerts a LEFT JOIN events e ON e.workspace_id = 'a'", None),
    ("SELECT a.alert_id, e.id FROM alerts a FULL JOIN events e USING (workspace_id) "
     "WHERE e.event_time > '2026-03-27' OR e.id IS NULL", None),
    ("SELECT e.session_id FROM events e, supplements s WHERE s.event_time > '2026-03-27'", None),
    ("SELECT id, session_id FROM events e WHERE EXISTS (FROM supplements s WHERE s.id = e.id "
     "AND s.workspace_id = 'a' AND s.event_time > '2027-01-01') OR e.workspace_id = 'a'", None),
    ("WITH events AS (SELECT * FROM events WHERE workspace_id = 'b') SELECT id FROM events", None),
    ("WITH x AS (FROM events WHERE workspace_id = 'b') SELECT x.id, y.id FROM x, x AS y", None),
    ("SELECT 'a' AS workspace_id, id FROM events WHERE workspace_id = 'b'", None),
    ("SELECT * REPLACE ('a' AS workspace_id) FROM events WHERE workspace_id = 'b'", None),
    ("SELECT e.x FROM events AS e(y, x) WHERE e.x IS NOT NULL", None),
    ("SELECT id, count(*) OVER () AS n FROM events WHERE event_time >= '2026-03-27' QUALIFY n > 0", None),
    ("SELECT workspace_id, count(*) FROM events GROUP BY ALL HAVING workspace_id = 'a'", None),
    ("SELECT count(*) FROM events WHERE event_time > now() - INTERVAL 1 DAY", None),
    ("SELECT (SELECT count(*) FROM events WHERE workspace_id = 'a') AS n, alert_id FROM alerts", None),
    ("FROM (FROM events) WHERE workspace_id = 'c'", None),
    ("SELECT id FROM events SEMI JOIN alerts USING (workspace_id) WHERE workspace_id = 'c'", None),
    ("SELECT id FROM events ANTI JOIN alerts a ON a.workspace_id = 'c' WHERE workspace_id = 'c'", None),
    ("SELECT alert_id FROM alerts WHERE workspace_id = 'c' AND event_time < '2026-03-27'", None),
    ("SELECT id FROM supplements WHERE event_time < '2026-03-27'", None),
    ("SELECT id FROM events WHERE workspace_id = 'a' AND workspace_id = 'b'", None),
    ("SELECT id FROM events WHERE event_time > 'infinity'", None),
    ("SELECT count(*) FROM quarantine", None),
    ("DESCRIBE events", None),
    ("SELECT count(*) FROM commits", None),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "parameters"), STATEMENTS, ids=[one for one, _ in STATEMENTS])
def test_the_answer_is_the_same_whether_files_are_left_out_or_not(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, statement: str, parameters: Any
) -> None:
    answers = []
    for many in (10**9, 0):
        monkeypatch.setattr(views, "MANY_FILES", many)
        with open_session(archive).sql(statement, parameters) as answer:
            answers.append(sorted(map(repr, answer.arrow().to_pylist())))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("where", "narrow"),
    [
        ("workspace_id = 'a'", Narrow(frozenset("a"))),
        ("'a' = e.workspace_id AND id = 'x'", Narrow(frozenset("a"))),
        ("WORKSPACE_ID IN ('a', 'b') AND workspace_id <> 'b'", Narrow(frozenset("ab"))),
        ("event_time >= '2026-03-26'", Narrow(None, MARCH_26)),
        ("event_time < TIMESTAMPTZ '2026-03-26 00:00:00Z'", Narrow(None, None, MARCH_26 + 1)),
        (
            "event_time BETWEEN DATE '2026-03-26' AND '2026-03-27'",
            Narrow(None, MARCH_26, MARCH_26 + DAY_US + 1),
        ),
        ("'2026-03-26' > event_time", Narrow(None, None, MARCH_26 + 1)),
        ("workspace_id = 12", Narrow()),
        ("workspace_id = 'a' OR id = 'x'", Narrow()),
        ("other.workspace_id = 'a'", Narrow()),
        ("event_time > 'no time'", Narrow()),
        ("event_time::date = '2026-03-26'", Narrow()),
    ],
)
def test_what_a_condition_says_of_the_files(where: str, narrow: Narrow) -> None:
    wanted = wanted_by(f"SELECT * FROM events AS e WHERE {where}", None)
    assert wanted.views == {"events"}
    assert wanted.narrow["events"] == narrow


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM events TABLESAMPLE 10% WHERE workspace_id = 'a'",
        "SELECT * FROM events e(workspace_id, id) WHERE workspace_id = 'a'",
        "SELECT 'a' AS workspace_id FROM events WHERE workspace_id = 'a'",
        "SELECT * FROM events WHERE workspace_id = 'a' UNION SELECT * FROM events",
        "SELECT * FROM alerts POSITIONAL JOIN events WHERE events.workspace_id = 'a'",
        "SELECT * FROM alerts LEFT JOIN events ON true WHERE events.workspace_id = 'a'",
        "SELECT * FROM alerts ASOF JOIN events USING (event_time) WHERE events.workspace_id = 'a'",
    ],
)
def test_when_in_doubt_no_file_is_left_out(statement: str) -> None:
    assert wanted_by(statement, None).narrow.get("events", Narrow()) == Narrow()


def test_only_files_that_can_matter_are_made_known(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(views, "MANY_FILES", 0)
    pinned = views.Pinned.of(archive)
    statement = "SELECT id FROM events WHERE workspace_id = 'a' AND event_time < '2026-03-26'"
    files = pinned.files_for(lambda: wanted_by(statement, None))
    assert {name: len(found) for name, found in files.items()} == {"events": 1, "alerts": 0, "supplements": 1}


def test_a_session_can_be_confined_to_files(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    for many in (10**9, 0):
        monkeypatch.setattr(views, "MANY_FILES", many)
        session = open_session(archive, workspaces=["b"], since_us=MARCH_26, until_us=MARCH_26 + DAY_US)
        with session.sql("SELECT id FROM events") as answer:
            assert answer.arrow()["id"].to_pylist() == ["b26"]


def test_a_session_stays_at_its_snapshot_while_the_ledger_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "MANY_FILES", 0)
    archive = new_archive(tmp_path / "archive")
    archive_bodies(archive, event("a"), b"rubbish")
    session = open_session(archive)
    archive_bodies(archive, event("b"), b"rubbish again")
    with session.sql("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM quarantine)") as answer:
        assert list(answer.arrow().to_pylist()[0].values()) == [1, 1]
