"""Logstash: its http input, whose json codec makes one event of each element of an array.

    POST <url>
    Content-Type: application/json
    [<payload>,<payload>]

The payload is sent as it is, with nothing around it; so an event's fields are those of the body:
`[data][id]` (`[alert_id]` of an alert) is the id, unique in its workspace, and `document_id =>
"%{[workspace_id]}:%{[data][id]}"` with `action => "create"` in an elasticsearch output keeps repeats out
of an index. `@timestamp` becomes the time at which Logstash received it, unless a date filter reads
`timestamp`, or the form is `ecs`, which has an `@timestamp`.

The input adds fields of its own (`[host]`, `[user_agent]`, `[url]` and more in ECS mode), which
replace those of an event; and where an event has a text in such a place, the answer is 500 for ever:
`ecs_compatibility => "disabled"`, `remote_host_target_field => "[@metadata][remote]"` and
`request_headers_target_field => "[@metadata][headers]"` put them out of the way.

Its answer says nothing of single events. 2xx (200, 201, 202 or 204, as configured): they are in its
queue, which is lost with it unless it is a persisted one. 429: full. 413: above `max_content_length`,
100 MiB by itself.

**An element that it cannot make an event of spoils its whole array**: that is taken, with 200, as one
event tagged `_jsonparsefailure`, the array being the text in `message`. It is so with a bracket in a
member's name (field references have brackets: elastic/logstash issues 11608, 14821), and a member
`@metadata` that is no object. Such an element is sent alone, so that no other event suffers.

Source: Logstash's documentation of the http input and of the json codec, and their source
(logstash-plugins/logstash-input-http 4.1, logstash-plugins/logstash-codec-json).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from typing import Final

from archiver.forward.base import Limits, Outgoing, Trouble, UnsendableError, Verdict, trouble_of
from archiver.forward.posting import authorization, post
from archiver.forward.settings import Destination
from archiver.http import Client
from archiver.secret import Secret

MOST_EVENTS: Final = 1000
MOST_BYTES: Final = 10 << 20
MOST_REQUEST_BYTES: Final = 100 << 20

# Never gives back what it took: a text of brackets, however long, is read once.
_BRACKETED_NAME: Final = re.compile(rb'"[^"\[\]]*+[\[\]][^"]*+"\s*+:')
# A text, read from quote to quote, and whether it is a name.
_TEXT: Final = re.compile(rb'"((?:[^"\\]++|\\.)*+)"\s*+(:?)', re.DOTALL)
# `[`, `]` and `@` (of `@metadata`), escaped.
_ESCAPED: Final = re.compile(rb"\\u00(?:5[bBdD]|40)")


class LogstashIntake:
    """The http input of Logstash.

    Args:
        token: Sent as `Bearer`; the input itself knows only a user and password, a proxy before it may
            know more.

    Raises:
        ConfigError: The user's name cannot be told.
    """

    oldest_seconds: Final[float | None] = None

    def __init__(self, destination: Destination, token: Secret | None, password: Secret | None) -> None:
        self._headers = {
            "Content-Type": "application/json",
            **authorization(destination, token, password),
        }
        self._gzip = bool(destination.gzip)
        events = min(destination.batch_events or MOST_EVENTS, MOST_EVENTS)
        # One byte of an array is in no item.
        self.limits = Limits(events, (destination.batch_bytes or MOST_BYTES) - 1, MOST_REQUEST_BYTES - 1)

    def item(self, event: Outgoing, payload: bytes) -> bytes:  # noqa: ARG002 - an Intake's
        """Return the payload and the comma behind it.

        Raises:
            UnsendableError: It is above what Logstash takes in one request.
        """
        if len(payload) >= self.limits.most_event_bytes:
            raise UnsendableError(
                f"{len(payload)} bytes, and Logstash takes {MOST_REQUEST_BYTES} in a request"
            )
        return payload + b","

    def deliver(self, client: Client, items: Sequence[bytes], stop: threading.Event) -> Verdict:
        """Post the items as one request; as several, in order, where one would spoil the others.

        Raises:
            NotTrustedError: What stands before an item that would spoil others may have been sent.
        """
        verdict = Verdict()
        for first, end in _apart(items):
            if first and stop.is_set():
                verdict.again, verdict.trouble = range(first, len(items)), Trouble("later", "stopped")
                return verdict
            body = b"[" + b"".join(items[first:end])[:-1] + b"]"
            trouble = trouble_of(post(client, body, self._headers, gzip=self._gzip))
            if trouble is None:
                continue
            if trouble.kind == "batch" and end - first == 1:
                verdict.refused[first] = str(trouble)
                continue
            verdict.again, verdict.trouble = range(first, len(items)), trouble
            return verdict
        return verdict


def _apart(items: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Yield first and end of what may be one array."""
    first = 0
    for number, item in enumerate(items):
        if _spoils(item):
            if first < number:
                yield first, number
            yield number, number + 1
            first = number + 1
    if first < len(items):
        yield first, len(items)


def _spoils(item: bytes) -> bool:
    """Whether Logstash may not be able to make an event of this; it may also be able to."""
    if b"[" in item or b"]" in item:
        if _BRACKETED_NAME.search(item) is not None:
            return True
        # Behind an escaped quote only reading from the beginning tells what is a name.
        if b'\\"' in item and any(
            found[2] and (b"[" in found[1] or b"]" in found[1]) for found in _TEXT.finditer(item)
        ):
            return True
    return b"@metadata" in item or (b"\\u00" in item and _ESCAPED.search(item) is not None)
