"""What a statement is told to want never loses a row, and where it is plain, few files are left."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from archiver.archive import Archive
from archiver.query.narrowing import NOTHING, Narrow, Wanted, wanted_by
from archiver.query.pinned import Pinned
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
    archive.identities.update()
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
    ("SELECT id, session_id FROM events WHERE ($w IS NULL OR workspace = $w) AND dt <= $d",
     {"w": None, "d": "2026-03-26"}),
    ("SELECT id, session_id FROM events WHERE ($w IS NULL OR workspace = $w)", {"w": "a"}),
    ("SELECT id FROM events WHERE dt > '2026-03-26' OR workspace = 'b' AND dt = '2026-03-25'", None),
    ("SELECT id FROM events WHERE dt BETWEEN '2026-03' AND '2026-03-26x'", None),
    ("SELECT id FROM events WHERE dt IN ('2026-03-25', NULL, '2026-03-27')", None),
    ("SELECT x.id, y.id FROM events x JOIN events y ON x.actor_id = y.actor_id AND y.dt = '2026-03-26' "
     "WHERE x.dt = '2026-03-25'", None),
    ("SELECT x.id, y.id FROM events x LEFT JOIN events y ON y.dt = '2026-03-26' AND y.workspace = 'b' "
     "WHERE x.dt = '2026-03-25'", None),
    ("SELECT e.id, a.alert_id FROM events e LEFT JOIN alerts a ON e.workspace = 'a'", None),
    ("SELECT e.id FROM events e ANTI JOIN alerts a ON e.workspace = 'a'", None),
    ("SELECT id FROM events WHERE id = 'a26'", None),
    ("SELECT id, session_id FROM events WHERE id IN ('a26', 'b27', 'nobody')", None),
    ("SELECT * FROM supplements WHERE id = 'a26'", None),
    ("SELECT alert_id FROM alerts WHERE alert_id = 'alert-b'", None),
    ("SELECT id FROM events WHERE event_time >= $t - $n * INTERVAL 1 DAY",
     {"t": datetime(2026, 3, 27, 12, tzinfo=UTC), "n": 1}),
    ("WITH alerts AS (SELECT DATE '1990-01-01' AS current_date) SELECT id FROM events, alerts "
     "WHERE event_time > current_date", None),
    ("SELECT count(*) FROM events WHERE dt IN ('2026-3-25', NULL::DATE)", None),
    ("SELECT count(*) FROM events WHERE dt IN ('2026-3-25', $d)", {"d": date(1970, 1, 1)}),
    ("SELECT count(*) FROM events \u00df JOIN alerts ss ON ss.workspace = 'a'", None),
    ("SELECT id FROM events, (SELECT 'x' AS \"work\u017fpace\") WHERE \"work\u017fpace\" = 'x'", None),
    ("SELECT id FROM events WHERE workspace = $\u00df AND $ss = 'b'", {"\u00df": "a", "ss": "b"}),
    ("FROM histogram('events', action)", None),
    ("SELECT e FROM events e WHERE workspace = 'a'", None),
    ("SELECT e.e2.session_id FROM (SELECT events AS e2 FROM events) e", None),
    ("SUMMARIZE events", None),
    ("SELECT count(*) FROM quarantine", None),
    ("DESCRIBE events", None),
    ("SELECT count(*) FROM commits", None),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "parameters"), STATEMENTS, ids=[one for one, _ in STATEMENTS])
def test_the_answer_is_the_same_whether_files_are_left_out_or_not(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, statement: str, parameters: Any
) -> None:
    answers = []
    for asked in (Wanted(), None):
        with monkeypatch.context() as patch:
            if asked is not None:
                patch.setattr("archiver.query.session.wanted_by", lambda *_: Wanted())
            with open_session(archive).sql(statement, parameters) as answer:
                answers.append(sorted(map(repr, answer.arrow().to_pylist())))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("where", "narrow"),
    [
        ("workspace_id = 'a'", Narrow(frozenset("a"))),
        ("'a' = e.workspace_id AND id = 'x'", Narrow(frozenset("a"), ids=frozenset("x"))),
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
        ("event_time::date = '2026-03-26'", Narrow(None, MARCH_26, MARCH_26 + DAY_US)),
        ("dt = '2026-03-26'", Narrow(None, MARCH_26, MARCH_26 + DAY_US)),
        ("dt < '2026-03-26'", Narrow(None, None, MARCH_26)),
        ("dt >= '2026-03-25x' AND dt <= '2026-03-26~'", Narrow(None, MARCH_26, MARCH_26 + DAY_US)),
        ("dt > '9999-12-31'", NOTHING),
        ("dt >= TIMESTAMP '2026-03-26 00:00:00'", Narrow()),
        ("id = 'x' OR id IN ('y', lower('Z'))", Narrow(ids=frozenset("xyz"))),
        ("id = 'x' OR workspace = 'a'", Narrow()),
        ("alert_id = 'x'", Narrow()),
        ("workspace = 'a' OR e.workspace_id = 'b'", Narrow(frozenset("ab"))),
        ("workspace = 'a' OR 1 = 2", Narrow(frozenset("a"))),
        ("workspace = 'a' OR NULL IS NULL", Narrow()),
        ("workspace = NULL", NOTHING),
        ("workspace = 'A' COLLATE NOCASE", Narrow()),
        ("event_time >= DATE '2026-03-27' - INTERVAL 1 DAY", Narrow(None, MARCH_26)),
        ("event_time >= date_trunc('day', TIMESTAMPTZ '2026-03-26 10:00:00Z')", Narrow(None, MARCH_26)),
        ("event_time >= epoch_ms(hash(1))", Narrow()),
        ("NOT workspace = 'a'", Narrow()),
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
        "SELECT * FROM alerts FULL JOIN events ON events.workspace_id = 'a'",
        "SELECT * FROM events LEFT JOIN alerts ON events.workspace_id = 'a'",
        "SELECT * FROM alerts RIGHT JOIN events ON events.workspace_id = 'a'",
        "SELECT * FROM events ANTI JOIN alerts ON events.workspace_id = 'a'",
        "SELECT * FROM alerts NATURAL JOIN events WHERE workspace_id = 'a'",
        "SELECT * FROM alerts ASOF JOIN events USING (event_time) WHERE events.workspace_id = 'a'",
    ],
)
def test_when_in_doubt_no_file_is_left_out(statement: str) -> None:
    assert wanted_by(statement, None).narrow.get("events", Narrow()) == Narrow()


@pytest.mark.parametrize(
    "where",
    [
        "event_time >= now() - INTERVAL 7 DAY",
        "dt >= strftime(current_date - 7, '%Y-%m-%d')",
        "event_time > date_trunc('month', current_timestamp)",
    ],
)
def test_what_depends_on_the_present_is_a_day_wider(where: str) -> None:
    from archiver import clock  # noqa: PLC0415

    since = wanted_by(f"SELECT * FROM events WHERE {where}", None).narrow["events"].since_us
    assert since is not None
    days = (clock.now_us() - since) / DAY_US
    assert (8 <= days < 9.1) if "7" in where else (days < 33)


@pytest.mark.parametrize(
    "where",
    [
        "event_time >= now() - (now() - TIMESTAMPTZ '2026-03-26')",
        "event_time >= to_timestamp(epoch(now()) % 86400)",
        "dt >= strftime(now(), '%d')",
    ],
)
def test_what_neither_grows_nor_falls_with_the_present_is_not_believed(where: str) -> None:
    assert wanted_by(f"SELECT * FROM events WHERE {where}", None).narrow["events"] == Narrow()


def test_a_parameter_that_is_no_text_or_is_missing_narrows_nothing() -> None:
    for given in ({"x": "\ud800"}, {"x": object()}, {}, None):
        assert wanted_by("FROM events WHERE id = $x", given).narrow["events"] == Narrow()
    assert wanted_by("FROM events WHERE id = ?", ["y" * 10**6]).narrow["events"].ids == {"y" * 10**6}


@pytest.mark.parametrize(
    ("statement", "columns"),
    [
        ("SELECT e.Action, count(*) FROM events e GROUP BY 1", {"e", "action"}),
        ("SELECT id FROM events JOIN alerts USING (workspace)", {"id", "workspace"}),
        ("SELECT * FROM events", None),
        ("SELECT count(events) FROM events", None),
        ("SELECT COLUMNS('ip.*') FROM events", None),
        ("SELECT id FROM events NATURAL JOIN alerts", None),
        ("SELECT x FROM events AS e(x)", None),
        ("SELECT #3 FROM events", None),
    ],
)
def test_which_columns_a_statement_can_use(statement: str, columns: set[str] | None) -> None:
    assert wanted_by(statement, None).columns == columns


def test_only_files_that_can_matter_are_made_known(archive: Archive) -> None:
    def counts(statement: str) -> dict[str, int]:
        files = Pinned.of(archive).files_for(wanted_by(statement, None))
        return {name: len(found) for name, found in files.items()}

    where = "FROM events WHERE workspace_id = 'a' AND event_time < '2026-03-26'"
    assert counts(f"SELECT session_id {where}") == {"events": 1, "alerts": 0, "supplements": 1}
    assert counts(f"SELECT action {where}") == {"events": 1, "alerts": 0, "supplements": 0}
    assert counts("SELECT * FROM events WHERE workspace = 'b'") == {
        "events": 3,
        "alerts": 0,
        "supplements": 0,
    }
    assert counts("SELECT * FROM events WHERE id = 'a26'") == {"events": 1, "alerts": 0, "supplements": 1}
    assert counts("SELECT * FROM events WHERE false") == {"events": 0, "alerts": 0, "supplements": 0}


def test_a_session_can_be_confined_to_files(archive: Archive) -> None:
    session = open_session(archive, workspaces=["b"], since_us=MARCH_26, until_us=MARCH_26 + DAY_US)
    with session.sql("SELECT id FROM events") as answer:
        assert answer.arrow()["id"].to_pylist() == ["b26"]


def test_a_session_stays_at_its_snapshot_while_the_ledger_moves(tmp_path: Path) -> None:
    archive = new_archive(tmp_path / "archive")
    archive_bodies(archive, event("a"), b"rubbish")
    session = open_session(archive)
    archive_bodies(archive, event("b"), b"rubbish again")
    with session.sql("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM quarantine)") as answer:
        assert list(answer.arrow().to_pylist()[0].values()) == [1, 1]


def test_no_constant_grows_beyond_what_was_written() -> None:
    bomb = "'a'"
    for _ in range(3):
        bomb = f"replace({bomb}, 'a', '{'a' * 100}')"
    # Nothing limits what is evaluated beforehand: it is left to the statement, which has limits.
    assert wanted_by(f"SELECT id FROM events WHERE id = {bomb}", None).narrow == {"events": Narrow()}
