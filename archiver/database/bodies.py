"""Rows as JSON: one flat object a row, its members in the order of the layout.

A body follows from the row alone: equal rows give equal bytes, on every machine. What is NULL is
left out. Text is escaped as Python's `json` does without `ensure_ascii`: quotes, backslashes
and control characters only. Numbers keep their digits, and JSON stays as it stands.

All of it is done by the column. Only texts that need escaping, and texts that may be JSON, are looked
at one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from archiver.columns import TIME
from archiver.database.fetched import Fetched, Layout
from archiver.errors import SourceError
from archiver.jsontext import COMPACT, DEEPEST, is_json, is_too_deep

_TEXT: Final = pa.string()
_NO_TEXT: Final = pa.scalar(None, _TEXT)
_NUMBER: Final = r"\A-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?\z"
# How a driver hands on bytes that are no UTF-8: as they are, so that the judge can refuse them.
_AS_THEY_ARE: Final = "surrogateescape"


@dataclass(frozen=True, slots=True)
class Written:
    """One member of every row, as it stands in the bodies.

    Attributes:
        member: Its name.
        values: Its JSON texts, less what opens and closes all of them; null where it is left out.
        opening, closing: What stands around each: the quotes of a string.
    """

    member: str
    values: pa.StringArray
    opening: str = ""
    closing: str = ""


def bodies(batch: pa.RecordBatch, layout: Layout) -> pa.StringArray:
    """Return the body of each row.

    Bytes that are no UTF-8, which some databases let through, come out as they are: then the result
    is no valid Arrow string, and is to be looked at as binary.

    Raises:
        SourceError: The bodies have more than 2 GiB.
    """
    return objects([write(batch, fetched) for fetched in layout], batch.num_rows)


def objects(members: list[Written], rows: int) -> pa.StringArray:
    """Return one JSON object a row, of those of `members` that it has.

    Raises:
        SourceError: They have more than 2 GiB.
    """
    members = [member for member in members if member.values.null_count < rows]
    try:
        return _join(members, rows)
    except pa.ArrowCapacityError:
        raise _too_large(rows) from None


def write(batch: pa.RecordBatch, fetched: Fetched) -> Written:
    """Return the member that `fetched` tells of, as it stands in the bodies.

    Raises:
        SourceError: Its values have more than 2 GiB.
    """
    try:
        return _write(batch, fetched)
    except pa.ArrowCapacityError:
        raise _too_large(batch.num_rows) from None


def _write(batch: pa.RecordBatch, fetched: Fetched) -> Written:
    column = batch.column(fetched.column)
    odd = None if fetched.odd is None else batch.column(fetched.odd)
    if fetched.kind == "instant" and pa.types.is_timestamp(column.type):
        if odd is None or odd.null_count == len(odd):
            return Written(fetched.member, _moments(column), '"', 'Z"')
        return Written(fetched.member, pc.coalesce(instants(column), escaped(odd)), '"', '"')
    if fetched.kind == "number" and not pa.types.is_integer(column.type):
        return _numbers(fetched.member, column)
    if fetched.kind == "json_text":
        return _json_texts(fetched.member, column.cast(_TEXT))
    if fetched.kind in ("text", "instant"):
        return Written(fetched.member, escaped(column), '"', '"')
    return Written(fetched.member, column.cast(_TEXT))  # it is JSON as it stands


def instants(column: pa.Array) -> pa.StringArray:
    """Return points in time, within the years 1 to 9999, as `2026-03-26T10:15:00.000000Z`."""
    return pc.binary_join_element_wise(_moments(column), "Z", "")


def escaped(texts: pa.Array) -> pa.StringArray:
    """Return texts as they stand between the quotes of JSON strings."""
    texts = texts.cast(_TEXT)
    rows = _rows_to_escape(texts)
    if len(rows) == 0:
        return texts
    found = texts.view(pa.binary()).take(pa.array(rows)).to_pylist()
    return _with(texts, rows, [_escape(one) for one in found])


def text_bytes(texts: pa.StringArray) -> tuple[bytes, np.ndarray]:
    """Return all texts as one run of bytes, and where in it each begins and the last one ends."""
    _, offsets_buffer, data_buffer = texts.buffers()
    if offsets_buffer is None or offsets_buffer.size == 0:
        return b"", np.zeros(len(texts) + 1, np.int32)
    offsets = np.frombuffer(offsets_buffer, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    data = b"" if data_buffer is None else data_buffer.slice(first, last - first).to_pybytes()
    return data, offsets - first


# --- joining ------------------------------------------------------------------------------------


def _join(members: list[Written], rows: int) -> pa.StringArray:
    steady = next((at for at, member in enumerate(members) if member.values.null_count == 0), None)
    if steady is None:
        if not members:
            return pa.repeat(pa.scalar("{}", _TEXT), rows)
        commas = _concatenate([_piece(member, ",", "") for member in members])
        return _concatenate([pc.binary_replace_slice(commas, 0, 1, "{"), "}"])
    # One member is in every row. Those before it have a comma behind them, those after it one before.
    parts: list[Any] = ["{"]
    for at, member in enumerate(members):
        before, behind = ("", ",") if at < steady else (("", "") if at == steady else (",", ""))
        if member.values.null_count:
            parts.append(_piece(member, before, behind))
        else:
            opening, closing = _around(member)
            parts += [before + opening, member.values, closing + behind]
    return _concatenate([*parts, "}"])


def _concatenate(parts: list[Any]) -> pa.StringArray:
    merged: list[Any] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        else:
            merged.append(part)
    # A part that is null is left out. Not by "skip": that drops rows whose parts are all null.
    return pc.binary_join_element_wise(*merged, "", null_handling="replace", null_replacement="")


def _piece(member: Written, before: str, behind: str) -> pa.StringArray:
    """Return the member's name and value, null where it is left out."""
    opening, closing = _around(member)
    return pc.binary_join_element_wise(before + opening, member.values, closing + behind, "")


