"""Readers and intakes that tests script: stand-ins for the ends of the path, not for an API."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archiver.forward.base import Limits, Outgoing, Portion, Trouble, UnsendableError, Verdict, all_again
from archiver.forward.deadletters import DeadLetters
from archiver.forward.sending import Policy, Sender
from archiver.http import Client

QUICK = Policy(first_wait=0.001, longest_wait=0.004, give_up_after=5.0)


def event(number: int, *, place: int = 0, body: bytes | None = None, **members: Any) -> Outgoing:
    """Make an event with the id `e<number>`."""
    told: dict[str, Any] = {
        "dataset": "events",
        "workspace": "ws_1",
        "event_type": "event.created",
        "action": "auth.login",
        "at_us": 1_774_000_000_000_000 + number,
        "received_us": 1_774_000_000_000_000 + number,
    }
    text = body if body is not None else b'{"id":"e%d"}' % number
    return Outgoing(body=text, id=f"e{number}", place=place or number + 1, **(told | members))


@dataclass
class ScriptedReader:
    """Gives portions of one unit each; remembers what was acknowledged."""

    sizes: Sequence[int]
    acknowledged: list[tuple[Any, int]] = field(default_factory=list)
    before_acknowledging: Callable[[], None] = lambda: None

    def read(self) -> Iterator[Portion]:
        first = 0
        for unit, size in enumerate(self.sizes):
            events = [event(first + number, place=number + 1) for number in range(size)]
            first += size
            yield Portion(unit, events, size, is_last=True)

    def acknowledge(self, portion: Portion, place: int) -> None:
        self.before_acknowledging()
        self.acknowledged.append((portion.unit, place))


Answer = Callable[[list[str]], Verdict]


@dataclass
class ScriptedIntake:
    """Takes what `script` lets it; each entry decides about one request, then everything is taken."""

    script: list[Answer] = field(default_factory=list)
    limits: Limits = field(default_factory=lambda: Limits(4, 1 << 20, 1 << 20))
    poison: frozenset[str] = frozenset()
    oldest_seconds: float | None = None
    taken: list[str] = field(default_factory=list)
    requests: list[list[str]] = field(default_factory=list)
    stop_after: int | None = None

    def item(self, event: Outgoing, payload: bytes) -> bytes:
        if len(payload) > self.limits.most_event_bytes:
            raise UnsendableError(f"{len(payload)} bytes, at most {self.limits.most_event_bytes}")
        return event.id.encode()

    def deliver(self, client: Client, items: Sequence[bytes], stop: threading.Event) -> Verdict:
        ids = [item.decode() for item in items]
        self.requests.append(ids)
        if self.stop_after is not None and len(self.requests) >= self.stop_after:
            stop.set()
        if self.script:
            verdict = self.script.pop(0)(ids)
        elif self.poison & set(ids):
            verdict = all_again(len(ids), Trouble("batch", "400", "something in it"))
        else:
            verdict = Verdict()
        left = {*verdict.again, *verdict.refused}
        self.taken += [one for place, one in enumerate(ids) if place not in left]
        return verdict


class AsTheyAre:
    def of(self, event: Outgoing) -> bytes:
        return event.body


def sender(intake: ScriptedIntake, folder: Path, **parts: Any) -> Sender:
    """Make a sender of a destination called `siem`, whose waits are short."""
    return Sender(
        "siem",
        intake,
        Client("http://127.0.0.1:9"),
        AsTheyAre(),
        DeadLetters(folder),
        **{"policy": QUICK, **parts},
    )


def later(ids: list[str]) -> Verdict:
    return all_again(len(ids), Trouble("later", "503", "busy"))
