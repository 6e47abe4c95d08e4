"""Datadog: the log intake, version 2.

    POST https://http-intake.logs.<site>/api/v2/logs
    DD-API-KEY: …
    [{"ddsource":"immutable","service":"audit","ddtags":"env:prod","workspace_id":"ws_1a2b3c4d",
      "event_id":"9b1deb4d-…","timestamp":1774520100000,"message":"{\\"event_type\\":…}"}, …]

`message` is the payload's text; Datadog parses JSON in it, so that `@data.action` is there to search for.
`timestamp` is the event's time in milliseconds, one of the attributes that Datadog takes for
a log's official time, whatever the payload calls its own.

What Datadog does not give, and nobody can make up for:

- It says nothing of single events, and does not know an event again: **what is repeated is there
  twice**, with one `event_id`. That happens where an answer was lost.
- 202 says that it was accepted. A log above 1 MB is accepted, and cut: such an event is not
  sent, it becomes a dead letter. A time more than 18 hours ago is not kept as such.

Sources: Datadog's API reference ("Send logs", v2), "Log date remapper", "Getting started with sites".
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from json.encoder import encode_basestring_ascii
from typing import Any, Final

import orjson

from archiver.errors import ConfigError
from archiver.forward.base import Limits, Outgoing, Trouble, UnsendableError, Verdict, all_again, trouble_of
from archiver.forward.posting import post
from archiver.forward.settings import Destination
from archiver.forward.templates import Template, template_of
from archiver.http import Answer, Client, NoAnswer, first_line, parsed_url
from archiver.secret import Secret

SITES: Final = (
    "datadoghq.com",
    "us3.datadoghq.com",
    "us5.datadoghq.com",
    "datadoghq.eu",
    "uk1.datadoghq.com",
    "ap1.datadoghq.com",
    "ap2.datadoghq.com",
    "ddog-gov.com",
    "us2.ddog-gov.com",
)
DEFAULT_SOURCE: Final = "immutable"
DEFAULT_SERVICE: Final = "audit"
MOST_EVENTS: Final = 1_000
MOST_BYTES: Final = 5_000_000
MOST_EVENT_BYTES: Final = 1_000_000
OLDEST_SECONDS: Final = 18 * 3600.0

_ENDPOINT: Final = "/api/v2/logs"
_MOST_TAG_CHARACTERS: Final = 200
_MOST_HEADS: Final = 4_096
_HINTS: Final = {
    "401": "is it an API key, and no application key?",
    "403": "is the API key right, and of this site?",
}


def url_of(destination: Destination) -> str:
    """Return where a destination listens: its URL if it has one, else by its site.

    Raises:
        ConfigError: There is no such site.
    """
    if destination.url:
        return destination.url
    site = destination.options.get("site", "")
    if site not in SITES:
        raise ConfigError(
            f"[destinations.{destination.name}] site = {site!r:.80}: expected one of {', '.join(SITES)}",
            hint='of a site that is new, give url = "https://http-intake.logs.<site>"',
        )
    return f"https://http-intake.logs.{site}"


class DatadogIntake:
    """The log intake of Datadog. Requests are compressed unless `gzip = false`.

    Args:
        token: An API key.

    Raises:
        ConfigError: There is no such site, or a tag or template will not do.
    """

    oldest_seconds: Final[float | None] = OLDEST_SECONDS

    def __init__(self, destination: Destination, token: Secret | None) -> None:
        if token is None:
            raise ConfigError(f"[destinations.{destination.name}] has no token: an API key of Datadog")
        self._headers = {"Content-Type": "application/json", "DD-API-KEY": token.reveal()}
        path = parsed_url(url_of(destination)).path or ""
        self._path = "" if path.rstrip("/").endswith(_ENDPOINT) else _ENDPOINT
        self._gzip = destination.gzip is not False
        self.limits = Limits(
            min(destination.batch_events or MOST_EVENTS, MOST_EVENTS),
            # One byte of an array is in no item.
            min(destination.batch_bytes or MOST_BYTES, MOST_BYTES) - 1,
            MOST_EVENT_BYTES,
        )
        where = f"[destinations.{destination.name}]"
        self._templates: dict[str, Template] = {
            "ddsource": template_of(destination, "source") or Template(DEFAULT_SOURCE, f"{where} source"),
            "service": template_of(destination, "service") or Template(DEFAULT_SERVICE, f"{where} service"),
        }
        host = template_of(destination, "host")
        if host is not None:
            self._templates["hostname"] = host
        self._tags = ",".join(_checked(f"{where} tags", destination.options.get("tags", ())))
        self._heads: dict[tuple[str, str, str, str], bytes] = {}

    def item(self, event: Outgoing, payload: bytes) -> bytes:
        """Return one element of the array, and the comma behind it.

        Raises:
            UnsendableError: It is above 1 MB, so Datadog would cut it.
        """
        key = (event.dataset, event.workspace, event.event_type, event.action)
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            head = self._heads[key] = self._head(event)
        item = b'%b%b,"timestamp":%d,"message":%b},' % (
            head,
            encode_basestring_ascii(event.id).encode(),
            event.at_us // 1000,
            orjson.dumps(payload.decode()),
        )
        if len(item) - 1 > MOST_EVENT_BYTES:
            raise UnsendableError(
                f"{len(item) - 1} bytes with what stands around it; Datadog cuts at {MOST_EVENT_BYTES}"
            )
        return item

    def deliver(
        self,
        client: Client,
        items: Sequence[bytes],
        stop: threading.Event,  # noqa: ARG002 - an Intake's
    ) -> Verdict:
        """Post the items as one request, of which all is accepted or nothing.

        Raises:
            NotTrustedError: Nothing was sent.
        """
        body = b"".join((b"[", *items[:-1], items[-1][:-1], b"]"))
        trouble = _trouble_of(post(client, body, self._headers, path=self._path, gzip=self._gzip))
        return Verdict() if trouble is None else all_again(len(items), trouble)

    def _head(self, event: Outgoing) -> bytes:
        """What is the same for all events of this kind, up to the id."""
        members = {name: template.render(event) for name, template in self._templates.items()}
        if self._tags:
            members["ddtags"] = self._tags
        members["workspace_id"] = event.workspace
        told = ",".join(f'"{name}":{encode_basestring_ascii(value)}' for name, value in members.items())
        return f'{{{told},"event_id":'.encode()


def _checked(where: str, tags: Sequence[str]) -> Sequence[str]:
    for tag in tags:
        if "," in tag or not tag.isprintable() or len(tag) > _MOST_TAG_CHARACTERS:
            raise ConfigError(
                f"{where}: {tag!r:.80} is no tag: up to {_MOST_TAG_CHARACTERS} characters, no comma"
            )
    return tags


def _trouble_of(answer: Answer | NoAnswer) -> Trouble | None:
    trouble = trouble_of(answer)
    if trouble is None or isinstance(answer, NoAnswer):
        return trouble
    return replace(
        trouble, told=_told(answer) or trouble.told, hint=_HINTS.get(trouble.answer) or trouble.hint
    )


def _told(answer: Answer) -> str:
    """The first error that an answer tells: `{"errors": [{"title": …, "detail": …}]}`."""
    try:
        tree: Any = orjson.loads(answer.content)
        error = tree["errors"][0]
        said = error if isinstance(error, str) else error.get("detail") or error["title"]
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        return ""
    return first_line(str(said).encode(errors="replace"))