def _around(member: Written) -> tuple[str, str]:
    name = encode_basestring(member.member)
    return f"{name}:{member.opening}", member.closing


# --- values -------------------------------------------------------------------------------------


def _moments(column: pa.Array) -> pa.StringArray:
    # Less its zone, which is UTC: with one it takes thirty times as long.
    spaced = column.cast(TIME).cast(pa.int64()).cast(pa.timestamp("us")).cast(_TEXT)
    return pc.binary_replace_slice(spaced, 10, 11, "T")


def _numbers(member: str, column: pa.Array) -> Written:
    texts = column.cast(_TEXT)
    is_number = pc.match_substring_regex(texts, _NUMBER)
    if pc.all(is_number).as_py() is False:
        rows = np.flatnonzero(pc.fill_null(is_number, True).to_numpy(zero_copy_only=False) == 0)
        found = texts.view(pa.binary()).take(pa.array(rows)).to_pylist()
        texts = _with(texts, rows, [b'"' + _escape(one) + b'"' for one in found])
    return Written(member, texts)


def _json_texts(member: str, texts: pa.StringArray) -> Written:
    found = texts.view(pa.binary()).to_pylist()
    rows = [row for row, text in enumerate(found) if text is not None and not _is_json(text)]
    if rows:
        texts = _with(texts, np.array(rows), [b'"' + _escape(found[row]) + b'"' for row in rows])
    return Written(member, texts)


def _is_json(text: bytes) -> bool:
    """Whether `text` is JSON that fits into a body, and without repeated members."""
    return _is_plain_json(text) or _is_odd_json(text)


def _is_plain_json(text: bytes) -> bool:
    """Prove it the quick way: what `text` says makes `text` again, but for spaces between tokens."""
    if text.count(b"{") + text.count(b"[") >= DEEPEST:
        return False
    try:
        written = COMPACT(orjson.loads(text))
    except orjson.JSONDecodeError:
        return False
    # Where a space within a string is taken as well, the two differ, and nothing is proven.
    return written in (text, text.replace(b'": ', b'":').replace(b", ", b","))


def _is_odd_json(text: bytes) -> bool:
    try:
        found = text.decode()
    except UnicodeDecodeError:
        return False
    return is_json(found) and not is_too_deep(f"[{found}]")  # it will lie within a body


def _escape(text: bytes) -> bytes:
    return encode_basestring(text.decode("utf-8", _AS_THEY_ARE))[1:-1].encode("utf-8", _AS_THEY_ARE)


def _rows_to_escape(texts: pa.StringArray) -> np.ndarray:
    """Return the rows that hold a quote, a backslash or a control character, ascending."""
    data, offsets = text_bytes(texts)
    codes = np.frombuffer(data, np.uint8)
    if not data or (b'"' not in data and b"\\" not in data and codes.min() >= ord(" ")):
        return np.empty(0, np.int64)
    places = np.flatnonzero((codes < ord(" ")) | (codes == ord('"')) | (codes == ord("\\")))
    rows = np.unique(np.searchsorted(offsets[1:], places, side="right"))
    if texts.null_count:  # what lies under a null is no text
        rows = rows[texts.is_valid().to_numpy(zero_copy_only=False)[rows]]
    return rows


def _with(texts: pa.StringArray, rows: np.ndarray, values: list[bytes]) -> pa.StringArray:
    """Return `texts` with other values in some rows, which are ascending."""
    mask = np.zeros(len(texts), bool)
    mask[rows] = True
    replacements = pa.array(values, pa.binary())
    if isinstance(replacements, pa.ChunkedArray):
        raise pa.ArrowCapacityError("more than one array holds")
    return pc.replace_with_mask(texts, pa.array(mask), replacements.view(_TEXT))


def _too_large(rows: int) -> SourceError:
    # Arrow counts the bytes of strings with 32 bits.
    return SourceError(
        f"{rows} rows have more than 2 GiB of text together",
        hint="read fewer rows at a time, or leave the largest column out",
    )
