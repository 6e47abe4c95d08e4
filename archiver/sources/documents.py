"""Values one after another, laid out in any way; and the elements of an array."""

from __future__ import annotations

import re
from typing import Literal

import orjson

from archiver.sources.elements import (
    LONGEST_ELEMENT_BYTES,
    WHITE_SPACE,
    CutShort,
    Elements,
    Stretch,
    StretchReason,
    part_of,
)

# Everything up to the next bracket (or comma, in the second), strings and what they hold included. The
# repeats are bounded because the expression engine keeps a record of every round; and not possessive,
# which would need none, because Python 3.11.0 to 3.11.4 match those wrongly.
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*){0,100}"'
_INSIDE = re.compile(rb'(?:[^][{}"]+|' + _STRING + rb"){0,1000}", re.DOTALL)
_BESIDE = re.compile(rb'(?:[^][{},"]+|' + _STRING + rb"){0,1000}", re.DOTALL)
_IN_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*){0,1000}', re.DOTALL)
_NEXT_OBJECT = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*\{")
_SPACES = re.compile(rb"[ \t\r\n]*")
_COMMAS = re.compile(rb"(?:,[ \t\r\n]*)+")
_SCALAR_END = re.compile(rb'[ \t\r\n\[\]{},":]')
_SCALAR = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")


MOST_ELEMENTS = 300_000


def add_text(found: Elements, text: bytes, offset: int) -> None:
    """Add a line or a delivery to `found`: the elements of an array, else itself, nothing if it is blank."""
    start = text.lstrip(WHITE_SPACE)
    inner = split_array(text) if start[:1] == b"[" else None
    if inner is not None:
        found.bodies.extend(inner.bodies)
        found.offsets.extend([offset + at for at in inner.offsets])
    elif start:
        found.bodies.append(text)
        found.offsets.append(offset)


def split_array(text: bytes) -> Elements | None:
    """Return the elements of the array that `text` is, or None if it is not exactly one, well bracketed.

    Nor is it split if it has more than `MOST_ELEMENTS`: they cannot all be events, which have
    some hundred bytes, and millions of tiny ones would not fit into memory.

    An element is what stands between commas, less the white space around it; it may be
    anything but empty.
    """
    documents = Documents(limit=len(text) + 1)
    found = Elements([], [])
    for piece in [*documents.feed(text), *documents.finish()]:
        if isinstance(piece, Stretch):
            return None
        found.bodies.extend(piece.bodies)
        found.offsets.extend(piece.offsets)
        if len(found.bodies) > MOST_ELEMENTS:
            return None
    return found if (documents.arrays, documents.values) == (1, 0) else None


class Documents:
    """JSON values one after another, however laid out; an array counts as its elements.

    Bytes that begin no value are a stretch up to the end of their line, misplaced commas
    in an array are one by themselves, and a value or an array that the file does not end
    is one up to the end of the file.

    Attributes:
        arrays: Arrays at the top level that were read to their end.
        values: Other values at the top level.
    """

    def __init__(self, *, limit: int = LONGEST_ELEMENT_BYTES, offset: int = 0) -> None:
        self.arrays = 0
        self.values = 0
        self._limit = limit
        self._data = b""
        self._start = 0  # in _data: of what is being read, and was not given out
        self._scan = 0  # in _data: how far it was looked at
        self._before = offset  # where _data[0] lies in the input
        self._state: Literal["between", "value", "garbage"] = "between"
        self._in_array = False
        self._depth = 0  # of brackets inside the element
        self._in_string = False
        self._mark = b""  # what came before the next element of an array: [ or a comma not yet accounted for
        self._mark_at = 0
        self._part = 0
        self._tries = 0
        self._elements = Elements([], [])
        self._out: list[Elements | Stretch] = []

    def feed(self, portion: bytes) -> list[Elements | Stretch]:
        self._tries = 20
        self._data = self._data[self._start :] + portion
        self._before += self._start
        self._scan -= self._start
        self._start = 0
        return self._run(last=False)

    def finish(self, cut_short: CutShort | None = None) -> list[Elements | Stretch]:
        if cut_short is None:
            self._out = self._run(last=True)
        tail = self._data[self._start :]
        if self._part or self._state == "garbage" or len(tail) > self._limit:
            self._pieces("not_json" if self._state == "garbage" else "too_long", len(self._data))
        elif self._state == "value" or tail.strip(WHITE_SPACE):
            self._stretch(cut_short or "not_json", "the file ends inside a value", self._start, tail)
        elif self._in_array and (tail := self._mark + tail):
            # Nothing else may be left to show that elements are missing.
            at = self._mark_at - self._before if self._mark else self._start
            self._stretch(cut_short or "not_json", "the file ends inside an array", at, tail)
        self._data, self._start, self._state, self._in_array = b"", 0, "between", False
        return self._take()

    def _run(self, *, last: bool) -> list[Elements | Stretch]:
        going = True
        while going:
            if self._state == "between":
                going = self._begin(last=last)
            elif self._state == "garbage":
                going = self._garbage()
            else:
                going = self._value()
        return self._take()

    def _take(self) -> list[Elements | Stretch]:
        if self._elements.bodies:
            self._out.append(self._elements)
            self._elements = Elements([], [])
        out, self._out = self._out, []
        return out

    def _stretch(self, reason: StretchReason, detail: str, start: int, content: bytes) -> None:
        if self._elements.bodies:  # what comes before it is given out before it
            self._out.append(self._elements)
            self._elements = Elements([], [])
        self._out.append(Stretch(reason, detail, self._before + start, content))

    def _begin(self, *, last: bool) -> bool:
        """Find out what comes next; false if that takes more bytes."""
        data = self._data
        self._start = self._scan = start = _end(_SPACES, data, self._start)
        if start == len(data):
            return False
        first = data[start : start + 1]
        if self._in_array:
            self._begin_in_array(first)
        elif first == b"[":
            self._in_array, self._mark, self._mark_at = True, first, self._before + start
            self._start += 1
        elif first in (b"{", b'"'):
            self._state = "value"
            self._in_string = first == b'"'
            self._scan += self._in_string
        else:
            end = _SCALAR_END.search(data, start)
            if end is None and not last and len(data) - start <= self._limit:
                return False
            stop = end.start() if end else len(data)
            ends = stop - start <= self._limit and data[stop : stop + 1] not in (b"]", b"}", b",", b":")
            if ends and _SCALAR.fullmatch(data, start, stop):
                self._add(stop)
                self.values += 1
            else:
                self._state = "garbage"
        return True

    def _begin_in_array(self, first: bytes) -> None:
        if first == b"]":
            if self._mark == b",":
                at = self._mark_at - self._before
                self._stretch("not_json", "a comma with no element behind it", at, b",")
            self.arrays += 1
            self._in_array, self._mark = False, b""
            self._start += 1
        elif first == b",":
            end = min(_end(_COMMAS, self._data, self._start), self._start + self._limit)
            content = self._data[self._start : end].rstrip(WHITE_SPACE)
            self._stretch("not_json", "a comma without an element", self._start, content)
            self._start, self._mark = end, b""
        else:
            self._state = "value"
            if first == b"{" and self._tries:
                self._scan = self._whole_object()

    def _whole_object(self) -> int:
        """Where the object at `_start` ends if a parser can vouch for it, else `_start`.

        Ten times faster than to look at each string. A text that begins here, is JSON as a
        whole and has a comma behind it can only be the element.
        """
        data, start = self._data, self._start
        stop = start
        for _ in range(3):  # an array of objects inside it shows the same signs
            found = _NEXT_OBJECT.search(data, stop, start + 16_384)
            if found is None:
                break
            stop = found.start() + 1
            try:
                orjson.loads(data[start:stop])
            except orjson.JSONDecodeError:
                continue
            return stop
        self._tries -= 1
        return start

    def _value(self) -> bool:
        """Read on in a value; false if it takes more bytes."""
        data, size = self._data, len(self._data)
        while self._scan < size:
            beside = self._in_array and not self._depth  # a comma here ends the element
            inside = _BESIDE if beside else _INSIDE
            stop = _end(_IN_STRING if self._in_string else inside, data, self._scan)
            moved, self._scan = stop > self._scan, stop
            at = data[stop : stop + 1]
            if at == b'"':
                # Stand behind the quotes, not at them: a string may be longer than memory.
                self._in_string = not self._in_string
                self._scan += 1
                if not (self._in_string or self._depth or self._in_array):
                    return self._end_value(self._scan)
            elif self._in_string:
                if not moved:
                    break  # at a backslash whose partner is still to come
            elif at == b"," and beside:
                self._mark, self._mark_at = at, self._before + stop
                self._end_value(stop)
                self._start += 1
                return True
            elif at == b"]" and beside:
                self._mark = b""
                return self._end_value(stop)
            elif at in (b"[", b"{"):
                self._depth += 1
                self._scan += 1
            elif at in (b"]", b"}"):
                # Which bracket closes which is the validator's business.
                self._depth -= self._depth > 0
                self._scan += 1
                if not (self._depth or self._in_array):
                    return self._end_value(self._scan)
        if self._scan - self._start > self._limit:
            self._pieces("too_long", self._scan, whole=True)
        return False

    def _end_value(self, stop: int) -> Literal[True]:
        """Take the value from `_start` to `stop`."""
        if self._part or stop - self._start > self._limit:
            self._pieces("too_long", stop)
        else:
            self._add(stop)
        if not self._in_array:
            self.values += 1
        self._start = self._scan = stop
        self._state, self._part, self._depth, self._in_string = "between", 0, 0, False
        return True

    def _add(self, stop: int) -> None:
        self._elements.bodies.append(self._data[self._start : stop].rstrip(WHITE_SPACE))
        self._elements.offsets.append(self._before + self._start)
        self._start = stop

    def _garbage(self) -> bool:
        """Read on to the end of the line; false if that takes more bytes."""
        end = self._data.find(b"\n", self._scan)
        if end < 0:
            self._scan = len(self._data)
            self._pieces("not_json", self._scan, whole=True)
            return False
        self._pieces("not_json", end)
        self._state, self._part = "between", 0
        return True

    def _pieces(self, reason: Literal["too_long", "not_json"], stop: int, *, whole: bool = False) -> None:
        """Give out the bytes from `_start` to `stop` in pieces; with `whole`, keep back the last."""
        about = f"an element longer than {self._limit} bytes" if reason == "too_long" else "no JSON value"
        while stop - self._start > (self._limit if whole else 0):
            at, end = self._start, min(stop, self._start + self._limit)
            several = self._part or whole or end < stop
            self._part += 1
            detail = part_of(about, self._part, self._before + at) if several else about
            self._stretch(reason, detail, at, self._data[at:end])
            self._start = end


def _end(pattern: re.Pattern[bytes], data: bytes, start: int) -> int:
    """Where the match of `pattern` at `start` ends; `start` if there is none."""
    found = pattern.match(data, start)
    return found.end() if found else start
