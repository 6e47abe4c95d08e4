"""How to send: how fast, how often again, in which order, and when to give up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from archiver.errors import ConfigError

VENDOR_STOPS_AFTER: Final = 3
MOST_CONNECTIONS: Final = 1024


@dataclass(frozen=True, slots=True)
class SendOptions:
    """What `send` takes; checked when it is made.

    Attributes:
        concurrency: Connections, each with one delivery at a time.
        rate: First attempts in a second, at most; None is as fast as it goes.
        repeats: The share of the deliveries that is sent a second time on purpose, soon after or later.
        shuffle: Whether they leave in another order, by chance, within a window of 10,000
            deliveries or 64 MiB.
        seed: The same seed repeats the same deliveries, and shuffles them alike.
        retries: Of one delivery, behind its first attempt.
        backoff_seconds: About the wait before the first retry; it doubles with each, to at most 30 s.
        timeout_seconds: How long a connection may be silent.
        stop_after: The stream is stopped when so many attempts in a row have failed, counted over
            all deliveries and connections in the order in which they ended; an acknowledged
            one begins the count anew. 0 never stops. The vendor stops after 3 "consecutive
            failures" and does not say of what: attempts are the strictest reading.
        ca_file: Certificates to trust instead of the system's, as PEM.
        counts_rest: Whether a stopped stream reads the rest of its input, to say how much it was.
        dry_run: Read, count and sign, and send nothing.

    Raises:
        ConfigError: A number is out of its range.
    """

    concurrency: int = 4
    rate: float | None = None
    repeats: float = 0.0
    shuffle: bool = False
    seed: int = 0
    retries: int = 5
    backoff_seconds: float = 0.5
    timeout_seconds: float = 30.0
    stop_after: int = VENDOR_STOPS_AFTER
    ca_file: Path | None = None
    counts_rest: bool = True
    dry_run: bool = False

    def __post_init__(self) -> None:
        wrong = [
            what
            for what, holds in (
                (f"concurrency is 1 to {MOST_CONNECTIONS}", 1 <= self.concurrency <= MOST_CONNECTIONS),
                ("rate is more than 0", self.rate is None or self.rate > 0),
                ("repeats is a share from 0 to 1", 0 <= self.repeats <= 1),
                ("retries is 0 or more", self.retries >= 0),
                ("backoff is 0 seconds or more", self.backoff_seconds >= 0),
                ("timeout is more than 0 seconds", self.timeout_seconds > 0),
                ("stop-after is 0 or more", self.stop_after >= 0),
            )
            if not holds
        ]
        if wrong:
            raise ConfigError("; ".join(wrong))
