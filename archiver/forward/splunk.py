"""Splunk's HTTP Event Collector (HEC): the event endpoint, and indexer acknowledgement.

Formats: "Format events for HTTP Event Collector", "Troubleshoot HTTP Event Collector" and "About HTTP
Event Collector Indexer Acknowledgment" in Splunk's manual "Getting Data In".
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from archiver.errors import ConfigError
from archiver.forward.base import (
    Limits,
    Outgoing,
    Trouble,
    TroubleKind,
    UnsendableError,
    Verdict,
    all_again,
    trouble_of,
)
from archiver.forward.posting import post
from archiver.forward.settings import Destination
from archiver.forward.templates import template_of
from archiver.http import MOST_ANSWER_BYTES, Answer, Client, NoAnswer, first_line, parsed_url
from archiver.secret import Secret

EVENT_PATH: Final = "/services/collector/event"
ACK_PATH: Final = "/services/collector/ack"
# Splunk Cloud takes a request of 1 MB.
_MOST_EVENTS: Final = 1_000
_MOST_BYTES: Final = 1_000_000

# An item begins with its index, if it has one: `_head`.
_INDEX_OF: Final = re.compile(rb'\{"index":"((?:[^"\\]|\\.)*)"').match
_TEMPLATED: Final = ("index", "sourcetype", "host", "source")
_MOST_HEADS: Final = 4_096
_CONFIRM_SECONDS: Final = 120.0
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 10.0

# Codes with which a request is taken: 24 and 25 say that a queue is filling up.
_TAKEN: Final = frozenset({0, 24, 25})
# Of one event, which `invalid-event-number` names.
_OF_ONE_EVENT: Final = frozenset({5, 6, 12, 13, 15})
_INDEX: Final = 7
_ACK_IS_OFF: Final = 14
_TOKEN: Final = "is the token right, and enabled in Splunk?"  # noqa: S105  (a hint)
# What the others mean for the sender. A code that is not here is judged by its HTTP status.
_CODES: Final[Mapping[int, tuple[TroubleKind, str]]] = {
    1: ("settings", "enable the token in Splunk"),
    2: ("settings", _TOKEN),
    3: ("settings", _TOKEN),
    4: ("settings", _TOKEN),
    5: ("batch", ""),
    6: ("batch", ""),
    _INDEX: ("settings", "does the index exist, and may the token write to it?"),
    8: ("later", ""),
    9: ("later", ""),
    10: ("settings", "the token asks for indexer acknowledgement: set acknowledge = true"),
    11: ("settings", ""),
    12: ("batch", ""),
    13: ("batch", ""),
    _ACK_IS_OFF: ("settings", "enable indexer acknowledgement for the token, or leave acknowledge out"),
    15: ("batch", ""),
    16: ("settings", ""),
    18: ("later", ""),
    19: ("later", ""),
    20: ("later", ""),
    21: ("settings", _TOKEN),
    22: ("settings", "enable the token in Splunk"),
    23: ("later", ""),
    26: ("later", ""),
}
_NO_COLLECTOR: Final = "this is no answer of an HTTP Event Collector: does the URL lead to one?"


class SplunkIntake:
    """Posts to `/services/collector/event`.

    An event arrives as a JSON object with the time it happened at, to the microsecond, and
    the indexed fields `event_id`, `workspace` and `dataset`. These names are in no delivered body's
    top level, so that Splunk's own extraction adds no second value to them. Whoever wants
    each event once searches with `dedup workspace dataset event_id`: Splunk itself tells no repeats apart.
    `index`, `sourcetype`, `host` and `source` are left to the token's settings where they are not
    configured.

    When the answer names an event (`invalid-event-number`, counted from 0), those before it were
    taken; it is refused, and only those behind it are sent again, at once.

    An incorrect index is no event's fault if all go to the same one. If `index` is a template,
    all events of that index in the request are refused, and all others are sent again, those
    before it too, which may then be there twice: that number counts from 1 in answers of
    Splunk's own to this code and from 0 in others', and no document says which.

    With `acknowledge` a request is taken when the indexers say so; after two minutes without it
    is sent again. One request waits for the other, so that a large batch is worth it. Splunk
    tells a confirmation once: if that answer is lost, the request is repeated. The questions
    must reach the instance that took the request: a load balancer needs sticky sessions.

    A limit of Splunk's that no answer tells: what is longer than the source type's TRUNCATE
    (10,000 bytes if nobody changed it) may be cut when it is indexed.

    Args:
        destination: Of the kind `splunk`. Its `batch_events` and `batch_bytes` replace the limits
            of a request: Splunk Enterprise's own are configured there.
        token: Of the collector.
        confirm_seconds: How long a confirmation may take.
        first_pause_seconds: Before it is asked for a second time; later pauses are longer, up to 10 s.

    Raises:
        ConfigError: A template or the URL will not do, or there is no token.
    """

    oldest_seconds: Final[float | None] = None

    def __init__(
        self,
        destination: Destination,
        token: Secret | None,
        *,
        confirm_seconds: float = _CONFIRM_SECONDS,
        first_pause_seconds: float = _FIRST_PAUSE_SECONDS,
    ) -> None:
        here = f"[destinations.{destination.name}] url"
        url = parsed_url(destination.url)
        if url.query or "/services/collector" in (url.path or ""):
            raise ConfigError(
                f"{here}: {EVENT_PATH} is put behind it", hint="https://splunk.example.com:8088, for instance"
            )
        if token is None:
            raise ConfigError(f"[destinations.{destination.name}] has no token")
        self._token = token
        most_bytes = destination.batch_bytes or _MOST_BYTES
        self.limits = Limits(destination.batch_events or _MOST_EVENTS, most_bytes, most_bytes)
        found = {key: template_of(destination, key) for key in _TEMPLATED}
        self._templates = {key: template for key, template in found.items() if template is not None}
        self._by_action = any(one.names & {"action", "action_group"} for one in self._templates.values())
        self._one_index = "index" not in self._templates or not self._templates["index"].names
        self._heads: dict[tuple[str, str, str, str], bytes] = {}
        self._gzip = bool(destination.gzip)
        # A confirmation belongs to a channel; a new process does not know what an older one's were.
        self._channel = str(uuid.uuid4()) if destination.options.get("acknowledge") else ""
        self._gives_confirmations = False
        self._confirm_seconds = confirm_seconds
        self._first_pause_seconds = first_pause_seconds

    def item(self, event: Outgoing, payload: bytes) -> bytes:
        """Return the object of one event, and a line's end.

        Raises:
            UnsendableError: It is larger than a request may be.
        """
        key = (event.workspace, event.dataset, event.event_type, event.action if self._by_action else "")
        head = self._heads.get(key) or self._head(key, event)
        try:
            id_text = orjson.dumps(event.id)
        except TypeError:  # a lone surrogate
            id_text = json.dumps(event.id).encode()
        at_us = event.at_us
        # Never by way of a float, which would round.
        item = b'%b%b},"time":%b%d.%06d,"event":%b}\n' % (
            head,
            id_text,
            b"" if at_us >= 0 else b"-",
            *divmod(abs(at_us), 1_000_000),
            payload,
        )
        if len(item) > self.limits.most_event_bytes:
            raise UnsendableError(
                f"{len(item)} bytes as an item, more than the {self.limits.most_event_bytes} of a request",
                hint="raise batch_bytes, if the collector takes larger requests (max_content_length)",
            )
        return item

    def _head(self, key: tuple[str, str, str, str], event: Outgoing) -> bytes:
        """What all events of `key` begin with, up to the id's value. The index, if any, is first."""
        members = {name: template.render(event) for name, template in self._templates.items()}
        fields = {"workspace": event.workspace, "dataset": event.dataset}
        text = json.dumps({**members, "fields": fields}, separators=(",", ":"))
        head = f'{text[:-2]},"event_id":'.encode()
        if len(self._heads) >= _MOST_HEADS:
            self._heads.clear()
        self._heads[key] = head
        return head

    def deliver(self, client: Client, items: Sequence[bytes], stop: threading.Event) -> Verdict:
        """Post the items as one request, and with `acknowledge` wait until it is indexed.

        Raises:
            NotTrustedError: Nothing was sent.
        """
        count = len(items)
        if self._channel and not self._gives_confirmations:
            # Asked before anything is sent: else it would be taken unconfirmed, and sent again and again.
            asked = self._ask(client, 0)
            code, trouble = _judged(asked)
            if trouble is not None and (code == _ACK_IS_OFF or isinstance(asked, NoAnswer)):
                return all_again(count, trouble)
        answer = post(client, b"".join(items), self._headers(), path=EVENT_PATH, gzip=self._gzip)
        code, trouble = _judged(answer)
        told = _told(answer)
        if trouble is None:
            trouble = self._confirmed(client, told.get("ackId"), stop) if self._channel else None
            return all_again(count, trouble) if trouble else Verdict()
        number = told.get("invalid-event-number")
        if type(number) is not int or not 0 <= number <= count:
            number = None
        if code == _INDEX and not self._one_index:
            return self._of_wrong_index(client, items, number, trouble, stop)
        if code in _OF_ONE_EVENT and number is not None and number < count:
            verdict = Verdict(refused={number: str(trouble)}, again=range(number + 1, count))
            if number and self._channel:
                ack_id = told.get("ackId")
                # Without one nobody can ask after those before it; they may then be there twice.
                if type(ack_id) is int:
                    verdict.trouble = self._confirmed(client, ack_id, stop)
                if verdict.trouble or type(ack_id) is not int:
                    verdict.again = [one for one in range(count) if one != number]
            return verdict
        return all_again(count, trouble)

    def _of_wrong_index(
        self,
        client: Client,
        items: Sequence[bytes],
        number: int | None,
        trouble: Trouble,
        stop: threading.Event,
    ) -> Verdict:
        count = len(items)
        indexes = [_index_of(item) for item in items]
        if count == 1:
            number = 0
        elif number is None:
            return all_again(count, Trouble("batch", trouble.answer, trouble.told, trouble.hint))
        elif number > 0:
            # The event of that number, or the one before? If both have one index, the first of them
            # already was refused. If not, the first is sent alone.
            if number == count or indexes[number - 1] == indexes[number]:
                number -= 1
            else:
                alone = self.deliver(client, items[number - 1 : number], stop)
                if alone.again:
                    return Verdict(again=range(count), trouble=alone.trouble)
                number -= 1 if alone.refused else 0
        wrong = indexes[number]
        why = f"{trouble.answer} ({trouble.told}): index {first_line(wrong)}"
        return Verdict(
            refused={at: why for at, index in enumerate(indexes) if index == wrong},
            again=[at for at, index in enumerate(indexes) if index != wrong],
        )

    def _headers(self) -> dict[str, str]:
        headers = {
            "Authorization": f"Splunk {self._token.reveal()}",
            "Content-Type": "application/json",
        }
        if self._channel:
            headers["X-Splunk-Request-Channel"] = self._channel
        return headers

    def _ask(self, client: Client, ack_id: int) -> Answer | NoAnswer:
        body = orjson.dumps({"acks": [ack_id]})
        return client.post(f"{ACK_PATH}?channel={self._channel}", body, self._headers())

    def _confirmed(self, client: Client, ack_id: object, stop: threading.Event) -> Trouble | None:
        """Wait until the indexers have what was taken under `ack_id`; None: they do."""
        if type(ack_id) is not int:
            hint = _CODES[_ACK_IS_OFF][1]
            return Trouble("settings", "unconfirmed", "no ackId in the answer", hint)
        self._gives_confirmations = True
        deadline = time.monotonic() + self._confirm_seconds
        pause = self._first_pause_seconds
        last = "not indexed"
        while True:
            answer = self._ask(client, ack_id)
            acks = _told(answer).get("acks")
            if isinstance(acks, dict):
                if acks.get(str(ack_id)) is True:
                    return None
                last = "not indexed"
            else:
                _, trouble = _judged(answer)
                if trouble is not None and trouble.kind == "settings":
                    return trouble
                last = str(trouble or "an answer without acks")
            left = deadline - time.monotonic()
            if left <= 0:
                return Trouble("later", "unconfirmed", f"after {self._confirm_seconds:g} s: {last}")
            if stop.wait(min(pause, left)):
                return Trouble("later", "unconfirmed", "the wait was ended")
            pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)


