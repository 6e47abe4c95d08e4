"""What the contract of intakes is held against: each kind, its stand-in, and a sender between them."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archiver.forward.base import Intake, Outgoing, Portion
from archiver.forward.deadletters import DeadLetters
from archiver.forward.intakes import client_of, intake_of
from archiver.forward.sending import DestinationError, Policy, Sender
from archiver.forward.settings import Destination, read_destinations
from tests.services.bulk import BulkStandIn, ItemError
from tests.services.datadog import DatadogStandIn
from tests.services.hec import HecStandIn
from tests.services.hook import HookStandIn
from tests.services.logstash import LogstashStandIn
from tests.services.standin import Reply, StandIn
from tests.support import event

TOKEN = "token-0123456789abcdef-of-the-tests"
PASSWORD = "password-0123456789abcdef-of-the-tests"
ENVIRONMENT = {"CONTRACT_TOKEN": TOKEN, "CONTRACT_PASSWORD": PASSWORD}
QUICK = Policy(first_wait=0.002, longest_wait=0.01, failures_until_open=3, give_up_after=None)
AT_US = 1_774_520_100_000_000  # 2026-03-26T10:15:00Z


def outgoing(number: int, *, size: int = 0, **data: Any) -> Outgoing:
    """Return a valid event; `size` more bytes in its body, at least."""
    name = f"e{number:04d}"
    if size:
        data["actor_name"] = "x" * size
    body = event(name, **data)
    at_us = AT_US + number
    return Outgoing(
        body, "events", name, "ws_1", "event.created", "document.created", at_us, at_us, number + 1
    )


def some(count: int, **options: Any) -> list[Outgoing]:
    return [outgoing(number, **options) for number in range(count)]


class AsDelivered:
    """Payloads as they came."""

    def of(self, event: Outgoing) -> bytes:
        return event.body


@dataclass
class Given:
    """A reader of what it was given, in portions of `each`; goes on behind what was acknowledged."""

    events: Sequence[Outgoing]
    each: int = 7
    done: int = 0

    def read(self) -> Iterator[Portion]:
        for start in range(self.done, len(self.events), self.each):
            end = min(start + self.each, len(self.events))
            yield Portion(0, list(self.events[start:end]), end, end == len(self.events))

    def acknowledge(self, portion: Portion, place: int) -> None:
        assert self.done <= place <= portion.end
        self.done = place


@dataclass
class Case:
    """One kind of destination.

    Attributes:
        kind: And what is particular in this case.
        settings: Of `[destinations.siem]`, less its URL.
        standin: Wants the token or password of the contract.
        arrived: What is there, in the order of its arrival, each as the tree that was delivered.
        refusing: Lets the receiver refuse the event of this number, and no other.
        locked: How it answers to a wrong token.
        tells: Whether its 2xx alone is not enough: its body has to say that all was taken.
        is_once: Whether the receiver takes an event once however often it is sent.
        is_single: One event a request.
    """

    kind: str
    settings: dict[str, Any]
    standin: StandIn
    arrived: Callable[[], list[dict[str, Any]]]
    refusing: Callable[[int], None]
    locked: Reply
    tells: bool = False
    is_once: bool = False
    is_single: bool = False
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def secret(self) -> str:
        return TOKEN if "token_env" in self.settings else PASSWORD

    def destination(self, **changes: Any) -> Destination:
        members = {"url": self.standin.url, **self.settings, **changes}
        return read_destinations("archiver.toml", {"siem": members}, Path("/"))["siem"]

    def intake(self, **changes: Any) -> Intake:
        return intake_of(self.destination(**changes), ENVIRONMENT)

    @contextmanager
    def sender(self, folder: Path, **changes: Any) -> Iterator[Sender]:
        """A sender to the stand-in that ends after ten seconds at the latest."""
        destination = self.destination(**changes)
        client = client_of(destination, ENVIRONMENT)
        timer = threading.Timer(10, self.stop.set)
        timer.start()
        try:
            yield Sender(
                "siem",
                intake_of(destination, ENVIRONMENT),
                client,
                AsDelivered(),
                DeadLetters(folder / "deadletters"),
                policy=QUICK,
                stop=self.stop,
            )
        finally:
            timer.cancel()
            client.close()

    def send(self, folder: Path, events: Sequence[Outgoing], **options: Any) -> Sender:
        """Send all of it, as often as it takes; it is an error if that does not come to an end."""
        reader = Given(events)
        with self.sender(folder, **options) as sender:
            for _ in range(20):
                try:
                    assert sender.send(reader)
                    break
                except DestinationError:
                    continue
        assert reader.done == len(events)
        return sender

    def ids(self) -> list[str]:
        return [tree["data"]["id"] for tree in self.arrived()]

    def check(self, events: Sequence[Outgoing], *, repeats: bool = False) -> None:
        """Each event arrived, in order, unaltered; again only where `repeats` cannot be prevented."""
        arrived = self.arrived()
        counted = Counter(tree["data"]["id"] for tree in arrived)
        assert list(counted) == [one.id for one in events]
        if not repeats or self.is_once:
            assert set(counted.values()) <= {1}
        bodies = {one.id: json.loads(one.body) for one in events}
        assert all(tree == bodies[tree["data"]["id"]] for tree in arrived)


def _poisoned(standin: StandIn, reply: Reply) -> Callable[[int], None]:
    """Let a stand-in that knows no single events refuse each request in which one of them is."""

    def refusing(number: int) -> None:
        answer = standin.answer
        standin.answer = lambda asked: (  # type: ignore[method-assign]
            reply if f"e{number:04d}".encode() in asked.body else answer(asked)
        )

    return refusing


def splunk(*, acknowledges: bool = False) -> Case:
    """HEC, with indexer acknowledgement or without; to ask for it is a request too."""
    standin = HecStandIn(token=TOKEN, acknowledges=acknowledges)

    def refusing(number: int) -> None:
        standin.refuses = (f'"e{number:04d}"',)

    return Case(
        "splunk",
        {"type": "splunk", "token_env": "CONTRACT_TOKEN", "acknowledge": acknowledges},
        standin,
        lambda: [one["event"] for one in standin.events],
        refusing,
        Reply(403, b'{"text":"Invalid token","code":4}'),
        tells=True,
    )


def _datadog() -> Case:
    standin = DatadogStandIn(key=TOKEN)
    return Case(
        "datadog",
        {"type": "datadog", "token_env": "CONTRACT_TOKEN"},
        standin,
        lambda: [json.loads(one["message"]) for one in standin.logs],
        _poisoned(standin, Reply(400, b'{"errors":[{"status":"400","title":"Bad Request"}]}')),
        Reply(403, b'{"errors":[{"status":"403","title":"Forbidden","detail":"API key is invalid"}]}'),
    )


def _elastic() -> Case:
    standin = BulkStandIn(key=TOKEN)

    def refusing(number: int) -> None:
        error = ItemError(400, "document_parsing_exception", "failed to parse field [data.x]")
        standin.refusals[f"events:ws_1:e{number:04d}"] = error

    return Case(
        "elastic",
        {"type": "elastic", "token_env": "CONTRACT_TOKEN"},
        standin,
        lambda: [one["immutable"] for one in standin.documents()],
        refusing,
        Reply(401, b'{"error":{"type":"security_exception","reason":"unable to authenticate"},"status":401}'),
        tells=True,
        is_once=True,
    )


def _logstash() -> Case:
    standin = LogstashStandIn(user="archiver", password=PASSWORD)
    return Case(
        "logstash",
        {"type": "logstash", "user": "archiver", "password_env": "CONTRACT_PASSWORD"},
        standin,
        lambda: list(standin.events),
        _poisoned(standin, Reply(413, b"")),
        Reply(401, b"", {"WWW-Authenticate": 'Basic realm="Logstash HTTP Input"'}),
    )


def _http(batch: str) -> Case:
    standin = HookStandIn(token=TOKEN)

    def refusing(number: int) -> None:
        standin.refuses = f'"e{number:04d}"'.encode()

    return Case(
        f"http-{batch}",
        {"type": "http", "token_env": "CONTRACT_TOKEN", "batch": batch},
        standin,
        lambda: [json.loads(one) for one in standin.bodies],
        refusing,
        Reply(401, b'{"error": "who is it?"}'),
        is_single=batch == "single",
    )


CASES: dict[str, Callable[[], Case]] = {
    "splunk": splunk,
    "datadog": _datadog,
    "elastic": _elastic,
    "logstash": _logstash,
    "http-single": lambda: _http("single"),
    "http-array": lambda: _http("array"),
    "http-lines": lambda: _http("lines"),
}
