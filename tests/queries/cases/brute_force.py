"""Cases of `brute_force`."""

from __future__ import annotations

from typing import Any

from tests.queries.case import Case, Delivery, at, delivery

_SHORT = ("kind", "workspace_id", "name", "failures", "first_at", "last_at")
_FEW = {"at_least": 3, "window_minutes": 10}


def _failures(*times: str, actor: str = "victim", **more: Any) -> tuple[Delivery, ...]:
    told = more.get("workspace", "ws_1"), actor, more.get("ip_address")
    return tuple(  # the later, the smaller its id
        delivery(f"{99 - n}-{told}-{time}", time, actor, "auth.login_failed", **more)
        for n, time in enumerate(times)
    )


CASES = [
    Case(
        "one_address_against_many_actors_and_many_addresses_against_one",
        "brute_force",
        (
            *_failures("29 10:00:00", "29 10:00:01", actor="a", ip_address="198.51.100.7", ip_country="NZ"),
            *_failures("29 10:00:02", actor="b", ip_address="198.51.100.7", ip_country="FR"),
            *_failures("29 11:00:00", actor="c", ip_address="192.0.2.1", ip_country=None),
            *_failures("29 11:00:01", actor="c", ip_address="192.0.2.2", ip_country=None),
            *_failures("29 11:00:02", "29 11:00:03", actor="c", ip_address=None, ip_country=None),
            delivery("x", "29 10:00:03", "a", "auth.login", ip_address="198.51.100.7"),
        ),
        (
            ("actor", "ws_1", "c", 4, 1, 2, None, at("29 11:00:00"), at("29 11:00:03")),
            ("address", "ws_1", "198.51.100.7", 3, 2, 1, "NZ", at("29 10:00:00"), at("29 10:00:02")),
        ),
        parameters=_FEW,
    ),
    Case(
        "twenty_within_an_hour_to_the_microsecond_are_an_attack",
        "brute_force",
        (
            *_failures(*(f"29 10:{n:02d}:00" for n in range(19)), "29 11:00:00", ip_address=None),
            *_failures(
                *(f"29 10:{n:02d}:00" for n in range(19)),
                *("29 11:00:00.000001",),
                actor="slow",
                ip_address=None,
            ),
            *_failures(*(f"29 10:{n:02d}:00" for n in range(19)), actor="few", ip_address=None),
        ),
        (("actor", "ws_1", "victim", 20, at("29 10:00:00"), at("29 11:00:00")),),
        columns=_SHORT,
    ),
    Case(
        "a_longer_pause_ends_an_attack_and_midnight_does_not",
        "brute_force",
        (
            *_failures("28 23:58:00", "28 23:59:00", "29 00:00:00", "29 00:10:00", ip_address=None),
            *_failures("29 00:20:00.000001", "29 00:20:02", ip_address=None),  # too few by themselves
            *_failures("29 10:00:00", "29 10:00:00", "29 10:00:00", ip_address=None),
        ),
        (
            ("actor", "ws_1", "victim", 4, at("28 23:58:00"), at("29 00:10:00")),
            ("actor", "ws_1", "victim", 3, at("29 10:00:00"), at("29 10:00:00")),
        ),
        columns=_SHORT,
        parameters=_FEW,
    ),
    Case(
        "attempts_in_two_workspaces_are_not_added_up",
        "brute_force",
        (
            *_failures("29 10:00:00", "29 10:00:01"),
            *_failures("29 10:00:02", "29 10:00:03", workspace="ws_2"),
        ),
        (),
        columns=_SHORT,
        parameters=_FEW,
    ),
    Case(
        "attempts_in_another_workspace_neither_prolong_an_attack_nor_divide_it",
        "brute_force",
        (
            *_failures("29 10:00:00", "29 10:01:00", "29 10:02:00", "29 10:20:00", ip_address=None),
            *_failures("29 10:01:30", "29 10:11:00", ip_address=None, workspace="ws_2"),
        ),
        (("actor", "ws_1", "victim", 3, at("29 10:00:00"), at("29 10:02:00")),),
        columns=_SHORT,
        parameters=_FEW,
    ),
    Case(
        "equal_attacks_stand_in_the_order_of_workspace_and_name",
        "brute_force",
        (
            *_failures(*("29 10:00:00",) * 3, ip_address=None, workspace="ws_2", actor="a"),
            *_failures(*("29 10:00:00",) * 3, ip_address=None, actor="c"),
            *_failures(*("29 10:00:00",) * 3, ip_address=None, actor="b"),
        ),
        (("ws_1", "b"), ("ws_1", "c"), ("ws_2", "a")),
        columns=("workspace_id", "name"),
        parameters=_FEW,
    ),
    Case(
        "one_workspace_and_a_period_without_its_last_moment",
        "brute_force",
        (
            *_failures("28 23:59:59.999999", "29 00:00:00", "29 00:00:01", "29 00:00:02", ip_address=None),
            *_failures("29 23:59:58", "29 23:59:59", "30 00:00:00", ip_address=None),
            *_failures("29 10:00:00", "29 10:00:00", "29 10:00:00", workspace="ws_2"),
        ),
        (("actor", "ws_1", "victim", 3, at("29 00:00:00"), at("29 00:00:02")),),
        columns=_SHORT,
        parameters=_FEW | {"workspace": "ws_1", "since": "2026-03-29", "until": "2026-03-30"},
    ),
    Case("no_events_no_rows", "brute_force", (), ()),
]