def _index_of(item: bytes) -> bytes:
    """The index in an item that begins with one, as it was written."""
    found = _INDEX_OF(item)
    return found[1] if found else b""


def _told(answer: Answer | NoAnswer) -> dict[str, Any]:
    """The members of an answer's object; none, if it is no whole object."""
    if isinstance(answer, NoAnswer) or not answer.is_whole:
        return {}
    try:
        told = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return {}
    return told if isinstance(told, dict) else {}


def _judged(answer: Answer | NoAnswer) -> tuple[int | None, Trouble | None]:
    """Return the collector's code, and what is wrong; no trouble: taken.

    The codes: "Possible error codes" in "Troubleshoot HTTP Event Collector".
    """
    trouble = trouble_of(answer)
    if isinstance(answer, NoAnswer):
        return None, trouble
    told = _told(answer)
    code = told.get("code")
    if type(code) is not int:
        code = 0 if trouble is None and "ackId" in told else None
    text = first_line(told["text"].encode(errors="replace")) if isinstance(told.get("text"), str) else ""
    if trouble is None and code in _TAKEN:
        return code, None
    shown = str(answer.status) if code is None else f"{answer.status} code {code}"
    if code is not None and code in _CODES:
        kind, hint = _CODES[code]
        return code, Trouble(kind, shown, text, hint, answer.retry_after)
    if trouble is None and not answer.is_whole and len(answer.content) < MOST_ANSWER_BYTES:
        return code, Trouble("later", shown, "the answer ended early")
    if trouble is None:  # 2xx, and yet nothing that says that it was taken
        return code, Trouble("settings", shown, text or answer.told, _NO_COLLECTOR)
    return code, Trouble(trouble.kind, shown, text or trouble.told, trouble.hint, trouble.retry_after)
