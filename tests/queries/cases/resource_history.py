"""Cases of `resource_history`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.queries.case import Case, at, delivery


def _target(thing: str, **more: Any) -> dict[str, Any]:
    return {"type": "document", "id": thing, **more}


_HALF = delivery("half", "29 10:00:00", "owner", "x.shared", targets=[_target("HALF")])
_SHORT = ("id", "found_in")

CASES = [
    Case(
        "what_was_done_to_a_thing_and_what_names_it_among_its_targets_or_in_its_metadata",
        "resource_history",
        (
            delivery(
                "made",
                "29 10:00:00",
                "owner",
                "document.created",
                resource="document",
                resource_id="doc_1",
                resource_name="Draft",
                session_id="s_1",
                targets=[_target("doc_1")],  # told twice, one row
            ),
            delivery("moved", "29 11:00:00", "helper", "folder.moved", targets=[_target("doc_1")]),
            delivery(
                "linked",
                "29 12:00:00",
                "helper",
                "link.created",
                metadata={"changes": [{"to": "doc_1"}]},
                ip_country=None,
            ),
            delivery("other", "29 10:30:00", "owner", "document.created", resource_id="doc_2"),
            delivery("alike", "29 10:30:00", "owner", "document.created", resource_id="docX1"),
            delivery("longer", "29 10:30:00", "owner", "folder.moved", targets=[_target("doc_11")]),
            delivery("within", "29 10:30:00", "owner", "link.created", metadata={"text": "see doc_1"}),
        ),
        (
            (
                *(at("29 10:00:00"), "ws_1", "owner", "Owner", "document.created", "resource"),
                *("document", "doc_1", "Draft", "DE", "192.0.2.1", "s_1", "made"),
            ),
            (
                *(at("29 11:00:00"), "ws_1", "helper", "Helper", "folder.moved", "targets"),
                *(None, None, None, "DE", "192.0.2.1", None, "moved"),
            ),
            (
                *(at("29 12:00:00"), "ws_1", "helper", "Helper", "link.created", "metadata"),
                *(None, None, None, None, "192.0.2.1", None, "linked"),
            ),
        ),
        parameters={"resource_id": "doc_1"},
    ),
    Case(
        "the_sixth_target_is_found_too",
        "resource_history",
        (
            delivery(
                "1", "29 10:00:00", "owner", "folder.moved", targets=[_target(f"doc_{n}") for n in range(6)]
            ),
        ),
        (("1", "targets"),),
        columns=_SHORT,
        parameters={"resource_id": "doc_5"},
    ),
    Case(
        "an_id_that_json_escapes_is_found_among_the_first_five_targets",
        "resource_history",
        (
            *(
                delivery(
                    f"as target {place}",
                    "29 10:00:00",
                    "owner",
                    "folder.moved",
                    targets=[*(_target(f"doc_{n}") for n in range(place)), _target('doc "x"')],
                )
                for place in range(5)
            ),
            delivery("2", "29 10:00:00", "owner", "folder.moved", targets=[{"type": "document"}]),
            delivery("3", "29 10:00:00", "owner", "folder.moved", targets=[]),
        ),
        tuple((f"as target {place}", "targets") for place in range(5)),
        columns=_SHORT,
        parameters={"resource_id": 'doc "x"'},
    ),
    Case(
        "a_kind_of_thing_alone_shows_all_things_of_it_and_equal_times_are_in_the_order_of_ids",
        "resource_history",
        (
            delivery("b", "29 10:00:00", "owner", "document.viewed", resource="document", resource_id="d2"),
            delivery("a", "29 10:00:00", "owner", "document.viewed", resource="document", resource_id="d1"),
            delivery("c", "29 10:00:00", "owner", "record.viewed", resource="record", resource_id="d1"),
            delivery("d", "29 10:00:00", "owner", "auth.login"),
            delivery("0", "29 10:00:00", "owner", "x.viewed", resource="document", workspace="ws_2"),
        ),
        (("a", "resource"), ("b", "resource"), ("0", "resource")),
        columns=_SHORT,
        parameters={"resource": "document"},
    ),
    Case(
        "an_id_of_another_kind_is_another_thing",
        "resource_history",
        (
            delivery("1", "29 10:00:00", "owner", "document.viewed", resource="document", resource_id="7"),
            delivery("2", "29 10:00:00", "owner", "record.viewed", resource="record", resource_id="7"),
            delivery("3", "29 10:00:00", "owner", "record.viewed", resource_id="7"),
        ),
        (("1", "resource"),),
        columns=_SHORT,
        parameters={"resource": "document", "resource_id": "7"},
    ),
    Case(
        "the_same_id_in_another_workspace_is_another_thing_and_until_is_not_in_it",
        "resource_history",
        (
            delivery("early", "28 23:59:59.999999", "owner", "document.viewed", resource_id="d"),
            delivery("first", "29 00:00:00", "owner", "document.viewed", resource_id="d"),
            delivery("there", "29 00:00:00", "owner", "document.viewed", resource_id="d", workspace="ws_2"),
            delivery("gone", "29 00:00:01", "owner", "document.deleted", resource_id="d"),
            delivery("late", "30 00:00:00", "owner", "document.viewed", resource_id="d"),
        ),
        (("first", "resource"),),
        columns=_SHORT,
        parameters={
            "resource_id": "d",
            "workspace": "ws_1",
            "action": "%.viewed",
            "since": "2026-03-29",
            "until": "2026-03-30",
        },
    ),
    Case(
        "half_an_emoji_among_the_targets_of_another_event_holds_nothing_up",
        "resource_history",
        (
            replace(_HALF, body=_HALF.body.replace(b"HALF", rb"\ud83d")),
            delivery("whole", "29 10:00:01", "owner", "x.viewed", targets=[_target("d")]),
        ),
        (("whole", "targets"),),
        columns=_SHORT,
        parameters={"resource_id": "d"},
    ),
    Case("no_events_no_rows", "resource_history", (), (), parameters={"resource_id": "doc_1"}),
]
