"""Cases of `session_timeline`."""

from __future__ import annotations

from typing import Any

from tests.queries.case import Case, Delivery, at, delivery


def _step(event_id: str, when: str, session: str | None = "s_1", **more: Any) -> Delivery:
    return delivery(event_id, when, more.pop("actor", "worker"), "record.viewed", session_id=session, **more)


_SHORT = ("workspace_id", "session_id", "step", "id")

CASES = [
    Case(
        "steps_are_numbered_timed_and_a_new_address_is_told_once",
        "session_timeline",
        (
            _step("k", "29 23:59:59.5", ip_address="198.51.100.7", ip_country="NZ", actor="mallory"),
            _step("y", "29 23:59:58", ip_address=None, resource="record", resource_id="r_1"),
            _step("z", "29 23:59:59"),
            _step("f", "30 00:00:01.2344", ip_address="198.51.100.7"),
            _step("e", "30 00:00:01.2344"),  # back at the first address
            _step("a", "30 00:00:00", ip_address=None),
            _step("x", "29 23:59:59", None),
        ),
        (
            (
                *("s_1", at("29 23:59:58"), 1, None, "ws_1", "worker", "Worker", "record.viewed"),
                *("record", "r_1", "DE", None, False, "y"),
            ),
            (
                *("s_1", at("29 23:59:59"), 2, 1.0, "ws_1", "worker", "Worker", "record.viewed"),
                *(None, None, "DE", "192.0.2.1", False, "z"),
            ),
            (
                *("s_1", at("29 23:59:59.5"), 3, 0.5, "ws_1", "mallory", "Mallory", "record.viewed"),
                *(None, None, "NZ", "198.51.100.7", True, "k"),
            ),
            (
                *("s_1", at("30 00:00:00"), 4, 0.5, "ws_1", "worker", "Worker", "record.viewed"),
                *(None, None, "DE", None, False, "a"),
            ),
            (
                *("s_1", at("30 00:00:01.2344"), 5, 1.234, "ws_1", "worker", "Worker", "record.viewed"),
                *(None, None, "DE", "192.0.2.1", False, "e"),
            ),
            (
                *("s_1", at("30 00:00:01.2344"), 6, 0.0, "ws_1", "worker", "Worker", "record.viewed"),
                *(None, None, "DE", "198.51.100.7", False, "f"),
            ),
        ),
        parameters={"session": "s_1"},
    ),
    Case(
        "one_session_id_in_two_workspaces_is_two_sessions",
        "session_timeline",
        (
            _step("1", "29 10:00:00", workspace="ws_2"),
            _step("2", "29 10:00:01", workspace="ws_1", ip_address="192.0.2.9"),
            _step("3", "29 10:00:02", workspace="ws_2", ip_address="192.0.2.9"),
            _step("4", "29 10:00:02", "sX1"),
        ),
        (
            ("ws_1", "s_1", 1, None, False, "2"),
            ("ws_2", "s_1", 1, None, False, "1"),
            ("ws_2", "s_1", 2, 2.0, True, "3"),
        ),
        columns=("workspace_id", "session_id", "step", "seconds_since_last", "address_is_new", "id"),
        parameters={"session": "s_1"},
    ),
    Case(
        "sessions_in_which_an_actor_took_part_are_shown_whole",
        "session_timeline",
        (
            _step("1", "29 10:00:00", "s_1", actor="worker"),
            _step("2", "29 10:00:01", "s_1", actor="mallory"),
            _step("3", "29 10:00:02", "s_2", actor="worker"),
            _step("4", "29 10:00:03", "s_0", actor="mallory"),
            _step("5", "29 10:00:04", "s_1", actor="worker", workspace="ws_2"),
        ),
        (("ws_1", "s_0", 1, "4"), ("ws_1", "s_1", 1, "1"), ("ws_1", "s_1", 2, "2")),
        columns=_SHORT,
        parameters={"actor": "mallory"},
    ),
    Case(
        "only_what_is_asked_for_is_counted",
        "session_timeline",
        (
            _step("1", "28 23:59:59.999999"),
            _step("2", "29 00:00:00"),
            _step("3", "29 23:59:59.999999"),
            _step("4", "30 00:00:00"),
            _step("5", "29 12:00:00", workspace="ws_2"),
        ),
        (("ws_1", "s_1", 1, "2"), ("ws_1", "s_1", 2, "3")),
        columns=_SHORT,
        parameters={"workspace": "ws_1", "since": "2026-03-29", "until": "2026-03-30"},
    ),
    Case("no_events_no_rows", "session_timeline", (), (), parameters={"session": "s_1"}),
]
