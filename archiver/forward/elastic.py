"""Elasticsearch and OpenSearch: the bulk API, creating documents by id.

    POST <url>/_bulk
    {"create":{"_index":"logs-audit-default","_id":"events:ws_1a2b3c4d:9b1deb4d-…"}}
    {"@timestamp":"2026-03-26T10:15:00.000000Z","event":{"kind":"event","action":"document.created",
     "id":"9b1deb4d-…"},"organization":{"id":"ws_1a2b3c4d"},"immutable":{…}}

**The document.** `as_delivered` puts what was delivered, unaltered and parsed, below `immutable`, and
`ocsf` puts its object below `ocsf`: both beside what a data stream needs (`@timestamp`) and what tells
events apart, named as ECS names it. An `ecs` payload is the document. Members of the customer's own
(`metadata`, `targets`) may contradict each other's types from event to event, and what does not
fit the mapping is refused: map them as `flattened`.

**The id** is `<dataset>:<workspace>:<event id>`, as two workspaces may use one event id; `:` and `%` in a
workspace are percent-encoded. What would be longer than 512 bytes, or is no Unicode text, is `sha256:` and
the SHA-256 of that instead. What is there already is answered with 409 and counts as taken, so a
repeat changes nothing, with one hole: `create` looks into one index. **After the rollover of a data stream
an event that is repeated is there twice**, once in the old backing index and once in the new one.

**The index** may be a data stream, an index or an alias. Templates are allowed, after a beginning of
one's own, so that no event names an index outside of it. Names that Elasticsearch refuses are
refused per event; a capital letter in a workspace is not lowered, as two workspaces could share an
index by that.

**The answer** tells of each document. What a mapping refuses is refused; 429, 503 and all other errors of the
cluster are tried again; what is no event's fault (no such index, no privilege) waits until somebody
mends it, and all behind it waits too. A document that a data stream's failure store took counts as
taken.

Sources: the reference of Elasticsearch (bulk, data streams, index names) and of OpenSearch (bulk).
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from json.encoder import encode_basestring_ascii
from typing import Any, Final

import orjson

from archiver import clock
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
from archiver.forward.posting import authorization, post
from archiver.forward.settings import Destination
from archiver.forward.templates import Template, template_of
from archiver.http import Answer, Client, NoAnswer, parsed_url
from archiver.secret import Secret

DEFAULT_INDEX: Final = "logs-audit-default"
MOST_EVENTS: Final = 1_000
MOST_BYTES: Final = 10_000_000
MOST_EVENT_BYTES: Final = 10_000_000
MOST_ID_BYTES: Final = 512
MOST_INDEX_BYTES: Final = 255
MOST_REASON_CHARACTERS: Final = 400

_ENDPOINT: Final = "/_bulk"
_FAILED: Final = 500  # of an item: what it fails at may be that document alone
_FILTER: Final = (
    "?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason,"
    "items.*.error.caused_by.reason,error.type,error.reason,status"
)
_PLACEHOLDER: Final = re.compile(r"\{[^{}]*\}")
_NOT_IN_A_NAME: Final = frozenset('\\/*?"<>| ,#:')
_MOST_HEADS: Final = 4_096
_ANSWER_BYTES: Final = 256 << 10
_ANSWER_BYTES_PER_ITEM: Final = 4 << 10

_CREATED: Final = {"create": {"status": 201}}
_HINT_NOT_BULK: Final = "is it Elasticsearch or OpenSearch that answers at this URL?"
_EXISTS: Final = "version_conflict_engine_exception"
_BLOCKED: Final = "cluster_block_exception"
# An item's error that is no event's fault, whatever its status.
_OF_SETTINGS: Final = frozenset({"index_not_found_exception", "index_closed_exception", "security_exception"})
_ILLEGAL: Final = "illegal_argument_exception"
_ILLEGAL_BY_SETTINGS: Final = ("pipeline with id [", "no write index is defined")
_HINTS: Final = {
    "index_not_found_exception": "create the index or data stream, or let the key do so on the first write"
    " (privilege auto_configure, setting action.auto_create_index)",
    "index_closed_exception": "open the index",
    "security_exception": "may the key write there? it needs the privileges create_doc and auto_configure",
    _BLOCKED: "the cluster blocks writes: is a disk full, or the index read-only?",
    "invalid_index_name_exception": "is `index` a name that Elasticsearch takes?",
    "401": "is the API key (or user and password) right?",
    "413": "a request is above http.max_content_length there: lower batch_bytes",
}


class ElasticIntake:
    """The bulk API of Elasticsearch or OpenSearch.

    Requests are compressed unless `gzip = false`, as those of Elastic's own shippers are. A query in the
    URL is kept (`?pipeline=audit`).

    Args:
        token: An API key, as `id:key` or encoded, as Kibana shows it.
        password: Of the destination's user, if there is no key.

    Raises:
        ConfigError: The index's name, or the user's, will not do.
    """

    oldest_seconds: Final[float | None] = None

    def __init__(self, destination: Destination, token: Secret | None, password: Secret | None) -> None:
        self._headers = {
            "Content-Type": "application/x-ndjson",
            **_authorization(destination, token, password),
        }
        self._path = _path(destination.url)
        self._gzip = destination.gzip is not False
        self.limits = Limits(
            destination.batch_events or MOST_EVENTS, destination.batch_bytes or MOST_BYTES, MOST_EVENT_BYTES
        )
        self._member = {"as_delivered": "immutable", "ocsf": "ocsf", "ecs": ""}[destination.form]
        where = f"[destinations.{destination.name}] index"
        self._index = template_of(destination, "index") or Template(DEFAULT_INDEX, where)
        wrong = _wrong_with(_PLACEHOLDER.sub("x", self._index.text))
        if self._index.text.startswith("{"):
            wrong = "it begins with what an event says"
        if wrong:
            raise ConfigError(
                f"{where} = {self._index.text!r:.80}: {wrong}",
                hint="a name such as logs-audit-default, or logs-audit-{workspace}",
            )
        self._heads: dict[tuple[str, str, str, str], tuple[bytes, bytes, bytes]] = {}
        self._minute: int | None = None
        self._until_minute = b""

    def item(self, event: Outgoing, payload: bytes) -> bytes:
        """Return the two lines of a bulk request: what to create, and the document.

        Raises:
            UnsendableError: It is above 10 MB, or its workspace or action makes no name of an index.
        """
        key = (event.dataset, event.workspace, event.event_type, event.action)
        head = self._heads.get(key)
        if head is None:
            head = self._head(event)
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            self._heads[key] = head
        action, start, document = head
        name = event.id
        id_text = encode_basestring_ascii(name)[1:-1].encode()
        # A character is at most six in ASCII, and one in ASCII is one byte: nothing short is too long.
        if len(start) + len(id_text) > MOST_ID_BYTES or not name.isascii():
            start, named = b"", _id_of(event).encode()
        else:
            named = id_text
        if not self._member:
            item = b'%b%b%b"}}\n%b\n' % (action, start, named, payload)
        else:
            # As `clock.to_text`, which is slow; events near each other are of one minute.
            minute, micros = divmod(event.at_us, 60_000_000)
            if self._minute != minute:
                self._minute, self._until_minute = minute, clock.to_text(event.at_us)[:17].encode()
            item = b'%b%b%b"}}\n{"@timestamp":"%b%02d.%06dZ","event":{"id":"%b"%b%b}\n' % (
                action,
                start,
                named,
                self._until_minute,
                micros // 1_000_000,
                micros % 1_000_000,
                id_text,
                document,
                payload,
            )
        if len(item) > MOST_EVENT_BYTES:
            raise UnsendableError(f"{len(item)} bytes with what stands around it; at most {MOST_EVENT_BYTES}")
        return item

    def deliver(
        self,
        client: Client,
        items: Sequence[bytes],
        stop: threading.Event,  # noqa: ARG002 - an Intake's
    ) -> Verdict:
        """Post the items as one request; the answer says of each what became of it.

        An answer that does not is no answer: all are sent again, and those that are there count as taken.

        Raises:
            NotTrustedError: Nothing was sent.
        """
        most_answer_bytes = _ANSWER_BYTES + _ANSWER_BYTES_PER_ITEM * len(items)
        answer = post(
            client,
            b"".join(items),
            self._headers,
            path=self._path,
            gzip=self._gzip,
            most_answer_bytes=most_answer_bytes,
        )
        trouble = _trouble_of(answer)
        if trouble is not None or isinstance(answer, NoAnswer):
            return all_again(len(items), trouble or Trouble("later", "no answer"))
        if not answer.is_whole:
            if len(answer.content) < most_answer_bytes:
                return all_again(len(items), Trouble("later", str(answer.status), "the answer ended early"))
            # Its half is shorter; a single item has no half.
            kind: TroubleKind = "batch" if len(items) > 1 else "later"
            told = f"the answer is above {most_answer_bytes} bytes"
            return all_again(len(items), Trouble(kind, str(answer.status), told))
        results = _results(answer, len(items))
        if results is None:
            told = f"no answer of a bulk request: {answer.told}"
            return all_again(len(items), Trouble("later", str(answer.status), told, _HINT_NOT_BULK))
        return self._verdict(results, answer.retry_after)

    def _verdict(self, results: list[tuple[int, str, str]], retry_after: float | None) -> Verdict:
        verdict = Verdict()
        again: list[int] = []
        for number, (status, error, reason) in enumerate(results):
            if 200 <= status < 300:
                continue
            if status == 409 and error in (_EXISTS, ""):
                verdict.already += 1
                continue
            kind = self._kind_of(status, error, reason)
            if kind is None:
                verdict.refused[number] = _told(f"{status} {error}: {reason}")
                continue
            again.append(number)
            if verdict.trouble is None or (kind == "settings" and verdict.trouble.kind == "later"):
                hint = _HINTS.get(error, "")
                answer = f"{status} {error}"
                verdict.trouble = Trouble(
                    kind, answer, _told(reason), hint, retry_after, of_items=status == _FAILED
                )
        verdict.again = tuple(again)
        return verdict

    def _kind_of(self, status: int, error: str, reason: str) -> TroubleKind | None:
        """What an item's error is; None: the event is refused."""
        # A reason may quote the event: what counts is how it begins, and only where it does not.
        if error in _OF_SETTINGS or (error == _ILLEGAL and reason.startswith(_ILLEGAL_BY_SETTINGS)):
            return "settings"
        if error == "invalid_index_name_exception":
            return None if self._index.names else "settings"
        if error == _BLOCKED or status in (408, 409, 429) or status >= 500:
            return "later"
        return "settings" if status in (401, 403, 404) else None

    def _head(self, event: Outgoing) -> tuple[bytes, bytes, bytes]:
        """What is the same for all events of this kind: before the id, its beginning, behind it.

        Raises:
            UnsendableError: There is no such index.
        """
        index = self._index.render(event)
        wrong = _wrong_with(index)
        if wrong:
            raise UnsendableError(f"{index!r:.300} is no name of an index: {wrong}")
        action = f'{{"create":{{"_index":{encode_basestring_ascii(index)},"_id":"'
        kind = "alert" if event.dataset == "alerts" else "event"
        document = f',"kind":"{kind}"'
        if event.action:
            document += f',"action":{encode_basestring_ascii(event.action)}'
        document += f'}},"organization":{{"id":{encode_basestring_ascii(event.workspace)}}},"{self._member}":'
        start = f"{event.dataset}:{_escaped(event.workspace)}:"
        if not start.isascii() or not start.isprintable() or set(start) & {'"', "\\"}:
            start = "x" * MOST_ID_BYTES + "x"  # the long way, each time
        return action.encode(), start.encode(), document.encode()


