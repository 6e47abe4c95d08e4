"""The quickest proof: flat webhook events, decoded by msgspec into typed objects.

msgspec reads JSON strictly and takes each member by its declared type, so what it decodes
has our schema's members and types. Three things it does not tell, and they are proven here:

- *No member stands twice.* It keeps the last of two. Each event is written again, with each member
  once: a body has as many quotes that begin or end a string if none stands twice in it, and
  more otherwise. Where no backslash is itself escaped, those are all `"` but those of `\\"`.
- *`metadata` and `targets` are sound inside.* They are taken as they stand (`Raw`); each is
  parsed and written again, and must come out byte for byte (see `jsontext.writer_of`).
- *Texts are what the schema wants of them*: not empty, instants, hashes; in bulk.

What is not proven goes on to slower proofs and to the judge. This module never rejects.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import jsonschema_rs
import msgspec
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import astuple

from archiver import columns
from archiver.event import read_instants
from archiver.jsontext import DEEPEST, writer_of

_REQUIRED: Final = ("id", "actor_id", "action")
_NOT_EMPTY: Final = ("id",)
_HASHES: Final = ("event_hash", "previous_event_hash")
_TYPES: Final[dict[str, Any]] = {
    columns.TEXT: str,
    columns.INSTANT: str,
    columns.INTEGER: int,
    columns.JSON: msgspec.Raw,
}
_UNSET: Final = msgspec.UNSET
_KINDS: Final = columns.EVENT_MEMBERS | {"workspace_id": columns.TEXT, "timestamp": columns.INSTANT}


def _field(name: str, kind: str) -> Any:
    if name in _REQUIRED:
        return (name, _TYPES[kind])
    if kind == columns.JSON:
        return (name, msgspec.Raw | msgspec.UnsetType, _UNSET)  # null is Raw(b"null")
    return (name, _TYPES[kind] | None | msgspec.UnsetType, _UNSET)


_Data: Final = msgspec.defstruct(
    "_Data",
    [_field(name, kind) for name, kind in columns.EVENT_MEMBERS.items()],
    forbid_unknown_fields=True,
    gc=False,
    kw_only=True,
)
_Event: Final = msgspec.defstruct(
    "_Event",
    [
        ("event_type", Literal["event.created"]),
        ("data", _Data),
        ("workspace_id", str),
        ("timestamp", str),
    ],
    forbid_unknown_fields=True,
    gc=False,
    kw_only=True,
)
Members = dict[str, list[Any]]


@dataclass(slots=True)
class Typed:
    """Bodies that were proven, and their columns.

    Attributes:
        numbers: Which bodies of the block, ascending.
        built: The members' columns and `extra`, one row a body.
        workspaces: Of each body.
        rest: The other bodies.
    """

    numbers: list[int] = field(default_factory=list)
    built: dict[str, pa.Array] = field(default_factory=dict)
    workspaces: list[str] = field(default_factory=list)
    rest: list[int] = field(default_factory=list)

    def only(self, rows: list[int]) -> Typed:
        """Return the same with the proven bodies at these rows alone."""
        chosen = pa.array(rows, pa.int64())
        return Typed(
            [self.numbers[row] for row in rows],
            {name: column.take(chosen) for name, column in self.built.items()},
            [self.workspaces[row] for row in rows],
            self.rest,
        )


@dataclass(slots=True)
class Found:
    """Bodies that were proven, and which events they are; parallel lists.

    Attributes:
        numbers, rest: As of `Typed`.
        times_us: Of their `timestamp`, in microseconds since 1970.
    """

    numbers: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    workspaces: list[str] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    times_us: list[int] = field(default_factory=list)
    rest: list[int] = field(default_factory=list)

    def only(self, rows: list[int]) -> Found:
        """Return the same with the proven bodies at these rows alone."""
        return Found(
            [self.numbers[row] for row in rows],
            [self.ids[row] for row in rows],
            [self.workspaces[row] for row in rows],
            [self.actions[row] for row in rows],
            [self.times_us[row] for row in rows],
            self.rest,
        )


class TypedProof:
    """Proves bodies by our own schema for flat webhook events.

    Args:
        targets: The part of that schema which is for `targets`.
        only: Columns that are wanted; None is all. What is proven is the same.
    """

    def __init__(self, targets: dict[str, Any], only: Collection[str] | None = None) -> None:
        # Of the others the proof itself needs arrays.
        self._kinds = {
            name: kind
            for name, kind in _KINDS.items()
            if only is None or name in only or name in _HASHES or kind in (columns.INSTANT, columns.INTEGER)
        }
        self._has_extra = only is None or "extra" in only
        self._decode = msgspec.json.Decoder(_Event).decode
        self._encode = msgspec.json.Encoder().encode
        self._is_valid_targets: Callable[[Any], bool] = jsonschema_rs.Draft202012Validator(
            targets, validate_formats=False, offline=True
        ).is_valid

    def prove(self, bodies: Sequence[bytes], numbers: Sequence[int]) -> Typed:
        """Prove what can be proven of `bodies[number]` for each of `numbers`."""
        kept, members, doubtful, rest = self._decoded(bodies, numbers)
        return self._typed(kept, members, doubtful, rest) if kept else Typed(rest=rest)

    def find(self, bodies: Sequence[bytes], numbers: Sequence[int]) -> Found:
        """Prove as `prove` does, and return of each event only what tells which one it is."""
        kept, members, doubtful, rest = self._decoded(bodies, numbers)
        if not kept:
            return Found(rest=rest)
        times = pa.nulls(len(kept), columns.TIME)
        for name, kind in _KINDS.items():
            if kind not in (columns.INSTANT, columns.INTEGER) and name not in _HASHES:
                continue
            values = _or_none(members[name])
            if kind == columns.INSTANT:
                read, uncertain = read_instants(values)
                doubtful.update(uncertain)
                times = read if name == "timestamp" else times
            elif kind == columns.INTEGER:
                doubtful.update(
                    row for row, one in enumerate(values) if one is not None and not _is_int64(one)
                )
            elif not _are_hashes(values):
                doubtful.update(_not_hashes(pa.array(values, pa.string())))
        times_us: list[int] = times.cast(pa.int64()).to_pylist()
        found = Found(kept, members["id"], members["workspace_id"], members["action"], times_us, rest)
        if not doubtful:
            return found
        found = found.only([row for row in range(len(kept)) if row not in doubtful])
        found.rest = sorted([*rest, *(kept[row] for row in doubtful)])
        return found

    def _decoded(
        self, bodies: Sequence[bytes], numbers: Sequence[int]
    ) -> tuple[list[int], Members, set[int], list[int]]:
        """Return the numbers of bodies that have our types, their members, the doubtful rows; the rest."""
        rest: list[int] = []
        kept: list[int] = []
        events: list[Any] = []
        decode, encode = self._decode, self._encode
        for number in numbers:
            body = bodies[number]
            try:
                event = decode(body)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                rest.append(number)
                continue
            # Almost no body has a backslash, and one byte is found sooner than two.
            if b"\\" not in body:
                is_doubtful = body.count(b'"') != encode(event).count(b'"')
            else:
                is_doubtful = b"\\\\" in body or _quotes(body) != _quotes(encode(event))
            if is_doubtful:
                rest.append(number)
            else:
                kept.append(number)
                events.append(event)
        if not kept:
            return [], {}, set(), rest
        members = _members_of(events)
        doubtful = self._doubtful_json(members)
        for name in ("workspace_id", *_NOT_EMPTY):
            if "" in members[name]:
                doubtful |= {row for row, one in enumerate(members[name]) if not one}
        return kept, members, doubtful, rest

    def _doubtful_json(self, members: Members) -> set[int]:
        """Return the rows whose `metadata` or `targets` are not proven sound, or not of their type."""
        doubtful = set()
        for name, is_valid in (("metadata", _is_object), ("targets", self._is_valid_targets)):
            texts = [one if one is _UNSET else bytes(one) for one in members[name]]
            members[name] = texts
            doubtful |= {
                row for row, one in enumerate(texts) if one is not _UNSET and not _is_sound(one, is_valid)
            }
        return doubtful

    def _typed(self, kept: list[int], members: Members, doubtful: set[int], rest: list[int]) -> Typed:
        built: dict[str, pa.Array] = {}
        for name, kind in self._kinds.items():
            values = _or_none(members[name])
            if kind == columns.INSTANT:
                built[name], uncertain = read_instants(values)
                doubtful.update(uncertain)
            elif kind == columns.INTEGER:
                wide = [row for row, one in enumerate(values) if one is not None and not _is_int64(one)]
                doubtful.update(wide)
                for row in wide:
                    values[row] = None
                built[name] = pa.array(values, pa.int64())
            elif kind == columns.JSON:
                built[name] = pa.array(_texts(values, doubtful), pa.string())
            else:
                built[name] = pa.array(values, pa.string())
        doubtful.update(*(_not_hashes(built[name]) for name in _HASHES))
        workspaces = members["workspace_id"]
        built["event_type"] = pa.repeat(pa.scalar("event.created"), len(kept))
        if self._has_extra:
            built["extra"] = pa.nulls(len(kept), pa.string())
        if doubtful:
            rest.extend(kept[row] for row in doubtful)
            certain = [row for row in range(len(kept)) if row not in doubtful]
            return Typed(kept, built, workspaces, sorted(rest)).only(certain)
        return Typed(kept, built, workspaces, rest)


def _texts(values: list[bytes | None], doubtful: set[int]) -> list[bytes | None]:
    """Return what the column holds of members taken as they stand; doubtful ones may not even be UTF-8."""
    return [None if one == b"null" or row in doubtful else one for row, one in enumerate(values)]


def _quotes(text: bytes) -> int:
    """Return how many quotes begin or end a string; fewer if some backslash is itself escaped."""
    return text.count(b'"') - text.count(b'\\"')


def _members_of(events: list[Any]) -> Members:
    """Return each member's values, `_UNSET` where it is missing."""
    values = zip(*[astuple(event.data) for event in events], strict=True)
    by_member = zip(columns.EVENT_MEMBERS, values, strict=True)
    members: Members = {name: [*column] for name, column in by_member}
    members["workspace_id"] = [event.workspace_id for event in events]
    members["timestamp"] = [event.timestamp for event in events]
    return members


