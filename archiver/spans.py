"""Spans of time by the calendar: `400d`, `2w`, `13mo`, `7y`, counted in whole UTC days.

A month before 31 March is 28 or 29 February: a day that a month does not have becomes its
last. So `13mo` and `7y` mean the same day of the month, and not a number of days.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from archiver.errors import ConfigError

_SPAN: Final = re.compile(r"([1-9][0-9]{0,4})(d|w|mo|y)", re.ASCII)
_HINT: Final = "write 400d, 2w, 13mo or 7y"
_SHORTEST_DAYS: Final = {"d": 1, "w": 7, "mo": 30, "y": 365}


@dataclass(frozen=True, slots=True)
class Span:
    """So many days, weeks, months or years.

    Attributes:
        count: At least 1.
        unit: `d`, `w`, `mo` or `y`.
    """

    count: int
    unit: str

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"

    @property
    def shortest_days(self) -> int:
        """A number of days that it is never shorter than, wherever in the calendar it lies."""
        days = self.count * _SHORTEST_DAYS[self.unit]
        return days - 2 if self.unit == "mo" else days

    def before(self, day: date) -> date:
        """Return the day that lies this span before `day`; the first of all days if none does."""
        return self._from(day, -1)

    def after(self, day: date) -> date:
        """Return the day that lies this span after `day`; the last of all days if none does."""
        return self._from(day, 1)

    def _from(self, day: date, sign: int) -> date:
        if self.unit in ("d", "w"):
            try:
                return day + sign * timedelta(self.count * _SHORTEST_DAYS[self.unit])
            except OverflowError:
                return date.max if sign > 0 else date.min
        months = sign * self.count * (12 if self.unit == "y" else 1)
        year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
        if year < date.min.year:
            return date.min
        if year > date.max.year:
            return date.max
        month += 1
        return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def parse_span(text: str) -> Span:
    """Read a span as users write it.

    Raises:
        ConfigError: It is none.
    """
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"{text!r:.60} is no span of days", hint=_HINT)
    return Span(int(found[1]), found[2])
