"""A case of a named query: what was delivered, what was asked, and the rows that were written out by hand."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from archiver import clock
from archiver.archive import Archive
from archiver.block import Block
from archiver.pipeline import run
from archiver.reader import Reader
from archiver.validate import Rules
from tests.support import MemoryBatch, MemorySource, new_archive


@dataclass(frozen=True, slots=True)
class Delivery:
    """A body as it is delivered, and when it came, in microseconds since 1970."""

    body: bytes
    received_us: int


@dataclass(frozen=True, slots=True)
class Case:
    """See the module's docstring.

    Attributes:
        name: The rule that it shows: `a_success_at_the_instant_of_a_failure_does_not_count`.
        query: Which query is asked.
        deliveries: All that is in the archive.
        rows: The answer, in its order; a row has a value for each of `columns`. Times are written
            as in `at`; other values as Python has them.
        columns: Those that are compared; empty is all of the query's.
        parameters: What it is asked with.
    """

    name: str
    query: str
    deliveries: tuple[Delivery, ...]
    rows: tuple[tuple[Any, ...], ...]
    columns: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)


def at(text: str) -> datetime:
    """Return the instant of `2026-03-29 02:11:05`, or `29 02:11:05` for one in March 2026; UTC."""
    whole = text if text.count("-") == 2 else f"2026-03-{text}"
    return datetime.fromisoformat(whole).replace(tzinfo=UTC)


def delivery(
    event_id: str,
    when: str,
    actor: str,
    action: str,
    *,
    workspace: str = "ws_1",
    received: str | None = None,
    **data: Any,
) -> Delivery:
    """Return the delivery of a valid event.

    Args:
        when, received: As in `at`; received at the time of the event if nothing is told.
        data: More members of the event; one that is None is left out.
    """
    members = {
        "id": event_id,
        "actor_id": actor,
        "actor_name": actor.title(),
        "action": action,
        "ip_country": "DE",
        "ip_address": "192.0.2.1",
    } | data
    moment = clock.to_us(at(when))
    body = {
        "event_type": "event.created",
        "data": {name: value for name, value in members.items() if value is not None},
        "workspace_id": workspace,
        "timestamp": clock.to_text(moment),
    }
    return Delivery(
        json.dumps(body, ensure_ascii=False).encode(),
        moment if received is None else clock.to_us(at(received)),
    )


def rubbish(body: bytes, when: str = "29 10:00:00") -> Delivery:
    """Return a delivery of which nothing is known but its bytes."""
    return Delivery(body, clock.to_us(at(when)))


@dataclass
class _TimedBatch(MemoryBatch):
    """A stand-in for a frozen batch whose bodies came at different times."""

    received_us: tuple[int, ...] = ()

    def read(self) -> Iterator[Block]:
        numbers = list(range(len(self.bodies)))
        if numbers:
            yield Block(0, list(self.bodies), numbers, numbers, list(self.received_us), [None] * len(numbers))


def archive_of(place: Path, deliveries: tuple[Delivery, ...], **encoding: Any) -> Archive:
    """Archive deliveries as one batch."""
    archive = new_archive(place, **encoding)
    batch = _TimedBatch(
        [one.body for one in deliveries], received_us=tuple(one.received_us for one in deliveries)
    )
    if deliveries:
        run(archive, MemorySource([batch]), rules=Rules(source="spool"), workers=0)
    return archive


def answer(reader: Reader, case: Case) -> list[tuple[Any, ...]]:
    """Ask what the case asks and return the rows of its columns."""
    table = reader.query(case.query, **case.parameters).arrow()
    rows = table.select(list(case.columns)).to_pylist() if case.columns else table.to_pylist()
    return [tuple(row.values()) for row in rows]


def cases() -> list[Case]:
    """Return the `CASES` of every module in `tests/queries/cases`."""
    found: list[Case] = []
    package = importlib.import_module("tests.queries.cases")
    for module in pkgutil.iter_modules(package.__path__, "tests.queries.cases."):
        found += importlib.import_module(module.name).CASES
    return found
