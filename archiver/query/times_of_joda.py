"""Patterns of times as Joda and Java write them (`yyyy-MM-dd`), as `strftime` has them."""

from __future__ import annotations

import re
from typing import Final

from archiver.errors import QueryError

_LETTERS: Final = {
    "yyyy": "%Y",
    "YYYY": "%Y",
    "yy": "%y",
    "MMMM": "%B",
    "MMM": "%b",
    "MM": "%m",
    "dd": "%d",
    "EEEE": "%A",
    "EEE": "%a",
    "DDD": "%j",
    "HH": "%H",
    "hh": "%I",
    "mm": "%M",
    "ss": "%S",
    "SSS": "%g",
    "a": "%p",
    "Z": "%z",
}
_PIECE: Final = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']+")


def strftime_of(pattern: str) -> str:
    """Return `pattern` as `strftime` writes it.

    Raises:
        QueryError: A letter in it is not known here.
    """
    told, end = [], 0
    for found in _PIECE.finditer(pattern):
        piece, end = found[0], found.end()
        if found[1] is not None:
            told.append((found[1].replace("''", "'") or "'").replace("%", "%%"))
        elif found[2] is not None:
            if piece not in _LETTERS:
                raise QueryError(f"the letters {piece!r:.20} of a time's pattern are not translated")
            told.append(_LETTERS[piece])
        else:
            told.append(piece.replace("%", "%%"))
    if end != len(pattern):
        raise QueryError("a quote that is not closed, in a time's pattern")
    return "".join(told)
