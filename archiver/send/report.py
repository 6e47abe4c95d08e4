"""What came of a sending: counts that add up, answers, and how long they took."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

_STEP: Final = math.log(1.02)  # from one class of latencies to the next


class Latencies:
    """Durations, counted in classes that are 2 % wide: any number of them in a few kilobytes."""

    def __init__(self) -> None:
        self._classes: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        self._classes[round(math.log(max(seconds, 1e-9)) / _STEP)] += 1

    def quantile(self, share: float) -> float | None:
        """Return the seconds that `share` of all do not exceed, within 1 %; None if there is none."""
        missing = max(math.ceil(self._classes.total() * share), 1)
        for number in sorted(self._classes):
            missing -= self._classes[number]
            if missing <= 0:
                return math.exp(number * _STEP)
        return None


@dataclass(slots=True)
class SendReport:
    """What was sent, and what became of it.

    Attributes:
        deliveries: Taken from the input, each once: acknowledged + not_acknowledged.
        acknowledged: Answered 2xx.
        not_acknowledged: Given up, or never begun because the stream was stopped. The receiver
            may have one whose answer was lost.
        repeats: Sent a second time on purpose, to an end; repeats_acknowledged of them answered 2xx.
        attempts: Requests; retries are those behind a delivery's first.
        answers: How the attempts ended: an HTTP status, or `refused`, `reset`, `timeout`, `tls`,
            `unreachable`. Sums to `attempts`.
        bytes: Of the acknowledged bodies, repeats included.
        unreadable: Stretches of the input that hold no delivery, and so were not sent.
        last_failure: How the last attempt that failed ended, and what may be done; None if none did.
        stopped: Why the stream was stopped, or None.
        rest_unread: Whether the stream ended before its input, so that nobody knows how much was left.
        interrupted: Whether somebody interrupted it.
        problems: What else went wrong, for people.
        seconds: From the first attempt to the last answer.
        latencies: Of the acknowledged attempts.
    """

    deliveries: int = 0
    acknowledged: int = 0
    not_acknowledged: int = 0
    repeats: int = 0
    repeats_acknowledged: int = 0
    attempts: int = 0
    retries: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    unreadable: int = 0
    last_failure: str | None = None
    stopped: str | None = None
    rest_unread: bool = False
    interrupted: bool = False
    dry_run: bool = False
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    latencies: Latencies = field(default_factory=Latencies, repr=False)

    @property
    def is_complete(self) -> bool:
        """Whether all that the input holds was acknowledged."""
        return not (
            self.not_acknowledged or self.unreadable or self.stopped or self.rest_unread or self.interrupted
        )

    @property
    def rate(self) -> float:
        """Acknowledged attempts in a second."""
        return (self.acknowledged + self.repeats_acknowledged) / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return it as the `send_report` document."""
        return {
            "message_type": "send_report",
            "dry_run": self.dry_run,
            "deliveries": self.deliveries,
            "acknowledged": self.acknowledged,
            "not_acknowledged": self.not_acknowledged,
            "repeats": self.repeats,
            "repeats_acknowledged": self.repeats_acknowledged,
            "attempts": self.attempts,
            "retries": self.retries,
            "answers": dict(self.answers.most_common()),
            "bytes": self.bytes,
            "unreadable": self.unreadable,
            "last_failure": self.last_failure,
            "stopped": self.stopped,
            "rest_unread": self.rest_unread,
            "interrupted": self.interrupted,
            "problems": self.problems,
            "seconds": round(self.seconds, 3),
            "per_second": round(self.rate, 1),
            "p50_ms": _milliseconds(self.latencies.quantile(0.5)),
            "p99_ms": _milliseconds(self.latencies.quantile(0.99)),
        }


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
