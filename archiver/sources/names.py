"""File names as text: a name is any bytes, a ledger and a terminal want printable Unicode."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote_to_bytes

_UNPRINTABLE = re.compile(r"[^ -$&-~]+")


def printable(name: str) -> str:
    """Write a file name so that it is printable Unicode and `original` gives it back.

    Percent signs, control and formatting characters, and bytes that are not UTF-8
    become `%XX`, byte by byte.
    """
    return _UNPRINTABLE.sub(lambda found: "".join(map(_escape, found[0])), name)


def original(text: str) -> str:
    """Reverse `printable`; the result is a name as `os.fsdecode` gives it."""
    return os.fsdecode(unquote_to_bytes(text))


def _escape(character: str) -> str:
    if character != "%" and character.isprintable():
        return character
    return "".join(f"%{byte:02X}" for byte in os.fsencode(character))
