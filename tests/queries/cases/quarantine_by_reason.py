"""Cases of `quarantine_by_reason`."""

from __future__ import annotations

from dataclasses import replace

from tests.queries.case import Case, Delivery, at, delivery, rubbish


def _invalid(event_id: str, received: str, version: object, workspace: str = "ws_1") -> Delivery:
    return delivery(
        event_id, "29 10:00:00", "bot", "document.viewed",
        received=received, workspace=workspace, version=version,
    )  # fmt: skip


VERSION = "data.version: expected integer or null, found "
SHORT = ("reason", "entries", "first_at", "last_at", "example")

CASES = [
    Case(
        "entries_are_counted_by_reason_and_the_newest_is_the_example",
        "quarantine_by_reason",
        (
            rubbish(b"nope", "29 10:00:00"),
            _invalid("a", "29 11:00:00", "3"),
            delivery("b", "29 12:00:00", "bot", "document.viewed"),  # archived
            _invalid("c", "29 12:00:00", "4", "ws_2"),
            _invalid("d", "29 09:00:00", "3"),
        ),
        (
            (
                "invalid",
                "spool",
                None,
                3,
                2,
                2,
                at("29 09:00:00"),
                at("29 12:00:00"),
                "1:3",
                VERSION + '"4"',
            ),
            (
                "not_json",
                "spool",
                None,
                1,
                0,
                1,
                at("29 10:00:00"),
                at("29 10:00:00"),
                "1:0",
                "body: Expecting value at character 0",
            ),
        ),
    ),
    Case(
        "of_those_received_at_one_time_the_one_that_stands_last_is_the_newest",
        "quarantine_by_reason",
        tuple(rubbish(b"nope", "29 10:00:00") for _ in range(11)),
        (("not_json", 11, at("29 10:00:00"), at("29 10:00:00"), "1:10"),),
        SHORT,
    ),
    Case(
        "the_time_is_that_of_receipt_and_its_last_moment_does_not_count",
        "quarantine_by_reason",
        (
            rubbish(b"nope", "28 23:59:59.999999"),
            rubbish(b"nope", "29 00:00:00"),
            rubbish(b"nope", "29 23:59:59.999999"),
            rubbish(b"nope", "30 00:00:00"),
            replace(_invalid("a", "29 12:00:00", "3"), received_us=0),
        ),
        (("not_json", 2, at("29 00:00:00"), at("29 23:59:59.999999"), "1:2"),),
        SHORT,
        {"since": "2026-03-29", "until": "2026-03-30"},
    ),
    Case(
        "one_workspace_and_one_kind_of_reason_can_be_asked_for",
        "quarantine_by_reason",
        (
            rubbish(b"nope"),
            _invalid("a", "29 11:00:00", "3"),
            _invalid("b", "29 11:00:00", "3", "ws_2"),
            delivery("c", "29 10:00:00", "bot", "document.viewed"),
            delivery("c", "29 10:00:00", "bot", "document.deleted"),  # a conflict
        ),
        (("invalid", 1, at("29 11:00:00"), at("29 11:00:00"), "1:1"),),
        SHORT,
        {"workspace": "ws_1", "reason": "inv%"},
    ),
    Case("no_events_no_rows", "quarantine_by_reason", (), ()),
]
