"""Whatever a statement looks like: leaving files out never changes its answer.

Random statements over a small archive are asked twice, as they are and with every file made
known. What an ID or a constant stands for, and where it stands, is random too.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from archiver.archive import Archive
from archiver.errors import QueryError
from archiver.query.narrowing import Wanted
from archiver.query.session import open_session
from tests.support import alert, archive_bodies, event, new_archive

STATEMENTS = 60
FIRST = datetime(2026, 3, 25, tzinfo=UTC)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    made = new_archive(tmp_path_factory.mktemp("narrowing") / "archive")
    bodies = [
        event(f"{name}{day}{hour}", workspace=name, timestamp=f"2026-03-{day}T{hour}:00:00.000000Z")
        for name in "ab"
        for day in (25, 26, 27)
        for hour in ("00", "23")
    ]
    archive_bodies(made, *bodies[::2])
    archive_bodies(made, *bodies[1::2], alert("x1", workspace="a"), alert("x2", workspace="b"))
    more = event("a2600", workspace="a", timestamp="2026-03-27T05:00:00.000000Z", session_id="s1")
    assert archive_bodies(made, more).counts.supplements == 1
    made.identities.update()
    archive_bodies(made, event("late", workspace="b", timestamp="2026-03-26T12:00:00.000000Z"))
    return made


class Writer:
    """Writes random statements."""

    def __init__(self, seed: int) -> None:
        self.any = random.Random(seed)
        self.values: dict[str, Any] = {}

    def given(self, value: Any) -> str:
        if self.any.random() < 0.3:
            name = f"p{len(self.values)}"
            self.values[name] = value
            return f"${name}"
        return "NULL" if value is None else f"'{value}'"

    def instant(self) -> str:
        when = FIRST + timedelta(hours=self.any.randrange(-6, 80))
        text = f"{when:%Y-%m-%d %H:%M:%S}+00"
        return self.any.choice(
            [
                self.given(text),
                f"TIMESTAMPTZ '{text}'",
                f"DATE '{when:%Y-%m-%d}'",
                f"TIMESTAMPTZ '{text}' - {self.any.randrange(3)} * INTERVAL '12' HOUR",
                f"date_trunc('day', TIMESTAMPTZ '{text}')",
                f"CAST(CAST('{text}' AS TIMESTAMPTZ) AS DATE) + 1",
                "now()",
                "current_date - 30",
                "(SELECT max(event_time) FROM alerts)",
            ]
        )

    def day(self) -> str:
        text = f"{FIRST + timedelta(days=self.any.randrange(-1, 4)):%Y-%m-%d}"
        return self.any.choice([self.given(text), self.given(text[:7]), f"'{text}' || 'x'", self.given(None)])

    def atom(self, prefix: str, id_column: str) -> str:
        sign = self.any.choice(["=", "<", ">", "<=", ">=", "<>"])
        name = self.given(self.any.choice(["a", "b", "c"]))
        place = prefix + self.any.choice(["workspace", "workspace_id"])
        one = self.given(self.any.choice(["a2600", "b2723", "late", "x1", "nobody"]))
        return self.any.choice(
            [
                f"{place} {sign} {name}",
                f"{name} = {place}",
                f"{place} IN ({name}, upper('b'), NULL)",
                f"({self.given(self.any.choice([None, 'a']))} IS NULL OR {place} = {name})",
                f"{prefix}event_time {sign} {self.instant()}",
                f"{self.instant()} {sign} {prefix}event_time",
                f"{prefix}event_time BETWEEN {self.instant()} AND {self.instant()}",
                f"CAST({prefix}event_time AS DATE) {sign} DATE '2026-03-26'",
                f"{prefix}dt {sign} {self.day()}",
                f"{prefix}dt BETWEEN {self.day()} AND {self.day()}",
                f"{prefix}dt IN ({self.day()}, {self.day()})",
                f"{prefix}{id_column} = {one}",
                f"{prefix}{id_column} IN ({one}, 'a2500')",
                f"{prefix}source IS NOT NULL",
                self.any.choice(["true", "false", "NULL", "1 = 1"]),
            ]
        )

    def condition(self, prefix: str, id_column: str = "id", depth: int = 2) -> str:
        kind = self.any.random()
        if depth == 0 or kind < 0.3:
            return self.atom(prefix, id_column)
        if kind < 0.4:
            return f"NOT ({self.condition(prefix, id_column, depth - 1)})"
        word = " AND " if kind < 0.75 else " OR "
        return "(" + word.join(self.condition(prefix, id_column, depth - 1) for _ in range(2)) + ")"

    def statement(self) -> str:
        bare, e, f = self.condition(""), self.condition("e."), self.condition("f.")
        a = self.condition("a.", "alert_id")
        join = self.any.choice(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "SEMI JOIN", "ANTI JOIN"])
        shown = "count(*), min(e.id), max(e.id)"
        right = join not in ("SEMI JOIN", "ANTI JOIN")
        return self.any.choice(
            [
                f"SELECT id, action FROM events WHERE {bare}",
                f"SELECT * FROM events e WHERE {e}",
                f"SELECT 'a' AS workspace, id FROM events WHERE {bare}",
                f"SELECT * REPLACE ('b' AS workspace) FROM events WHERE {bare}",
                f"SELECT {shown} FROM events e {join} events f ON e.actor_id = f.actor_id AND {f} WHERE {e}",
                f"SELECT {shown} FROM events e {join} alerts a ON {a} AND {e}"
                + (f" WHERE {a}" if right else ""),
                f"SELECT {shown} FROM events e {join} alerts a USING (workspace) WHERE {e}",
                f"WITH events AS (SELECT * FROM events WHERE {bare}) SELECT {shown} FROM events e WHERE {e}",
                f"WITH x AS (SELECT * FROM events WHERE {bare}) SELECT {shown} FROM x e, x f WHERE {e}",
                f"SELECT id FROM events WHERE {bare} UNION ALL SELECT e.session_id FROM events e WHERE {e}",
                f"SELECT id FROM events e WHERE EXISTS (FROM alerts a WHERE a.dt = e.dt AND {a})",
                f"SELECT id FROM events e WHERE id IN (SELECT f.id FROM events f WHERE {f}) OR {e}",
                f"SELECT (SELECT count(*) FROM events e WHERE {e}), alert_id FROM alerts a WHERE {a}",
                f"SELECT n FROM alerts a, LATERAL (SELECT count(*) AS n FROM events e WHERE {e}) WHERE {a}",
                f"SELECT id FROM events e WHERE {e} QUALIFY row_number() OVER (ORDER BY event_time, id) < 3",
                f"SELECT workspace, count(*) FROM events e WHERE {e} GROUP BY ALL HAVING count(*) > 1",
                f"SELECT e.* FROM events AS e(x, id, workspace) WHERE e.workspace <> {self.given('a')}",
                f"SELECT id, session_id FROM (FROM events) e WHERE {e}",
                f"SELECT s.id, e.session_id FROM supplements s JOIN events e ON s.id = e.id WHERE {e}",
            ]
        )


def test_files_that_are_left_out_change_no_answer(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> None:
    seed = random.SystemRandom().randrange(10**9)
    record_property("seed", seed)
    session = open_session(archive)
    answered = 0
    for number in range(seed, seed + STATEMENTS):
        writer = Writer(number)
        statement = writer.statement()
        values = {name: value for name, value in writer.values.items() if f"${name}" in statement} or None
        answers: list[Any] = []
        for all_files in (True, False):
            with monkeypatch.context() as patch:
                if all_files:
                    patch.setattr("archiver.query.session.wanted_by", lambda *_: Wanted())
                try:
                    with session.sql(statement, values) as found:
                        answers.append(sorted(map(repr, found.arrow().to_pylist())))
                except QueryError as error:
                    answers.append(error.message.splitlines()[0])
        assert answers[0] == answers[1], f"seed {number}: {statement} {values}"
        answered += isinstance(answers[0], list)
    assert answered > STATEMENTS / 4, f"seed {seed}"