def _authorization(destination: Destination, token: Secret | None, password: Secret | None) -> dict[str, str]:
    if token is None:
        return authorization(destination, None, password)
    key = token.reveal()
    if ":" in key:  # which base64 never has
        key = base64.b64encode(key.encode()).decode()
    return {"Authorization": f"ApiKey {key}"}


def _path(url: str) -> str:
    """What is to be put behind the URL's path."""
    parsed = parsed_url(url)
    path = "" if (parsed.path or "").rstrip("/").endswith(_ENDPOINT) else _ENDPOINT
    # The URL's query comes last, and there is one; the answer is longer then.
    return path if parsed.query else path + _FILTER


def _wrong_with(index: str) -> str:
    """Why Elasticsearch would refuse this name of an index; empty if it would not."""
    if index != index.lower():
        return "it has a capital letter"
    if _NOT_IN_A_NAME.intersection(index) or not index.isprintable():
        return 'none of \\ / * ? " < > | , # : and blanks may be in it'
    if index[:1] in ("-", "_", "+", "."):
        return "it may not begin with - _ + or a dot"
    if len(index.encode(errors="surrogatepass")) > MOST_INDEX_BYTES:
        return f"it is longer than {MOST_INDEX_BYTES} bytes"
    return ""


def _escaped(workspace: str) -> str:
    return workspace.replace("%", "%25").replace(":", "%3A")


