"""What is compared at a time: so many rows that their ids fit into memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from archiver.partition import DAY_US
from archiver.reconcile.report import Place

PORTION_ROWS: Final = 2_000_000  # 17 bytes each of events, some 100 each of rows that were not found
_MOST_DAYS: Final = 14  # less than any two events of one id may lie apart


@dataclass(frozen=True, slots=True)
class Portion:
    """Places whose ids are compared together.

    Attributes:
        since_day, until_day: All of them lie in these days, the second not included.
        is_part: Whether there are others on the same day, in another portion.
    """

    places: Sequence[Place]
    since_day: int
    until_day: int
    is_part: bool

    def slices(self) -> Iterator[tuple[int, int]]:
        """Yield spans of time (µs since 1970), none with many more rows than fit, if rows come evenly."""
        since, until = self.since_day * DAY_US, self.until_day * DAY_US
        count = max(1, -(-sum(one.due for one in self.places) // PORTION_ROWS))
        step = -(-(until - since) // count)
        for start in range(since, until, step):
            yield start, min(start + step, until)


def divided(places: Iterable[Place], limit: int = PORTION_ROWS) -> Iterator[Portion]:
    """Yield the places in portions, day by day; of one place there is never more than one."""
    gathered: list[Place] = []
    for day, group in groupby(sorted(places, key=lambda one: one.day), key=lambda one: one.day):
        today = list(group)
        is_large = _size(today) > limit
        if gathered and (
            is_large or _size(gathered) + _size(today) > limit or day - gathered[0].day >= _MOST_DAYS
        ):
            yield _portion(gathered)
            gathered = []
        if not is_large:
            gathered += today
            continue
        part: list[Place] = []
        for one in today:
            if part and _size(part) + _size([one]) > limit:
                yield _portion(part, is_part=True)
                part = []
            part.append(one)
        yield _portion(part, is_part=True)
    if gathered:
        yield _portion(gathered)


def _portion(places: list[Place], *, is_part: bool = False) -> Portion:
    return Portion(places, places[0].day, places[-1].day + 1, is_part)


def _size(places: Iterable[Place]) -> int:
    return sum(one.due + one.archived for one in places)
