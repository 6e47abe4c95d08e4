"""The quick proof for rows of a database: by their columns, before anybody parses a body.

A row's body is made out of its columns, by the rules of `archiver.database.bodies`; so what the
judge would find in it follows from the columns, and can be asked of many rows at once:

- *A text is a text, and an instant within the years 1 to 9999 is one*, by its type. Hashes, ids,
  workspaces and versions are looked at by the column.
- *JSON is sound*: the database guarantees it, or its text was parsed when the body was made. Levels
  and runs of digits, which could be too many for the judge, are counted.
- *No member stands twice*, since the members' names differ.
- *`targets` are what the schema wants of them*: each distinct text is parsed.

What is not proven goes, as its body, the way of all others. This module never rejects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import jsonschema_rs
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from archiver import columns, layout
from archiver.block import Block, RowBlock
from archiver.database.bodies import Written, objects, text_bytes, write
from archiver.database.fetched import Fetched
from archiver.event import EARLIEST_US, LATEST_US, read_instants
from archiver.jsontext import DEEPEST, is_too_deep

_KINDS: Final = columns.EVENT_MEMBERS | {"workspace_id": columns.TEXT}
_REQUIRED: Final = ("id", "workspace_id", "actor_id", "action")
_NOT_EMPTY: Final = ("id", "workspace_id")
_HASHES: Final = ("event_hash", "previous_event_hash")
# With one of these in a body it is no row, or no telling what it is.
_FORBIDDEN: Final = frozenset({"event_type"})
_SPACE: Final = " \t\n\r"
# Python's parser gives up at 4,300 digits, and can be told to do so at 640.
_MOST_DIGITS: Final = 300
_DIGITS: Final = re.compile(rb"[0-9]{%d}" % _MOST_DIGITS)
_STRIDE: Final = 37
_HEX: Final = b"0123456789ABCDEFabcdef"
_HASH_LENGTH: Final = 64
_HASH: Final = r"\A[0-9A-Fa-f]{64}\z"
_SMALL_INTEGER: Final = r"\A-?(?:0|[1-9][0-9]{0,17})\z"
_NO_TEXT: Final = pa.scalar(None, pa.string())
_SCHEMA: Final = columns.VALIDATED_SCHEMAS["events"]

Mask = np.ndarray


@dataclass(slots=True)
class ProvenRows:
    """The rows of a block, sorted out.

    Attributes:
        rows: Those that were proven, with the columns of a validated batch; in their order.
        rest: The bodies of the others.
    """

    rows: pa.RecordBatch
    rest: Block


class RowProof:
    """Proves rows by our own schema for rows.

    Args:
        source: Configured name of the source.
        targets: The part of that schema which is for `targets`.
        is_schema_ours: Whether no user's schema adds to ours. Else nothing can be proven.
    """

    def __init__(self, source: str, targets: dict[str, Any], *, is_schema_ours: bool = True) -> None:
        self._source = source
        self._is_schema_ours = is_schema_ours
        self._is_valid_targets: Callable[[Any], bool] = jsonschema_rs.Draft202012Validator(
            targets, validate_formats=False, offline=True
        ).is_valid

    def prove(self, block: RowBlock) -> ProvenRows:
        """Prove what can be proven of the rows of `block`.

        Raises:
            SourceError: Their bodies have more than 2 GiB.
        """
        members = [write(block.rows, fetched) for fetched in block.layout]
        bodies = objects(members, block.rows.num_rows)
        names = {fetched.member for fetched in block.layout}
        if not self._is_schema_ours or len(names) < len(members) or names & _FORBIDDEN:
            nothing = pa.RecordBatch.from_pylist([], _SCHEMA)
            return ProvenRows(nothing, _rest(block, bodies, range(len(bodies))))
        readable = _readable(bodies)
        if readable is not None:
            # The others become rows of nulls, which nothing below could prove.
            numbers = pa.array(np.arange(len(bodies)), mask=~readable)
            block = replace(block, rows=block.rows.take(numbers))
            members = [write(block.rows, fetched) for fetched in block.layout]
        built, certain = self._columns(block, members)
        return self._sorted_out(block, bodies, built, certain)

    def _columns(self, block: RowBlock, members: list[Written]) -> tuple[dict[str, pa.Array], Mask]:
        """Return the members' columns and `extra`, and the rows for which they are certain."""
        certain = np.ones(block.rows.num_rows, bool)
        built: dict[str, pa.Array] = {}
        unknown: list[Written] = []
        for fetched, member in zip(block.layout, members, strict=True):
            if member.values.null_count == len(certain):
                continue
            sound = _sound(fetched, member, len(certain))
            kind = _KINDS.get(fetched.member)
            if kind is not None:
                built[fetched.member] = self._column(kind, block.rows, fetched, member, sound)
            elif fetched.kind in ("json", "json_text"):
                unknown.append(replace(member, values=_trimmed(member)))
            else:
                unknown.append(member)
            certain &= sound
        for name in _REQUIRED:
            certain &= _mask(built[name].is_valid()) if name in built else False
        for name in _NOT_EMPTY:
            if name in built and pc.min(pc.binary_length(built[name])).as_py() == 0:
                certain &= _mask(pc.not_equal(built[name], ""))
        if "workspace_id" in built:
            certain &= _storable(built["workspace_id"], certain)
        for name in _HASHES:
            if name in built and not _all_hashes(built[name]):
                certain &= _mask(pc.match_substring_regex(built[name], _HASH), null=True)
        if unknown:
            extra = objects(unknown, len(certain))
            built["extra"] = pc.if_else(pc.equal(extra, "{}"), _NO_TEXT, extra)
        times = [built[name] for name in ("created_at", "occurred_at") if name in built]
        built["event_time"] = pc.coalesce(*times) if times else pa.nulls(len(certain), columns.TIME)
        certain &= _mask(built["event_time"].is_valid())
        return built, certain

    def _column(
        self, kind: str, rows: pa.RecordBatch, fetched: Fetched, member: Written, sound: Mask
    ) -> pa.Array:
        """Return the column of a member that has one; take the rows from `sound` that are uncertain."""
        column = rows.column(fetched.column)
        if kind == columns.TEXT and fetched.kind == "text":
            return column.cast(pa.string())
        if kind == columns.INTEGER and fetched.kind == "number":
            return _integers(column, sound)
        if kind == columns.INSTANT and fetched.kind in ("instant", "text"):
            return _instants(rows, fetched, sound)
        if kind == columns.JSON and fetched.kind in ("json", "json_text"):
            return self._json(fetched.member, _trimmed(member), sound)
        sound &= _mask(member.values.is_null())  # another type than the schema's: the judge decides
        return pa.nulls(rows.num_rows, _SCHEMA.field(fetched.member).type)

    def _json(self, name: str, texts: pa.StringArray, sound: Mask) -> pa.StringArray:
        is_null = pc.equal(texts, "null")
        if pc.any(is_null).as_py():
            texts = pc.if_else(is_null, _NO_TEXT, texts)
        if name == "metadata":
            sound &= _mask(pc.starts_with(texts, "{"), null=True)
        elif texts.null_count < len(texts):
            sound &= self._valid_targets(texts, sound)
        return texts

    def _valid_targets(self, texts: pa.StringArray, sound: Mask) -> Mask:
        seen = pc.if_else(pa.array(sound), texts, _NO_TEXT).dictionary_encode()
        verdicts = np.array([self._is_target_list(text) for text in seen.dictionary.to_pylist()], bool)
        valid = np.ones(len(texts), bool)
        present = _mask(seen.is_valid())
        valid[present] = verdicts[seen.indices.drop_null().to_numpy()]
        return valid

    def _is_target_list(self, text: str) -> bool:
        try:
            return self._is_valid_targets(orjson.loads(text))
        except ValueError:  # a number that one of the two does not take
            return False

    def _sorted_out(
        self, block: RowBlock, bodies: pa.StringArray, built: dict[str, pa.Array], certain: Mask
    ) -> ProvenRows:
        rows = len(bodies)
        first = block.first_ordinal
        built["shape"] = pa.repeat(pa.scalar("row"), rows)
        built["received_at"] = pa.repeat(pa.scalar(block.received_at, pa.int64()), rows).cast(columns.TIME)
        built["source"] = pa.repeat(pa.scalar(self._source), rows)
        built["ordinal"] = pa.array(np.arange(first, first + rows, dtype=np.int64))
        built["body"] = bodies
        built["_input"] = pa.repeat(pa.scalar(block.input, pa.int64()), rows)
        built["_offset"] = pa.repeat(pa.scalar(0, pa.int64()), rows)
        arrays = [
            built[field.name] if field.name in built else pa.nulls(rows, field.type) for field in _SCHEMA
        ]
        proven = pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)
        if certain.all():
            return ProvenRows(proven, _rest(block, bodies, []))
        left = _rest(block, bodies, np.flatnonzero(~certain).tolist())
        return ProvenRows(proven.filter(pa.array(certain)), left)


