"""Cutting text into JSON elements without parsing it: lines, documents, arrays.

A splitter is fed a file's decoded bytes in any portions and gives back slices of them:
`Elements`, which the validator will judge, and `Stretch`es, which hold no element. It
looks at strings and brackets only, so an element may well turn out not to be JSON; but
no byte of one is lost or altered, and what is between elements is white space, commas
and the brackets of arrays, nothing else.

Memory is bounded by the limit of an element plus what is fed at once: what is longer
than the limit is given out in pieces while it is read.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

StretchReason = Literal[
    "torn_frame", "damaged_frame", "damaged_file", "expansion_limit", "too_long", "not_json"
]
CutShort = Literal["damaged_file", "expansion_limit"]

LONGEST_ELEMENT_BYTES = 16 * 1024 * 1024
WHITE_SPACE = b" \t\r\n"


class Elements(NamedTuple):
    """Elements as parallel lists; an offset is where one begins in what was fed."""

    bodies: list[bytes]
    offsets: list[int]


class Stretch(NamedTuple):
    """Bytes that hold no element; at most as many as the limit, with its part in the detail if it is one."""

    reason: StretchReason
    detail: str
    offset: int
    content: bytes


class Splitter(Protocol):
    def feed(self, portion: bytes) -> list[Elements | Stretch]:
        """Take the next bytes and return what they complete, in order."""
        ...

    def finish(self, cut_short: CutShort | None = None) -> list[Elements | Stretch]:
        """Return what is left; a tail that damage cut short is a stretch, however complete it looks."""
        ...


def part_of(detail: str, part: int, offset: int) -> str:
    """Say in a stretch's detail which piece of a longer one it is."""
    return f"{detail} (part {part}, from byte {offset})"
