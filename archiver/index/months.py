"""Months of UTC, by which the index is cut."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Final

import numpy as np

from archiver.ledger.entry import DataFile

_SECOND_US: Final = 1_000_000
_DAY_US: Final = 86_400 * _SECOND_US
_EPOCH: Final = date(1970, 1, 1).toordinal()
_FIRST_US: Final = -62_135_596_800 * _SECOND_US  # the year 1
_LAST_US: Final = 253_402_300_799 * _SECOND_US  # the end of the year 9999


def month_of(file: DataFile) -> str:
    """Return the month of a file's rows, `yyyy-mm`."""
    return month_of_key(file.key)


def month_of_key(key: str) -> str:
    """Return the month of a data file's rows, by its key."""
    return key.rpartition("/dt=")[2][:7]


def bounds(month: str) -> tuple[int, int]:
    """Return the first instant of a month, and that of the next, in microseconds since 1970."""
    year, number = int(month[:4]), int(month[5:])
    begin = np.datetime64(f"{year:04d}-{number:02d}", "M")
    start, end = (value.astype("datetime64[s]").astype(np.int64) for value in (begin, begin + 1))
    return int(start) * _SECOND_US, int(end) * _SECOND_US


def between(first_us: int, last_us: int) -> Iterator[str]:
    """Yield the months that an interval of time touches, both ends included, oldest first."""
    here = _date(first_us)
    behind = _date(last_us)
    year, number = here.year, here.month
    while (year, number) <= (behind.year, behind.month):
        yield f"{year:04d}-{number:02d}"
        year, number = (year + 1, 1) if number == 12 else (year, number + 1)


def numbers_of(times_us: np.ndarray) -> np.ndarray:
    """Return the number of each time's month, counted from January 1970."""
    return times_us.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)


def _date(time_us: int) -> date:
    days = min(max(time_us, _FIRST_US), _LAST_US) // _DAY_US
    return date.fromordinal(_EPOCH + days)