def _rest(block: RowBlock, bodies: pa.StringArray, numbers: Sequence[int]) -> Block:
    return Block(
        block.input,
        bodies.view(pa.binary()).take(pa.array(numbers, pa.int64())).to_pylist(),
        [block.first_ordinal + number for number in numbers],
        [0] * len(numbers),  # a row has no place in its input
        [block.received_at] * len(numbers),
        [None] * len(numbers),
        shape="row",
    )


def _mask(booleans: pa.Array, *, null: bool = False) -> Mask:
    found: Mask = booleans.fill_null(null).to_numpy(zero_copy_only=False)
    return found


def _readable(bodies: pa.StringArray) -> Mask | None:
    """Return which bodies are UTF-8; None if all are."""
    try:
        bodies.validate(full=True)
    except pa.ArrowInvalid:
        return np.array([_is_utf8(body) for body in bodies.view(pa.binary()).to_pylist()], bool)
    return None


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _trimmed(member: Written) -> pa.StringArray:
    """Return JSON less the white space around it, which the body keeps and a column does not."""
    return pc.ascii_trim(member.values, _SPACE)


# --- what the judge's parser would make of a value ------------------------------------------------


def _sound(fetched: Fetched, member: Written, rows: int) -> Mask:
    """Return the rows in which the judge's parser reads the member, as every other does."""
    sound = np.ones(rows, bool)
    if fetched.kind == "number":
        lengths = pc.fill_null(pc.binary_length(member.values), 0).to_numpy()
        sound &= lengths < _MOST_DIGITS
    elif fetched.kind in ("json", "json_text"):
        sound &= ~_digits(member.values)
    if fetched.kind == "json":  # the other was looked at one by one
        sound &= ~_deep(member.values)
    return sound


