"""Segments that wait for a destination, made as a receiver makes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from archiver.forward.base import Limits, Portion
from archiver.forward.cursor import CursorFile
from archiver.forward.deliveries import Deliveries
from archiver.forward.folders import folder_of
from archiver.forward.wanted import Wanted
from archiver.live import LiveSegment
from archiver.segment import frame_head
from archiver.validate import Rules
from tests.support import RECEIVED_US, event


def seal(spool: Path, bodies: Sequence[bytes], stream: str | None = "eu") -> str:
    """Seal a segment of these deliveries; return its name."""
    growing = LiveSegment(spool)
    for number, body in enumerate(bodies):
        growing.append([frame_head(body, RECEIVED_US + number, stream), body], 1)
    sealed = growing.seal()
    assert sealed is not None
    return sealed.name


def bodies(first: int, count: int) -> list[bytes]:
    """Return valid events with the ids `e<number>`."""
    return [event(f"e{number}") for number in range(first, first + count)]


def waiting(spool: Path, name: str = "siem") -> list[str]:
    """Return which segments wait for a destination."""
    return sorted(path.name for path in folder_of(spool, name).glob("*.seg"))


def reader(spool: Path, state: Path, *, most_events: int = 4, wanted: Wanted | None = None) -> Deliveries:
    """Open the live reader of a destination called `siem`, as a new process would."""
    return Deliveries(
        {folder_of(spool, "siem"): "spool"},
        {"spool": Rules(source="spool", workspaces_of_stream={"pinned": frozenset({"ws_other"})})},
        CursorFile(state),
        Limits(most_events, 1 << 20, 1 << 20),
        wanted or Wanted(),
    )


def ids(portions: Sequence[Portion]) -> list[str]:
    return [event.id for portion in portions for event in portion.events]
