"""Cases of `success_after_failures`."""

from __future__ import annotations

from typing import Any

from tests.queries.case import Case, Delivery, at, delivery

_SHORT = ("id", "failures", "from_same_address")


def _failures(*times: str, actor: str = "victim", **more: Any) -> tuple[Delivery, ...]:
    workspace = more.get("workspace", "ws_1")
    return tuple(
        delivery(f"{workspace}-{actor}-{time}-{n}", time, actor, "auth.login_failed", **more)
        for n, time in enumerate(times)
    )


def _success(event_id: str, when: str, actor: str = "victim", **more: Any) -> Delivery:
    return delivery(event_id, when, actor, "auth.login", **more)


CASES = [
    Case(
        "ten_failures_within_the_hour_before_a_success_and_not_nine",
        "success_after_failures",
        (
            *_failures(*(f"29 10:0{n}:00" for n in range(9)), ip_address="198.51.100.7"),
            *_failures("29 10:10:00"),
            _success("in", "29 10:20:00", ip_country="NZ", ip_address="198.51.100.7", session_id="s_1"),
            *_failures(*(f"29 10:0{n}:00" for n in range(9)), actor="typist"),
            _success("own", "29 10:20:00", "typist"),
            _success("other", "29 10:20:00", "worker"),  # of whom nothing failed
        ),
        (
            (
                *(at("29 10:20:00"), "ws_1", "victim", "Victim", 10, 9, 2),
                *(at("29 10:00:00"), at("29 10:10:00"), "NZ", "198.51.100.7", "s_1", "in"),
            ),
        ),
    ),
    Case(
        "a_failure_counts_from_the_start_of_the_window_up_to_but_not_at_the_success",
        "success_after_failures",
        (
            *_failures("29 09:59:59.999999", "29 10:00:00", "29 10:59:59.999999", "29 11:00:00"),
            *_failures("29 11:00:00.000001"),
            _success("in", "29 11:00:00"),
        ),
        (("in", 2, 2),),
        columns=_SHORT,
        parameters={"at_least": 1},
    ),
    Case(
        "failures_before_since_count_and_successes_before_it_and_at_until_do_not",
        "success_after_failures",
        (
            *_failures("28 23:39:59.999999", "28 23:40:00", "28 23:55:00"),
            _success("before", "29 00:09:59.999999"),
            _success("first", "29 00:10:00"),
            *_failures("29 11:59:00"),
            _success("last", "29 11:59:59.999999"),
            _success("after", "29 12:00:00"),
        ),
        (("first", 2, 2), ("last", 1, 1)),
        columns=_SHORT,
        parameters={
            "since": "2026-03-29T00:10:00Z",
            "until": "2026-03-29T12:00:00Z",
            "at_least": 1,
            "within_minutes": 30,
        },
    ),
    Case(
        "failures_in_another_workspace_or_of_another_actor_are_not_theirs",
        "success_after_failures",
        (
            *_failures("29 10:00:00", workspace="ws_2"),
            *_failures("29 10:00:00", actor="Victim"),
            _success("1", "29 10:01:00"),
            _success("2", "29 10:01:00", workspace="ws_2", ip_address=None),
        ),
        (("2", 1, 0),),
        columns=_SHORT,
        parameters={"at_least": 1},
    ),
    Case(
        "only_the_workspace_that_is_asked_for",
        "success_after_failures",
        (
            *_failures("29 10:00:00", workspace="ws_2"),
            *_failures("29 10:00:00"),
            _success("1", "29 10:01:00"),
            _success("2", "29 10:01:00", workspace="ws_2"),
        ),
        (("1", 1, 1),),
        columns=_SHORT,
        parameters={"at_least": 1, "workspace": "ws_1"},
    ),
    Case(
        "each_success_is_told_the_most_failures_first_then_by_time_and_id",
        "success_after_failures",
        (
            *_failures("29 10:00:00", ip_address=None),
            _success("b", "29 10:01:00"),
            _success("a", "29 10:01:00"),
            *_failures("29 10:02:00"),
            _success("c", "29 10:03:00"),
        ),
        (("c", 2, 1), ("a", 1, 0), ("b", 1, 0)),
        columns=_SHORT,
        parameters={"at_least": 1},
    ),
    Case(
        "what_only_looks_like_a_login_is_none",
        "success_after_failures",
        (
            *_failures("29 10:00:00", "29 10:00:01"),
            delivery("1", "29 10:01:00", "victim", "auth.login_viewed"),
            delivery("2", "29 10:01:00", "victim", "auth.logout"),
            delivery("3", "29 10:01:00", "victim", "blogin"),
        ),
        (),
        columns=_SHORT,
        parameters={"at_least": 1},
    ),
    Case("no_events_no_rows", "success_after_failures", (), ()),
]
