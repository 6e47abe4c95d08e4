"""Cases of `volume_anomaly`."""

from __future__ import annotations

from typing import Any

from tests.queries.case import Case, Delivery, at, delivery


def _hour(when: str, count: int, workspace: str = "ws_1", **more: Any) -> tuple[Delivery, ...]:
    """Events within the hour that begins at `when`, at its first and its last moment too."""
    start = f"{when}:00:00"
    end = f"{when}:59:59.999999"
    return tuple(
        delivery(f"{workspace}-{when}-{n}", end if n == 1 else start, "bot", "document.viewed",
                 workspace=workspace, **more)
        for n in range(count)
    )  # fmt: skip


# Of the hour from ten, on three days before: the mean is 3, the sample's deviation 1.
_BEFORE = (*_hour("26 10", 2), *_hour("27 10", 4), *_hour("28 10", 3))
SHORT = ("hour", "workspace_id", "events", "usual_events", "usual_deviation", "deviations", "other_hours")

CASES = [
    Case(
        "more_than_the_mean_by_more_than_so_many_deviations_of_the_same_hour_is_unusual",
        "volume_anomaly",
        (
            *_BEFORE,
            *_hour("29 10", 6),
            *(delivery(f"x{n}", "29 10:00:00", f"user{n}", "document.deleted") for n in range(2)),
            *_hour("28 11", 1),  # other hours have nothing to do with it
        ),
        ((at("29 10:00:00"), "ws_1", 8, 3.0, 1.0, 5.0, 3, 2, 3),),
        parameters={"at_least": 8, "deviations": 4.9},
    ),
    Case(
        "more_by_just_so_many_deviations_is_not_unusual",
        "volume_anomaly",
        (*_BEFORE, *_hour("29 10", 5)),
        (),
        parameters={"at_least": 1, "deviations": 2},
    ),
    Case(
        "an_hour_of_few_events_is_left_out",
        "volume_anomaly",
        (*_BEFORE, *_hour("29 10", 8)),
        (),
        parameters={"at_least": 9},
    ),
    Case(
        "hours_without_events_count_as_none_and_workspaces_are_kept_apart",
        "volume_anomaly",
        (
            *_hour("26 00", 1, "ws_2"),
            *_hour("29 00", 4, "ws_2"),  # others: 1, 0, 0
            *_hour("28 23", 3, "ws_2"),  # others: 0, 0
            *_hour("28 00", 1, "ws_3"),  # one hour before the next: nothing can be said
            *_hour("29 00", 9, "ws_3"),
            *_hour("26 00", 4),
            *_hour("27 00", 4),
            *_hour("28 00", 4),
            *_hour("29 00", 4),  # as ever
        ),
        (
            (at("28 23:00:00"), "ws_2", 3, 0.0, 0.0, None, 2),
            (at("29 00:00:00"), "ws_2", 4, 0.33, 0.58, 6.35, 3),
        ),
        SHORT,
        {"at_least": 2},
    ),
    Case(
        "all_other_hours_can_be_compared_with",
        "volume_anomaly",
        # Others: 1, 3, 0, 2, whose mean is 1.5 and whose deviation is the root of 5/3.
        (*_hour("29 22", 1), *_hour("29 23", 3), *_hour("30 01", 2), *_hour("30 02", 7)),
        ((at("30 02:00:00"), "ws_1", 7, 1.5, 1.29, 4.26, 4),),
        SHORT,
        {"at_least": 1, "same_hour": False},
    ),
    Case(
        "with_one_other_hour_nothing_can_be_said",
        "volume_anomaly",
        (*_hour("28 10", 1), *_hour("29 10", 9)),
        (),
        parameters={"at_least": 1},
    ),
    Case(
        "the_history_is_compared_with_and_not_told",
        "volume_anomaly",
        (
            *_hour("25 10", 30),  # before the history
            *_hour("26 10", 1),
            *_hour("27 10", 1),
            *_hour("28 10", 9),  # unusual, but not asked for
            *_hour("29 10", 20),
            *_hour("29 10", 20, "ws_2"),
            *_hour("30 00", 20),
        ),
        # Others: 1, 1, 9, whose mean is 3.67 and whose deviation is 4.62.
        ((at("29 10:00:00"), "ws_1", 20, 3.67, 4.62, 3.54, 3),),
        SHORT,
        {
            "since": "2026-03-29",
            "until": "2026-03-30",
            "history_days": 3,
            "at_least": 1,
            "deviations": 3,
            "workspace": "ws_1",
        },
    ),
    Case("no_events_no_rows", "volume_anomaly", (), ()),
]
