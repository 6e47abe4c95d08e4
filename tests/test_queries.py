"""The named queries: each says what it is for, runs as it stands, and gives these rows for those events."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from archiver.columns import SCHEMAS
from archiver.query.catalog import queries_folder, query_path

FILES = sorted(queries_folder().glob("*.sql"))
PARAMETER = re.compile(
    r"-- param ([a-z_]+) (TIMESTAMP|INTEGER|VARCHAR|BOOLEAN) ('[^']*'|[0-9]+|true|false) (.+)"
)


def at(text: str) -> datetime:
    """`29 02:11:05` is that moment in March 2026."""
    return datetime.fromisoformat(f"2026-03-{text}").replace(tzinfo=UTC)


def event(name: str, when: str, actor: str, action: str, **more: Any) -> dict[str, Any]:
    usual = {
        "event_type": "event.created",
        "workspace_id": "ws_1",
        "actor_name": actor.title(),
        "ip_country": "DE",
        "ip_address": "192.0.2.1",
        "shape": "webhook",
        "source": "spool",
        "ordinal": 0,
    }
    moments = dict.fromkeys(("timestamp", "event_time", "received_at"), at(when))
    return usual | moments | {"id": name, "actor_id": actor, "action": action} | more


def answer(name: str, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run a query as it stands over `events`, in a zone that is not UTC."""
    table = pa.Table.from_pylist(events, schema=SCHEMAS["events"])
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'America/New_York'")
        connection.register("events", table)
        result = connection.sql(query_path(name).read_text()).to_arrow_table()
        rows: list[dict[str, Any]] = result.to_pylist()
    return rows


def only(rows: list[dict[str, Any]], *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in rows]