def _id_of(event: Outgoing) -> str:
    """Return an event's `_id`, between the quotes of its JSON."""
    told = f"{event.dataset}:{_escaped(event.workspace)}:{event.id}"
    raw = told.encode(errors="surrogatepass")
    # Half a surrogate pair would become a question mark there, whichever it is.
    if len(raw) > MOST_ID_BYTES or any("\ud800" <= char <= "\udfff" for char in told):
        return f"sha256:{hashlib.sha256(raw).hexdigest()}"
    return encode_basestring_ascii(told)[1:-1]


def _trouble_of(answer: Answer | NoAnswer) -> Trouble | None:
    trouble = trouble_of(answer)
    if trouble is None or isinstance(answer, NoAnswer):
        return trouble
    error = _tree(answer).get("error")
    kind, reason = _error(error)
    told = _told(f"{kind}: {reason}") if kind else trouble.told
    hint = _HINTS.get(kind) or _HINTS.get(trouble.answer) or trouble.hint
    return replace(trouble, told=told, hint=hint)


def _tree(answer: Answer) -> dict[str, Any]:
    try:
        tree = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return {}
    return tree if isinstance(tree, dict) else {}


def _results(answer: Answer, count: int) -> list[tuple[int, str, str]] | None:
    """Return status, type and reason of each item; None if the answer does not tell them of each."""
    items = _tree(answer).get("items")
    if not isinstance(items, list) or len(items) != count:
        return None
    if items.count(_CREATED) == count:
        return [(201, "", "")] * count
    results = []
    for item in items:
        result = item.get("create") if isinstance(item, dict) else None
        if not isinstance(result, dict) or type(result.get("status")) is not int:
            return None
        results.append((result["status"], *_error(result.get("error"))))
    return results


def _error(error: Any) -> tuple[str, str]:
    """Return type and reason, with what caused it."""
    if not isinstance(error, dict):
        return "", str(error or "")
    reason = str(error.get("reason") or "")
    caused = error.get("caused_by")
    deeper = str(caused.get("reason") or "") if isinstance(caused, dict) else ""
    return str(error.get("type") or ""), f"{reason} ({deeper})" if deeper and deeper not in reason else reason


def _told(text: str) -> str:
    """Somebody else's text as one line that a terminal can show."""
    line = "".join(char if char.isprintable() else " " for char in text[:MOST_REASON_CHARACTERS])
    return " ".join(line.split())
