"""JSON in which no number changes: parsed, altered, written again.

A double holds every number of up to 15 digits, and gives it back. A number that neither a double
nor an integer of 64 bits holds exactly stays the text that it is, and is written as such.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import orjson
import rfc8785

Tree = dict[str, Any]

# A number that may not survive being a double: 16 digits or more, or an exponent. Behind one of these
# characters a number begins; so does many a text, which is then read the slow way for nothing.
_RISKY: Final = re.compile(rb"[:,\[ \t\r\n]-?(?:[0-9.]{16}|[0-9.]+[eE])")
_MOST_DIGITS: Final = 18
_EXACT_INTEGERS: Final = 2**53


class Digits:
    """A number as it was written."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digits) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Digits({self.text!r:.40})"


def _integer(text: str) -> int | Digits:
    return int(text) if len(text) <= _MOST_DIGITS else Digits(text)


def _real(text: str) -> float | Digits:
    value = float(text)
    return value if _is_exactly(value, text) else Digits(text)


def _is_exactly(value: float, text: str) -> bool:
    try:
        return Decimal(repr(value)) == Decimal(text)
    except InvalidOperation:  # an exponent beyond Decimal's
        return False


_exact: Final = json.JSONDecoder(parse_int=_integer, parse_float=_real)


def parse(body: bytes) -> Any:
    """Parse valid JSON without duplicate members. A number is an int, a float or `Digits`.

    Raises:
        ValueError: It is none, or not UTF-8.
    """
    try:
        tree = orjson.loads(body)
    except orjson.JSONDecodeError:  # half of a surrogate pair, an infinity of digits
        return _exact.decode(body.decode())
    # What is written as it was read is exact; so it is if there is no number that a double changes.
    if orjson.dumps(tree) == body or _RISKY.search(body) is None:
        return tree
    return _exact.decode(body.decode())


def parse_text(text: str) -> Any:
    """Parse sound JSON as `parse` does; the text may hold halves of surrogate pairs."""
    return _exact.decode(text)


def write(tree: Any) -> bytes:
    """Write what was parsed, compact, as one line. Half a surrogate pair stays an escape."""
    try:
        return orjson.dumps(tree, default=_fragment)
    except orjson.JSONEncodeError:
        pieces: list[str] = []
        _write(tree, pieces)
        return "".join(pieces).encode()


def _fragment(value: Any) -> orjson.Fragment:
    if isinstance(value, Digits):
        return orjson.Fragment(value.text)
    raise TypeError(type(value).__name__)


def _write(value: Any, pieces: list[str]) -> None:
    if isinstance(value, dict):
        before = "{"
        for name, inner in value.items():
            pieces += [before, json.dumps(name), ":"]
            _write(inner, pieces)
            before = ","
        pieces.append("}" if value else "{}")
    elif isinstance(value, list):
        before = "["
        for inner in value:
            pieces.append(before)
            _write(inner, pieces)
            before = ","
        pieces.append("]" if value else "[]")
    else:
        pieces.append(value.text if isinstance(value, Digits) else json.dumps(value))


def canonical(value: Any) -> bytes:
    """Return equal bytes for equal values: of a string its UTF-8, of all else its canonical JSON (RFC 8785).

    Numbers are equal by their value. Where RFC 8785 has no form for one, it is digits and an exponent.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return _canonical(value).encode("utf-8", "surrogatepass")


def _canonical(value: Any) -> str:
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{_canonical(name)}:{_canonical(value[name])}" for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_canonical, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return _number(value)


def _number(value: int | float | Digits) -> str:
    if isinstance(value, float):
        return rfc8785.dumps(value).decode()
    if isinstance(value, int) and abs(value) < _EXACT_INTEGERS:
        return str(value)
    text = value.text if isinstance(value, Digits) else str(value)
    nearest = float(text)
    if _is_exactly(nearest, text):
        return rfc8785.dumps(nearest).decode()
    try:
        sign, digits, exponent = Decimal(text).as_tuple()
    except InvalidOperation:
        return text
    written = "".join(map(str, digits)).lstrip("0")
    short = written.rstrip("0")
    return f"{'-' if sign else ''}{short}e{int(exponent) + len(written) - len(short)}"
