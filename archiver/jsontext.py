"""JSON as text: strict parsing, and which characters of a text are which member.

`json` of the standard library parses; what it lets pass and two parsers would read
differently (duplicate members, NaN, endless nesting) is refused here. Nothing in this
module knows of events.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from json.decoder import scanstring  # type: ignore[attr-defined]  # C function without a stub
from typing import Any, Final, NamedTuple

import orjson

DEEPEST: Final = 128

# Possessive quantifiers: a string of millions of escapes must not pile up backtracking states.
_STRING_OR_BRACKET: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+|[\[\]{}]', re.DOTALL)
_skip_space: Final = re.compile(r"[ \t\n\r]*+").match

_INT64: Final = range(-(2**63), 2**63)


class DuplicateMemberError(ValueError):
    """An object has two members of one name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class NotANumberError(ValueError):
    """A bare NaN, Infinity or -Infinity, which are no JSON."""


def is_too_deep(text: str) -> bool:
    """Whether `text`, JSON or not, nests brackets deeper than 128. Never recurses."""
    if text.count("{") + text.count("[") <= DEEPEST:
        return False
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        character = text[found.start()]
        if character in "{[":
            depth += 1
            if depth > DEEPEST:
                return True
        elif character in "}]":
            depth -= 1
    return False


def _members_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise DuplicateMemberError(name)
            seen.add(name)
    return members


def _refuse_constant(name: str) -> None:
    raise NotANumberError(name)


_strict: Final = json.JSONDecoder(object_pairs_hook=_members_once, parse_constant=_refuse_constant)
# For places in a text, where values do not matter: any number of digits goes.
_places: Final = json.JSONDecoder(parse_int=str, parse_float=str)
# Strict, and any number of digits goes.
_is_strict: Final = json.JSONDecoder(
    object_pairs_hook=_members_once, parse_int=str, parse_float=str, parse_constant=_refuse_constant
)


def parse_strictly(text: str) -> Any:
    """Parse `text` (not deeper than 128) to what `json.loads` would give.

    Raises:
        DuplicateMemberError: At any depth.
        NotANumberError: NaN or an infinity, written as a word.
        json.JSONDecodeError: It is not JSON.
        ValueError: An integer of more digits than Python converts.
    """
    if text.startswith("\ufeff"):
        raise json.JSONDecodeError("a byte order mark is no JSON", text, 0)
    return _strict.decode(text)


def is_json(text: str) -> bool:
    """Whether `text` is one JSON text of at most 128 levels without repeated members."""
    if is_too_deep(text):
        return False
    try:
        _is_strict.decode(text)
    except ValueError:
        return False
    return True


class Member(NamedTuple):
    """One member of an object in a text: its name, and the two slices as they were written."""

    name: str
    key: str
    value: str
    value_start: int


def members(text: str, start: int = 0) -> list[Member]:
    """List the members of the object that begins at `start` (or behind white space there).

    Args:
        text: Proven to be JSON before.
        start: Where an object begins.
    """
    found = []
    at = _end_of_space(text, _end_of_space(text, start) + 1)
    while text[at] != "}":
        name, key_end = scanstring(text, at + 1, True)
        value_start = _end_of_space(text, _end_of_space(text, key_end) + 1)
        _, value_end = _places.raw_decode(text, value_start)
        found.append(Member(name, text[at:key_end], text[value_start:value_end], value_start))
        at = _end_of_space(text, value_end)
        if text[at] == ",":
            at = _end_of_space(text, at + 1)
    return found


def _end_of_space(text: str, start: int) -> int:
    found = _skip_space(text, start)
    return found.end() if found else start


def exact_int64(number: str) -> int | None:
    """Return the value of a JSON number if it is an integer of 64 bits, by its digits; else None.

    `1.0` and `1e2` are integers; `1e-400` is none, though a float would make it 0.
    """
    try:
        value = Decimal(number)
    except InvalidOperation:  # an exponent beyond Decimal's
        return None if re.match(r"[-0.]*[1-9]", number) else 0
    if value.is_zero():
        return 0
    # Looked at before any conversion: 1e999999999 as an integer would fill the memory.
    if not 0 <= value.adjusted() <= 18 or value != value.to_integral_value():
        return None
    integer = int(value)
    return integer if integer in _INT64 else None


def is_unicode(text: str) -> bool:
    """Whether `text` holds no lone surrogate, so that it can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_plain(tree: Any) -> bool:
    """Whether every JSON library reads the same out of `tree`.

    That is: integers of 64 bits, finite numbers, no lone surrogates.
    """
    try:
        written = orjson.dumps(tree)  # refuses wide integers and lone surrogates
    except orjson.JSONEncodeError:
        return False
    # It writes an infinity as null.
    return b"null" not in written or _is_finite(tree)


def _is_finite(tree: Any) -> bool:
    pending = [tree]
    while pending:
        value = pending.pop()
        if type(value) is dict:
            pending.extend(value.values())
        elif type(value) is list:
            pending.extend(value)
        elif type(value) is float and value - value != 0:
            return False
    return True


# Writers: how common programs write JSON. If a writer makes a body again, byte for byte, out of
# what was parsed, then the body is JSON, in UTF-8, without duplicate members, and all its numbers
# are what was parsed; and what the writer makes of a part is that part's slice of the body.
Writer = Callable[[Any], bytes]


def _stdlib_writer(*, ascii_only: bool, separators: tuple[str, str] | None) -> Writer:
    encode = json.JSONEncoder(ensure_ascii=ascii_only, separators=separators, check_circular=False).encode

    def write(tree: Any) -> bytes:
        return encode(tree).encode()

    return write


COMPACT: Final[Writer] = orjson.dumps
_SPACED_ASCII: Final = _stdlib_writer(ascii_only=True, separators=None)  # Python's default
_SPACED: Final = _stdlib_writer(ascii_only=False, separators=None)
_COMPACT_ASCII: Final = _stdlib_writer(ascii_only=True, separators=(",", ":"))


def writer_of(body: bytes, tree: Any) -> Writer | None:
    """Return the writer that makes `body` out of `tree`, or None if none that we know does."""
    if COMPACT(tree) == body:
        return COMPACT
    if b'": ' in body:
        likely = _SPACED_ASCII if body.isascii() else _SPACED
    elif b"\\u" in body:
        likely = _COMPACT_ASCII
    else:
        return None
    return likely if likely(tree) == body else None