def failures(count: int, actor: str = "mallory", **more: Any) -> list[dict[str, Any]]:
    """Failed logins at 10:00, 10:01, and so on."""
    return [
        event(f"f-{actor}-{n}", f"29 10:{n:02d}:00", actor, "auth.login_failed", **more) for n in range(count)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_query_says_what_it_answers_and_when_to_ask(path: Path) -> None:
    lines = path.read_text().splitlines()
    for line, name in zip(lines, ("title", "answers", "when"), strict=False):
        assert re.fullmatch(rf"-- {name}: \S.+[^ ]", line)
    header = lines[3 : next(n for n, line in enumerate(lines) if not line.startswith("--"))]
    assert header
    assert all(PARAMETER.fullmatch(line) for line in header)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_parameters_are_those_of_the_first_expression_with_their_defaults(path: Path) -> None:
    text = path.read_text()
    named = [found for line in text.splitlines() if (found := PARAMETER.fullmatch(line))]
    inside = re.search(r"WITH parameters AS \(\n    SELECT\n(.*?)\n\)", text, re.DOTALL)
    assert inside
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        defaults = connection.sql("SELECT " + inside[1]).to_arrow_table().to_pylist()[0]
        told = {
            found[1]: connection.execute(f"SELECT CAST({found[3]} AS {found[2]})").fetchall()[0][0]
            for found in named
        }
    plain = {n: v.replace(tzinfo=None) if isinstance(v, datetime) else v for n, v in defaults.items()}
    assert plain == told


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_query_runs_over_no_events(path: Path) -> None:
    assert answer(path.stem, []) == []


def test_failed_logins_are_counted_by_actor_and_country() -> None:
    rows = answer(
        "failed_logins",
        [
            *failures(6),
            event("x", "29 12:00:00", "mallory", "auth.login.failed", ip_address="192.0.2.2"),
            *failures(5, actor="bot", ip_country="FR"),
            *failures(4, actor="typist"),  # too few
            *[event(f"s{n}", "29 10:00:00", "worker", "auth.login") for n in range(9)],
        ],
    )
    columns = ("actor_id", "actor_name", "ip_country", "failures", "addresses", "first_at", "last_at")
    assert only(rows, *columns) == [
        ("mallory", "Mallory", "DE", 7, 2, at("29 10:00:00"), at("29 12:00:00")),
        ("bot", "Bot", "FR", 5, 1, at("29 10:00:00"), at("29 10:04:00")),
    ]


def test_a_success_after_ten_failures_within_the_hour_is_found() -> None:
    rows = answer(
        "success_after_failures",
        [
            *failures(11),
            event("in", "29 10:30:00", "mallory", "auth.login", ip_country="NZ", ip_address="203.0.113.77"),
            event("late", "29 13:00:00", "mallory", "auth.login"),  # long after
            *failures(9, actor="typist"),
            event("ok", "29 10:30:00", "typist", "auth.login"),  # after too few
            *failures(12, actor="locked"),  # never in
            event("before", "29 09:59:00", "locked", "auth.login"),
            event("other", "29 10:30:00", "mallory", "auth.login", workspace_id="ws_2"),
        ],
    )
    assert rows == [
        {
            "workspace_id": "ws_1",
            "actor_id": "mallory",
            "actor_name": "Mallory",
            "failures": 11,
            "first_failure_at": at("29 10:00:00"),
            "succeeded_at": at("29 10:30:00"),
            "ip_country": "NZ",
            "ip_address": "203.0.113.77",
            "success_id": "in",
        }
    ]


def test_the_activity_is_that_of_the_actor_who_deleted_and_exported_most() -> None:
    rows = answer(
        "activity_of_actor",
        [
            event("3", "29 12:00:00", "mallory", "document.exported", resource_id="doc_2"),
            event("1", "29 10:00:00", "mallory", "auth.login"),
            event(
                "2", "29 11:00:00", "mallory", "document.deleted", resource="document", resource_id="doc_1"
            ),
            event("4", "29 12:00:00", "worker", "document.deleted"),
            *[event(f"w{n}", "29 10:00:00", "worker", "document.viewed") for n in range(9)],
        ],
    )
    assert only(rows, "event_time", "action", "resource", "resource_id", "id") == [
        (at("29 10:00:00"), "auth.login", None, None, "1"),
        (at("29 11:00:00"), "document.deleted", "document", "doc_1", "2"),
        (at("29 12:00:00"), "document.exported", None, "doc_2", "3"),
    ]


def test_days_are_those_of_utc() -> None:
    rows = answer(
        "events_per_day_and_action",
        [
            event("1", "29 23:59:59", "a", "document.viewed"),
            event("2", "30 00:00:00", "a", "document.viewed"),
            event("3", "30 01:00:00", "b", "document.viewed", workspace_id="ws_2"),
            event("4", "30 02:00:00", "a", "auth.login"),
        ],
    )
    assert only(rows, "day", "action", "events", "actors", "workspaces") == [
        (date(2026, 3, 29), "document.viewed", 1, 1, 1),
        (date(2026, 3, 30), "document.viewed", 2, 2, 2),
        (date(2026, 3, 30), "auth.login", 1, 1, 1),
    ]


def test_many_deletions_and_exports_in_a_quarter_of_an_hour_are_found() -> None:
    def burst(actor: str, count: int, hour: int, minutes: int) -> list[dict[str, Any]]:
        return [
            event(
                f"{actor}-{hour}-{n}",
                f"29 {hour:02d}:{n % minutes:02d}:00",
                actor,
                "document.deleted" if n < 20 else "record.exported",
            )
            for n in range(count)
        ]

    rows = answer(
        "mass_deletion",
        [
            *burst("mallory", 27, 2, 15),
            *burst("tidy", 24, 3, 15),  # too few
            *burst("slow", 40, 4, 40),  # too slow
            *[event(f"v{n}", "29 05:00:00", "reader", "document.viewed") for n in range(40)],
        ],
    )
    assert rows == [
        {
            "window_start": at("29 02:00:00"),
            "workspace_id": "ws_1",
            "actor_id": "mallory",
            "actor_name": "Mallory",
            "deleted": 20,
            "exported": 7,
            "ip_country": "DE",
            "first_at": at("29 02:00:00"),
            "last_at": at("29 02:14:00"),
        }
    ]


def test_grants_to_oneself_come_first_and_odd_targets_do_no_harm() -> None:
    to_self = '[{"type":"user","id":"mallory","metadata":{"role":"owner"}}]'
    to_two = (
        '[{"type":"user","id":"u1","metadata":{"role":"admin"}},{"type":"group"},{"type":"user","id":"u2"}]'
    )
    rows = answer(
        "privilege_grants",
        [
            event("1", "29 10:00:00", "chief", "role.granted", resource_id="role_9", targets=to_two),
            event("2", "29 11:00:00", "mallory", "role.granted", targets=to_self),
            event("3", "29 12:00:00", "chief", "api_key.created", resource_id="key_1"),
            event("4", "29 13:00:00", "chief", "user.invited", resource_id="user_7", targets="null"),
            event("5", "29 14:00:00", "chief", "document.shared", targets=to_two),
        ],
    )
    assert only(rows, "id", "actor_id", "given_to", "given", "is_to_self") == [
        ("2", "mallory", "mallory", "owner", True),
        ("1", "chief", "u1, u2", "admin", False),
        ("3", "chief", None, "key_1", False),
        ("4", "chief", "", "user_7", False),
    ]