def _deep(texts: pa.StringArray) -> Mask:
    """Return the rows that nest too deep: what lies in a body lies one level down."""
    deep = np.zeros(len(texts), bool)
    lengths = pc.fill_null(pc.binary_length(texts), 0).to_numpy()
    if lengths.max(initial=0) < 2 * DEEPEST:  # each bracket has one that closes it
        return deep
    data, offsets = text_bytes(texts)
    codes = np.frombuffer(data, np.uint8)
    places = np.flatnonzero((codes | 0x20) == ord("{"))  # `[` differs from `{` in that bit
    counts = np.diff(np.searchsorted(places, offsets))
    for row in np.flatnonzero((counts >= DEEPEST) & (lengths > 0)):
        deep[row] = is_too_deep(f"[{data[offsets[row] : offsets[row + 1]].decode()}]")
    return deep


def _digits(texts: pa.StringArray) -> Mask:
    """Return the rows with a run of digits that may be too long for the judge's parser."""
    long = np.zeros(len(texts), bool)
    data, offsets = text_bytes(texts)
    # Of a long run, several neighbours among every 37th byte would be digits.
    sample = np.frombuffer(data, np.uint8)[::_STRIDE] - np.uint8(ord("0")) < 10
    wanted = _MOST_DIGITS // _STRIDE
    if len(sample) < wanted or not _has_run(sample, wanted):
        return long
    for found in _DIGITS.finditer(data):  # it may lead from one row into the next
        long[np.searchsorted(offsets[1:], [found.start(), found.end() - 1], side="right")] = True
    return long


def _has_run(sample: np.ndarray, wanted: int) -> bool:
    together = sample[: len(sample) - wanted + 1].copy()
    for step in range(1, wanted):
        together &= sample[step : len(sample) - wanted + 1 + step]
    return bool(together.any())


# --- columns ------------------------------------------------------------------------------------


def _all_hashes(texts: pa.StringArray) -> bool:
    """Whether every text is one; some five times as quick as to ask of each."""
    data, _ = text_bytes(texts)
    lengths = pc.min_max(pc.binary_length(texts)).as_py()
    return not data.translate(None, _HEX) and lengths["min"] == lengths["max"] == _HASH_LENGTH


def _integers(column: pa.Array, sound: Mask) -> pa.Array:
    if pa.types.is_signed_integer(column.type):
        return column.cast(pa.int64())
    digits = column.cast(pa.string())
    is_small = pc.match_substring_regex(digits, _SMALL_INTEGER)
    sound &= _mask(is_small, null=True)
    return pc.if_else(is_small, digits, _NO_TEXT).cast(pa.int64())


def _instants(rows: pa.RecordBatch, fetched: Fetched, sound: Mask) -> pa.Array:
    column = rows.column(fetched.column)
    if not pa.types.is_timestamp(column.type):
        read, uncertain = read_instants(column.cast(pa.string()).to_pylist())
        sound[uncertain] = False
        return read
    if fetched.odd is not None:
        sound &= _mask(rows.column(fetched.odd).is_null())
    read = column.cast(columns.TIME)
    microseconds = read.cast(pa.int64())
    bounds = pc.min_max(microseconds).as_py()
    if bounds["min"] is not None and (bounds["min"] < EARLIEST_US or bounds["max"] > LATEST_US):
        inside = pc.and_(pc.greater_equal(microseconds, EARLIEST_US), pc.less_equal(microseconds, LATEST_US))
        sound &= _mask(inside, null=True)
    return read


def _storable(workspaces: pa.StringArray, certain: Mask) -> Mask:
    """Return the rows whose workspace can be part of a key."""
    distinct = pc.if_else(pa.array(certain), workspaces, _NO_TEXT).unique()
    refused = [one for one in distinct.to_pylist() if one is not None and not is_storable(one)]
    if not refused:
        return np.ones(len(certain), bool)
    return ~_mask(pc.is_in(workspaces, pa.array(refused, pa.string())))


def is_storable(workspace: str) -> bool:
    """Whether `workspace` can be part of a key."""
    try:
        layout.escape(workspace)
    except ValueError:
        return False
    return True
