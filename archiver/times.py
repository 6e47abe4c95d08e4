"""Points in time as users write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from archiver import clock
from archiver.errors import ConfigError

_AGO: Final = re.compile(r"([0-9]{1,9})\s*(s|m|h|d|w)", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_HINT: Final = "a date (2026-03-26), a time (2026-03-26T10:15:00Z), or how long ago (30m, 24h, 7d, 2w)"


def parse_when(text: str, now: int) -> int:
    """Return the instant that `text` means, in microseconds since 1970.

    Without a zone it is in UTC; a date is its first moment; `7d` is seven days before `now`.

    Raises:
        ConfigError: It means none, or one outside the years 1 to 9999.
    """
    told = text.strip()
    if told == "now":
        return now
    try:
        if found := _AGO.fullmatch(told):
            instant = now - int(found[1]) * _SECONDS[found[2]] * 1_000_000
        else:
            when = datetime.fromisoformat(told)
            instant = clock.to_us(when if when.tzinfo is not None else when.replace(tzinfo=UTC))
        clock.from_us(instant)  # is there such a year?
        return instant
    except (ValueError, OverflowError):
        raise ConfigError(f"{text!r:.60} is no point in time", hint=_HINT) from None
