"""Requests, filled with a reader's portions: as many events in each as fit, in order."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from archiver.forward.base import Intake, Limits, Outgoing, Portion, UnsendableError
from archiver.forward.deadletters import Letter


class Payloads(Protocol):
    """Makes the JSON of an event in a destination's form."""

    def of(self, event: Outgoing) -> bytes: ...


@dataclass(slots=True)
class Request:
    """Events that go together, and how far the reader stands behind them.

    Attributes:
        events, items: In parallel.
        letters: What can never be sent or was refused, with how many items go before it.
        portions: Those that the items are of, each with the number of its first one.
        settled: Items that were taken or refused.
        size: Of the items, in bytes.
        end: How far the reader stands behind all of them.
        has_failed_in_part: One of them was taken alone when all of them had failed.
        began: When it was begun, by the monotonic clock.
    """

    events: list[Outgoing] = field(default_factory=list)
    items: list[bytes] = field(default_factory=list)
    letters: list[tuple[int, Letter]] = field(default_factory=list)
    portions: list[tuple[int, Portion]] = field(default_factory=list)
    settled: set[int] = field(default_factory=set)
    size: int = 0
    end: tuple[Portion, int] | None = None
    has_failed_in_part: bool = False
    began: float = field(default_factory=time.monotonic)

    def end_before(self, number: int) -> tuple[Portion, int] | None:
        """Return how far the reader stands behind the items before this one; None behind nothing."""
        if not number:
            return None
        place = bisect_right(self.portions, number - 1, key=lambda one: one[0]) - 1
        return self.portions[place][1], self.events[number - 1].place

    def add(self, portion: Portion, events: list[Outgoing], items: list[bytes]) -> None:
        """Add events of a portion."""
        if items:
            self.portions.append((len(self.items), portion))
            self.events += events
            self.items += items
            self.size += sum(map(len, items))
            self.end = (portion, events[-1].place)


class Requests:
    """Fills requests, one after another.

    Args:
        most_together: Returns how many events may be in one now.

    Attributes:
        filling: The request that is not full yet.
    """

    def __init__(
        self, intake: Intake, payloads: Payloads, limits: Limits, most_together: Callable[[], int]
    ) -> None:
        self._item = intake.item
        self._payload = payloads.of
        self._most_bytes = limits.most_bytes
        self._most_together = most_together
        self.filling = Request()

    def begin(self) -> None:
        """Leave the request that is filled, which is settled, and begin another one."""
        self.filling = Request()

    def add(self, portion: Portion) -> Iterator[Request]:
        """Add a portion. Yields each request that is full, to be settled before another one is asked for."""
        events = portion.events
        try:
            items = [self._item(event, self._payload(event)) for event in events]
        except UnsendableError:
            for event in events:
                yield from self._add_one(portion, event)
        else:
            yield from self._add(portion, events, items)
        self.filling.end = (portion, portion.end)

    def _add_one(self, portion: Portion, event: Outgoing) -> Iterator[Request]:
        try:
            item = self._item(event, self._payload(event))
        except UnsendableError as error:
            letter = Letter(event, "cannot be sent", error.message, attempts=0)
            self.filling.letters.append((len(self.filling.items), letter))
            self.filling.end = (portion, event.place)
        else:
            yield from self._add(portion, [event], [item])

    def _add(self, portion: Portion, events: list[Outgoing], items: list[bytes]) -> Iterator[Request]:
        start = 0
        while start < len(items):
            count = self._fitting(items, start)
            self.filling.add(portion, events[start : start + count], items[start : start + count])
            start += count
            if start < len(items):
                yield self.filling
                self.begin()

    def _fitting(self, items: list[bytes], start: int) -> int:
        """Return how many items from `start` on still go into the request; into an empty one at least one."""
        room = max(self._most_together() - len(self.filling.items), 0)
        left = self._most_bytes - self.filling.size
        part = items[start : start + room]
        if sum(map(len, part)) <= left:
            return len(part) or (not self.filling.items)
        count = 0
        for item in part:
            left -= len(item)
            if left < 0:
                break
            count += 1
        return count or (not self.filling.items)