def _is_object(tree: Any) -> bool:
    return type(tree) is dict


def _is_sound(text: bytes, is_valid: Callable[[Any], bool]) -> bool:
    """Whether a member's own text is null, or proven to be valid JSON that every reader reads alike."""
    if text == b"null":
        return True
    if text.count(b"{") + text.count(b"[") > DEEPEST - 2:
        return False
    try:
        tree = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return is_valid(tree) and writer_of(text, tree) is not None


def _is_int64(value: int) -> bool:
    return -(2**63) <= value < 2**63


def _or_none(values: list[Any]) -> list[Any]:
    """Return the values of a member, None where it is missing."""
    return [None if one is _UNSET else one for one in values] if _UNSET in values else values


def _are_hashes(values: list[str | None]) -> bool:
    """Whether all that are there are proven to be 64 hexadecimal digits; quicker than `_not_hashes`."""
    texts = [one for one in values if one is not None]
    if not texts:
        return True
    joined = "".join(texts)
    if len(joined) != 64 * len(texts) or set(map(len, texts)) != {64} or not joined.isalnum():
        return False
    try:
        bytes.fromhex(joined)
    except ValueError:
        return False
    return True


def _not_hashes(texts: pa.Array) -> list[int]:
    if texts.null_count == len(texts):
        return []
    found = pc.match_substring_regex(texts, r"\A[0-9A-Fa-f]{64}\z")
    if pc.all(found).as_py() is not False:
        return []
    wrong: list[int] = pc.indices_nonzero(pc.invert(found)).to_pylist()
    return wrong
