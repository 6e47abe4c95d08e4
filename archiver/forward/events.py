"""From judged rows to events on their way, and into portions that fit a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, cast

import pyarrow as pa

from archiver.forward.base import Limits, Outgoing, Portion

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "events": ("body", "id", "workspace_id", "event_type", "action", "event_time", "received_at"),
    "alerts": ("body", "alert_id", "workspace_id", "event_type", "event_time", "received_at"),
}
ROW_EVENT_TYPE: Final = "event.created"
_BYTES_AROUND: Final = 256  # what an intake puts around one event, about


def outgoing(
    rows: pa.RecordBatch | pa.Table,
    dataset: Literal["events", "alerts"],
    places: Sequence[int],
    bodies: list[bytes] | None = None,
    received_us: list[int] | None = None,
) -> list[Outgoing]:
    """Return the rows of a dataset, which have `COLUMNS`, as events.

    Args:
        places: Of each row, see `Outgoing.place`.
        bodies, received_us: Of each row, if somebody has them; else they are columns, too.
    """

    def values(name: str) -> list[Any]:
        return cast("list[Any]", rows.column(name).to_pylist())

    def numbers(name: str) -> list[Any]:
        return cast("list[Any]", rows.column(name).cast(pa.int64()).to_pylist())

    if bodies is None:
        bodies = cast("list[bytes]", rows.column("body").cast(pa.binary()).to_pylist())
    if received_us is None:
        received_us = numbers("received_at")
    count = len(bodies)
    if dataset == "events":
        types = [told or ROW_EVENT_TYPE for told in values("event_type")]
        actions = [told or "" for told in values("action")]
        ids = values("id")
    else:
        types, actions, ids = values("event_type"), [""] * count, values("alert_id")
    return list(
        map(
            Outgoing,
            bodies,
            [dataset] * count,
            ids,
            values("workspace_id"),
            types,
            actions,
            numbers("event_time"),
            received_us,
            places,
        )
    )


def portions(
    unit: Any,
    events: Sequence[Outgoing],
    *,
    end: int,
    is_last: bool,
    wanted: Callable[[Outgoing], bool] | None,
    limits: Limits,
    invalid: int = 0,
) -> Iterator[Portion]:
    """Yield events of one unit in portions that about fit a request; at least one, which may be empty.

    Args:
        events: In the order of their places.
        end: Elements of the unit that are read with them.
        wanted: Which of them the destination wants; None is all.
    """
    kept = list(events) if wanted is None else [event for event in events if wanted(event)]
    filtered = len(events) - len(kept)
    most_bytes = max(limits.most_bytes, 1)
    start = size = 0
    for number, event in enumerate(kept):
        bytes_here = len(event.body) + _BYTES_AROUND
        if number > start and (number - start >= limits.most_events or size + bytes_here > most_bytes):
            yield Portion(unit, kept[start:number], kept[number - 1].place)
            start, size = number, 0
        size += bytes_here
    yield Portion(unit, kept[start:], end, is_last, filtered, invalid)
