"""A stand-in for the bulk API of Elasticsearch and OpenSearch, written from its reference.

    POST /_bulk   {"create": {"_index": ..., "_id": ...}} \\n document \\n ...

It knows no mappings: what a mapping would refuse, a test names (`refusals`). Sources: "Bulk
index or delete documents" and "Data streams" of Elasticsearch's reference (8 and 9), and "Bulk API"
of OpenSearch's.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from tests.services.standin import Asked, Reply, StandIn

MOST_ID_BYTES = 512


class ItemError(NamedTuple):
    """What is answered for an item; `times` None is always."""

    status: int
    type: str
    reason: str
    times: int | None = None


@dataclass
class BulkStandIn(StandIn):
    """Keeps documents by index and id; every `logs-…` is a data stream.

    Attributes:
        key: Of the API, base64 of `id:key`, or None: anybody may write.
        user: `name:password`, likewise.
        indices: Those that exist, if `creates` is false.
        creates: Whether a write creates what does not exist.
        refusals: By `_id`: what is answered instead of taking it.
        most_bytes: `http.max_content_length`.
        streams: By index: one dictionary from id to document for each backing index, the last one
            is written to.
        arrived: Each `_id` that was created, in order.
    """

    key: str | None = None
    user: str | None = None
    indices: set[str] = field(default_factory=set)
    creates: bool = True
    refusals: dict[str, ItemError] = field(default_factory=dict)
    most_bytes: int = 100 << 20
    streams: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    arrived: list[str] = field(default_factory=list)

    def documents(self) -> list[dict[str, Any]]:
        """All that was taken, index by index."""
        return [
            document
            for stream in self.streams.values()
            for backing in stream
            for document in backing.values()
        ]

    def roll_over(self, index: str) -> None:
        """Let a data stream go on in a new backing index."""
        self.streams.setdefault(index, [{}]).append({})

    def answer(self, asked: Asked) -> Reply:
        refusal = self._refusal(asked)
        if refusal is not None:
            return refusal
        lines = asked.body[:-1].split(b"\n")
        try:
            pairs = [(json.loads(action), json.loads(text)) for action, text in _pairs(lines)]
        except ValueError:
            return _failed(400, "illegal_argument_exception", "Malformed action/metadata line")
        if any(len(action["create"]["_id"].encode(errors="replace")) > MOST_ID_BYTES for action, _ in pairs):
            return _failed(400, "action_request_validation_exception", "id is too long")
        items = [{"create": self._create(action, document)} for action, document in pairs]
        whole = {"took": 3, "errors": any("error" in item["create"] for item in items), "items": items}
        return Reply(200, json.dumps(_filtered(whole, asked.query)).encode())

    def _refusal(self, asked: Asked) -> Reply | None:
        """What is answered before anybody looks into the body."""
        told = asked.headers.get("content-type", "").partition(";")[0]
        if asked.path != "/_bulk":
            return _failed(405, "illegal_argument_exception", f"Incorrect HTTP method for uri [{asked.path}]")
        if not self._may(asked.headers.get("authorization", "")):
            return _failed(401, "security_exception", "unable to authenticate with provided credentials")
        if asked.wire_bytes > self.most_bytes:
            return Reply(413, b"")
        if told not in ("application/json", "application/x-ndjson"):
            return _failed(
                406, "media_type_header_exception", f"Content-Type header [{told}] is not supported"
            )
        if not asked.body.endswith(b"\n"):
            reason = "The bulk request must be terminated by a newline [\\n]"
            return _failed(400, "illegal_argument_exception", reason)
        return None

    def _may(self, authorization: str) -> bool:
        if self.key is not None:
            return authorization == f"ApiKey {self.key}"
        if self.user is not None:
            return authorization == "Basic " + base64.b64encode(self.user.encode()).decode()
        return True

    def _create(self, action: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
        index, name = action["create"]["_index"], action["create"]["_id"]
        answer = {"_index": index, "_id": name}
        if not self.creates and index not in self.indices:
            return answer | _error(404, "index_not_found_exception", f"no such index [{index}]")
        refusal = self.refusals.get(name)
        if refusal is not None:
            if refusal.times is not None:
                left = refusal.times - 1
                self.refusals[name] = refusal._replace(times=left)
                if left <= 0:
                    del self.refusals[name]
            return answer | _error(refusal.status, refusal.type, refusal.reason)
        if index.startswith("logs-") and "@timestamp" not in document:
            return answer | _error(
                400, "document_parsing_exception", "data stream timestamp field [@timestamp] is missing"
            )
        backing = self.streams.setdefault(index, [{}])[-1]
        if name in backing:
            reason = f"[{name}]: version conflict, document already exists (current version [1])"
            return answer | _error(409, "version_conflict_engine_exception", reason)
        backing[name] = document
        self.arrived.append(name)
        return answer | {"result": "created", "_version": 1, "status": 201}


def _pairs(lines: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    if len(lines) % 2:
        raise ValueError("an action without its document")
    return zip(lines[::2], lines[1::2], strict=True)


def _error(status: int, kind: str, reason: str) -> dict[str, Any]:
    return {"status": status, "error": {"type": kind, "reason": reason, "index_uuid": "Ws_1", "shard": "0"}}


def _failed(status: int, kind: str, reason: str) -> Reply:
    error = {"root_cause": [{"type": kind, "reason": reason}], "type": kind, "reason": reason}
    return Reply(status, json.dumps({"error": error, "status": status}).encode())


def _filtered(whole: dict[str, Any], query: str) -> dict[str, Any]:
    """Keep what `filter_path` names; `*` stands for one member's name, lists are gone through."""
    told = parse_qs(query).get("filter_path")
    if not told:
        return whole
    kept = _kept(whole, [path.split(".") for path in told[0].split(",")])
    return kept if isinstance(kept, dict) else {}


def _kept(tree: Any, paths: list[list[str]]) -> Any:
    if any(not path for path in paths):
        return tree
    if isinstance(tree, list):
        return [kept for one in tree if (kept := _kept(one, paths)) not in (None, {})]
    if not isinstance(tree, dict):
        return None
    found = {}
    for name, value in tree.items():
        deeper = [path[1:] for path in paths if path[0] in ("*", name)]
        if deeper and (kept := _kept(value, deeper)) is not None:
            found[name] = kept
    return found
