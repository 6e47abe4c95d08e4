"""Cases of `new_country`."""

from __future__ import annotations

from tests.queries.case import Case, at, delivery

_SHORT = ("first_at", "workspace_id", "actor_id", "ip_country", "countries_before")
_MARCH_29 = {"since": "2026-03-29", "until": "2026-03-29T12:00:00Z", "history_days": 7}

CASES = [
    Case(
        "the_second_country_of_an_actor_is_new_and_the_first_is_not",
        "new_country",
        (
            delivery("1", "20 10:00:00", "owner", "auth.login"),
            delivery("2", "21 10:00:00", "owner", "auth.login"),
            delivery("3", "29 10:00:00", "owner", "auth.login", ip_country="NZ", ip_city="Auckland"),
            delivery(
                "4",
                "29 11:00:00",
                "owner",
                "document.viewed",
                ip_country="NZ",
                ip_city="Wellington",
                ip_address="198.51.100.7",
                actor_name="An Owner",
            ),
            delivery("5", "29 12:00:00", "owner", "auth.login"),
            delivery("9", "29 10:30:00", "owner", "auth.login", ip_country="NZ"),
            delivery("10", "22 10:00:00", "owner", "auth.login"),
            delivery("6", "29 10:00:00", "newcomer", "auth.login", ip_country="NZ"),
            delivery("7", "20 10:00:00", "nowhere", "auth.login", ip_country=None),
            delivery("8", "29 10:00:00", "nowhere", "auth.login", ip_country="NZ"),
        ),
        (
            (
                *(at("29 10:00:00"), "ws_1", "owner", "Owner", "NZ", "Wellington"),
                *(3, 2, at("29 11:00:00"), 1, "DE"),
            ),
        ),
    ),
    Case(
        "a_country_seen_so_many_days_before_since_is_known_and_one_seen_earlier_is_new",
        "new_country",
        (
            delivery("1", "21 23:59:59.999999", "owner", "auth.login", ip_country="FR"),
            delivery("2", "22 00:00:00", "owner", "auth.login", ip_country="NZ"),
            delivery("3", "29 00:00:00", "owner", "auth.login", ip_country="FR"),
            delivery("4", "29 10:00:00", "owner", "auth.login", ip_country="NZ"),
            delivery("5", "29 11:59:59.999999", "owner", "auth.login", ip_country="AT"),
            delivery("6", "29 12:00:00", "owner", "auth.login", ip_country="CH"),
        ),
        (
            (at("29 00:00:00"), "ws_1", "owner", "FR", 1),
            (at("29 11:59:59.999999"), "ws_1", "owner", "AT", 2),
        ),
        columns=_SHORT,
        parameters=_MARCH_29,
    ),
    Case(
        "a_country_first_seen_before_since_is_not_new_however_many_are_known",
        "new_country",
        (
            delivery("1", "27 10:00:00", "owner", "auth.login"),
            delivery("2", "28 23:59:59.999999", "owner", "auth.login", ip_country="NZ"),
            delivery("3", "29 00:00:00", "owner", "auth.login", ip_country="NZ"),
        ),
        (),
        columns=_SHORT,
        parameters=_MARCH_29,
    ),
    Case(
        "of_two_countries_first_seen_at_once_neither_was_before_the_other",
        "new_country",
        (
            delivery("1", "29 10:00:00", "twice", "auth.login", ip_country="NZ"),
            delivery("2", "29 10:00:00", "twice", "auth.login", ip_country="AT"),
            delivery("3", "29 09:00:00", "third", "auth.login", ip_country="FR"),
            delivery("4", "29 10:00:00", "third", "auth.login", ip_country="NZ"),
            delivery("5", "29 10:00:00", "third", "auth.login", ip_country="AT"),
        ),
        (
            (at("29 10:00:00"), "ws_1", "third", "AT", 1, "AT"),
            (at("29 10:00:00"), "ws_1", "third", "NZ", 1, "AT"),
        ),
        columns=(*_SHORT, "usual_country"),
    ),
    Case(
        "one_actor_id_in_two_workspaces_is_two_actors",
        "new_country",
        (
            delivery("1", "29 09:00:00", "owner", "auth.login"),
            delivery("2", "29 10:00:00", "owner", "auth.login", ip_country="NZ", workspace="ws_2"),
            delivery("3", "29 11:00:00", "owner", "auth.login", ip_country="NZ", workspace="ws_2"),
            delivery("4", "29 12:00:00", "owner", "auth.login", ip_country="AT", workspace="ws_2"),
            delivery("5", "29 12:00:00", "owner", "auth.login", ip_country="CH", workspace="ws_1"),
            delivery("6", "29 13:00:00", "owner", "auth.login", ip_country="CH", workspace="ws_1"),
            delivery("7", "29 14:00:00", "owner", "auth.login", ip_country="CH", workspace="ws_1"),
        ),
        (
            (at("29 12:00:00"), "ws_1", "owner", "CH", 1, "CH"),
            (at("29 12:00:00"), "ws_2", "owner", "AT", 1, "NZ"),
        ),
        columns=(*_SHORT, "usual_country"),
    ),
    Case(
        "one_workspace_and_actions_like_a_pattern",
        "new_country",
        (
            delivery("1", "29 09:00:00", "owner", "auth.login"),
            delivery("2", "29 10:00:00", "owner", "document.viewed", ip_country="FR"),
            delivery("3", "29 11:00:00", "owner", "auth.login", ip_country="NZ"),
            delivery("4", "29 09:00:00", "owner", "auth.login", workspace="ws_2"),
            delivery("5", "29 10:00:00", "owner", "auth.login", workspace="ws_2", ip_country="NZ"),
        ),
        ((at("29 11:00:00"), "ws_1", "owner", "NZ", 1),),
        columns=_SHORT,
        parameters={"workspace": "ws_1", "action": "auth.%"},
    ),
    Case("no_events_no_rows", "new_country", (), ()),
]
