"""Times as the archive writes them: text in UTC with six decimals, or microseconds since 1970.

The text sorts as the instants do, for the years 1 to 9999, and is what commits hold.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST_US, _LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
_TEXT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z", re.ASCII)


def now_us() -> int:
    """Return the present time, in microseconds since 1970."""
    return to_us(datetime.now(UTC))


def to_us(when: datetime) -> int:
    """Return `when`, which has a time zone, in microseconds since 1970."""
    return (when - _EPOCH) // _MICROSECOND


def nearest(us: int) -> int:
    """Return `us`, or the first or last instant that can be written: a file's time may lie anywhere."""
    return min(max(us, _FIRST_US), _LAST_US)


def from_us(us: int) -> datetime:
    return _EPOCH + us * _MICROSECOND


def to_text(us: int) -> str:
    """Write microseconds since 1970 as `2026-03-26T10:15:00.000000Z`."""
    return from_us(us).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def from_text(text: str) -> int:
    """Read what `to_text` wrote.

    Raises:
        ValueError: It is of another form.
    """
    if _TEXT.fullmatch(text) is None:  # `fromisoformat` takes weeks, commas and blanks, too
        raise ValueError(f"a time of the form 2026-03-26T10:15:00.000000Z is expected, not {text!r:.40}")
    return to_us(datetime.fromisoformat(text))
