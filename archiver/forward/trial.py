"""One synthetic event to a destination, and what came back: `archiver forward NAME --test`.

It goes the way of every event (form, item, request), past the filters and past the cursor, once
and without a retry. It is marked as what it is, and stays at the receiver.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from archiver import clock
from archiver.forward.base import Outgoing, UnsendableError, Verdict
from archiver.forward.deadletters import one_line
from archiver.forward.intakes import client_of, intake_of
from archiver.forward.meanings import meaning
from archiver.forward.payload import Payloads
from archiver.forward.settings import Destination, Kind
from archiver.http import Answer, Client, NoAnswer, NotTrustedError

ACTION: Final = "archiver.test"
MARK: Final = "archiver-test"
_PRODUCTS: Final[dict[Kind, str]] = {
    "splunk": "Splunk",
    "datadog": "Datadog",
    "elastic": "Elastic",
    "logstash": "Logstash",
    "http": "the receiver",
}
_ASIDE: Final = "/ack"  # what Splunk is asked beside the event
_LOOPBACK: Final = re.compile(
    r"http://(?:127(?:\.\d+){3}|localhost|\[::1\])(?::\d+)?(?:/.*)?", re.ASCII | re.DOTALL
)


@dataclass(slots=True)
class Trial:
    """What became of one synthetic event.

    Attributes:
        url: Where it was posted to, without a query; the destination's, if nothing was posted.
        event_id: Of the event.
        payload_bytes: Of the event in the destination's form.
        sent_bytes: Of the request's body as it was sent; 0 if nothing was.
        gzip: Whether that was compressed.
        is_taken: The receiver said that it has it.
        answer: A status, a receiver's code or what happened instead: `200`, `403 code 4`, `refused`.
        told: What the receiver or the system said: one line, bounded, no secret in it.
        means, mend: What that means, and what somebody may do about it.
        search: How to find the event there; empty if it was not taken.
        notes: What else one should know.
        seconds: That the answer took.
    """

    destination: str
    kind: Kind
    form: str
    url: str
    event_id: str
    payload_bytes: int = 0
    sent_bytes: int = 0
    gzip: bool = False
    is_taken: bool = False
    answer: str = ""
    told: str = ""
    means: str = ""
    mend: str = ""
    search: str = ""
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        return 0 if self.is_taken else 1

    def to_json(self) -> dict[str, Any]:
        return {
            "message_type": "forward_test",
            "destination": self.destination,
            "type": self.kind,
            "form": self.form,
            "url": self.url,
            "event_id": self.event_id,
            "payload_bytes": self.payload_bytes,
            "sent_bytes": self.sent_bytes,
            "gzip": self.gzip,
            "taken": self.is_taken,
            "answer": self.answer,
            "told": self.told,
            "means": self.means,
            "mend": self.mend,
            "search": self.search,
            "notes": self.notes,
            "seconds": round(self.seconds, 3),
        }


def trial(destination: Destination, environment: Mapping[str, str] | None = None) -> Trial:
    """Send one synthetic event to a destination, once, and say what came back.

    Args:
        environment: Where the secrets' variables are; None: this process's.

    Raises:
        ConfigError: A setting or a secret will not do. Nothing was sent.
    """
    intake = intake_of(destination, environment)
    payloads = Payloads(destination, environment)
    client = _Witness(client_of(destination, environment))
    event = synthetic_event(destination)
    told = Trial(destination.name, destination.kind, destination.form, client.shown, event.id)
    began = time.perf_counter()
    try:
        payload = payloads.of(event)
        item = intake.item(event, payload)
        told.payload_bytes = len(payload)
        began = time.perf_counter()
        verdict = intake.deliver(client, [item], threading.Event())
    except UnsendableError as error:
        told.answer, told.told = "not sent", one_line(error.message)
        told.means, told.mend = "By these settings no such event can be sent.", one_line(error.hint)
        return told
    except NotTrustedError as error:
        told.answer, told.told = "tls", one_line(error.message)
        told.means, told.mend = meaning(destination.kind, "tls", "")
        told.mend = one_line(error.hint) or told.mend
        return told
    finally:
        told.seconds = time.perf_counter() - began
        client.close()
    _explain(told, destination, verdict, client.exchanges)
    _advise(told, destination)
    return told


def trial_text(told: Trial) -> str:
    """Return a trial as text for people."""
    size = f"{told.payload_bytes:,} bytes"
    if told.sent_bytes:
        size += f"; the request {told.sent_bytes:,} bytes{', gzip' if told.gzip else ', not compressed'}"
    said = f": {told.told}" if told.told else ""
    lines = [
        f"event     {told.event_id}, synthetic; form {told.form}, {size}",
        f"to        {told.destination} ({told.kind}) {told.url}",
        f"answer    {told.answer} after {told.seconds:.2f} s{said}",
        f"{'taken' if told.is_taken else 'NOT TAKEN':<10}{told.means}",
    ]
    if told.mend:
        lines.append(f"mend      {told.mend}")
    if told.search:
        lines.append(f"find it   {told.search}")
    return "\n".join([*lines, *(f"note      {one}" for one in told.notes)])


def synthetic_event(destination: Destination) -> Outgoing:
    """Return an event that says of itself that it is none; an alert, if the destination wants only these."""
    now = clock.now_us()
    name = f"{MARK}-{secrets.token_hex(8)}"
    workspace = destination.workspaces[0] if destination.workspaces else MARK
    types = destination.event_types
    is_alert = bool(types) and "event.created" not in types and "alert.triggered" in types
    note = "synthetic, sent by archiver forward --test; nobody did anything"
    event: dict[str, Any] = {"id": name, "action": ACTION, "actor_id": MARK}
    body: dict[str, Any]
    if is_alert:
        body = {
            "event_type": "alert.triggered",
            "alert_id": name,
            "rule_name": MARK,
            "rule_type": "repeated_action",
            "reason": note,
            "event": event,
            "workspace_id": workspace,
            "triggered_at": clock.to_text(now),
        }
    else:
        event |= {
            "actor_name": "archiver forward --test",
            "actor_type": "system",
            "resource": "destination",
            "resource_id": destination.name,
            "metadata": {"note": note},
        }
        body = {
            "event_type": "event.created",
            "data": event,
            "workspace_id": workspace,
            "timestamp": clock.to_text(now),
        }
    return Outgoing(
        body=json.dumps(body, separators=(",", ":")).encode(),
        dataset="alerts" if is_alert else "events",
        id=name,
        workspace=workspace,
        event_type=body["event_type"],
        action="" if is_alert else ACTION,
        at_us=now,
        received_us=now,
    )


class _Exchange(NamedTuple):
    """One request; `gzip` and `body_bytes` of what was sent."""

    path: str
    body_bytes: int
    gzip: bool
    answer: Answer | NoAnswer


class _Witness(Client):
    """A client that remembers its requests."""

    def __init__(self, client: Client) -> None:
        self.shown = client.shown
        self.exchanges: list[_Exchange] = []
        self._client = client

    def post(self, path: str, body: bytes, headers: Mapping[str, str], **settings: Any) -> Answer | NoAnswer:
        answer = self._client.post(path, body, headers, **settings)
        is_gzip = {name.lower(): value for name, value in headers.items()}.get("content-encoding") == "gzip"
        self.exchanges.append(_Exchange(path.partition("?")[0], len(body), is_gzip, answer))
        return answer

    def close(self) -> None:
        self._client.close()


def _explain(told: Trial, destination: Destination, verdict: Verdict, exchanges: list[_Exchange]) -> None:
    """Say what the verdict on the one item means."""
    text = ""
    sent = next((one for one in exchanges if not one.path.endswith(_ASIDE)), None)
    if sent is not None:
        told.url = told.url.rstrip("/") + sent.path if sent.path else told.url
        told.sent_bytes, told.gzip = sent.body_bytes, sent.gzip
        told.told = one_line(sent.answer.told)
        told.answer = str(sent.answer.status) if isinstance(sent.answer, Answer) else sent.answer.silence
        text = " ".join(
            one.answer.content.decode(errors="replace") for one in exchanges if isinstance(one.answer, Answer)
        )
    if not (verdict.refused or verdict.again):
        told.is_taken = True
        told.means = f"{_PRODUCTS[destination.kind]} says that it has the event."
        return
    trouble = verdict.trouble
    if trouble is not None:
        told.answer = one_line(trouble.answer) or told.answer
        told.told = one_line(trouble.told) or told.told
    elif verdict.refused:
        told.told = one_line(verdict.refused[0])
    told.means, told.mend = meaning(destination.kind, f"{told.answer} {told.told}", text)
    if trouble is not None and not told.mend:
        told.mend = one_line(trouble.hint)


def _advise(told: Trial, destination: Destination) -> None:
    """Say how to find the event there, and what else one should know."""
    if told.is_taken:
        told.search = _search(destination, told.event_id)
        told.notes.append("the event stays there: nothing that is sent can be taken back from here")
    if told.url.startswith("http://") and _LOOPBACK.fullmatch(told.url) is None:
        told.notes.append("the URL is http:// and not https://: events and secrets travel in the clear")


def _search(destination: Destination, name: str) -> str:
    index = str(destination.options.get("index", ""))
    is_one = bool(index) and "{" not in index
    match destination.kind:
        case "splunk":
            return f'search: index={index if is_one else "*"} "{name}"'
        case "datadog":
            return f"Log Explorer: @event_id:{name}"
        case "elastic":
            return f'Discover: event.id : "{name}"'
        case "logstash":
            return f"where its outputs lead to: {name}"
        case "http":
            return f"at the receiver: {name}"
