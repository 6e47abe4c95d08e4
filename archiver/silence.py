"""Which streams are silent for longer than they may be: what is configured, held against what was heard.

Senders stop a stream for good after a few failures, and tell nobody. That nothing comes any
more is then all there is to see.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archiver import activity, clock
from archiver.activity import Activity
from archiver.streams import Stream


@dataclass(frozen=True, slots=True)
class Hearing:
    """What is known of one stream at one moment. Times in microseconds since 1970.

    Attributes:
        is_configured: Whether it stands under `[streams]`, or was only heard of.
        listening_since: Since when somebody listens for it; None: no receiver ever did.
        last_delivery_at: None: there was none.
        silent_seconds: Since the last delivery, or since somebody listens; None: nobody ever did.
        silent_after_seconds: How long it may be silent; None: for ever.
        is_ahead: Whether the last delivery lies in the future, so that no silence can be told.
    """

    stream: str
    is_configured: bool
    listening_since: int | None
    last_delivery_at: int | None
    silent_seconds: float | None
    silent_after_seconds: float | None
    is_ahead: bool = False

    @property
    def is_silent(self) -> bool:
        """Whether it is silent for longer than it may be."""
        if self.silent_seconds is None or self.silent_after_seconds is None:
            return False
        return self.silent_seconds > self.silent_after_seconds

    def to_json(self) -> dict[str, Any]:
        return {
            "stream": self.stream,
            "configured": self.is_configured,
            "listening_since": _text(self.listening_since),
            "last_delivery_at": _text(self.last_delivery_at),
            "silent_seconds": None if self.silent_seconds is None else round(self.silent_seconds, 3),
            "silent_after_seconds": self.silent_after_seconds,
            "silent": self.is_silent,
        }


def hearings(streams: Mapping[str, Stream], spools: Iterable[str | Path], now_us: int) -> list[Hearing]:
    """Return what is known of each stream: the configured ones, then others that a receiver noted.

    Args:
        streams: As configured.
        spools: All folders in which a receiver may have noted something; the missing are left out.

    Raises:
        SourceError: A folder cannot be read.
    """
    heard = activity.newest(Path(one) for one in spools)
    others = sorted(set(heard) - set(streams))
    return [_hearing(name, streams.get(name), heard.get(name), now_us) for name in (*streams, *others)]


def _hearing(name: str, stream: Stream | None, heard: Activity | None, now_us: int) -> Hearing:
    return Hearing(
        stream=name,
        is_configured=stream is not None,
        listening_since=None if heard is None else heard.listening_since,
        last_delivery_at=None if heard is None else heard.last_delivery_at,
        silent_seconds=None if heard is None else heard.silent_seconds(now_us),
        silent_after_seconds=None if stream is None else stream.silent_after_seconds,
        is_ahead=heard is not None and heard.is_ahead(now_us),
    )


def _text(us: int | None) -> str | None:
    return None if us is None else clock.to_text(us)
