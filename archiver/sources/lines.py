"""Newline-delimited JSON."""

from __future__ import annotations

from itertools import accumulate

from archiver.sources.documents import add_text
from archiver.sources.elements import LONGEST_ELEMENT_BYTES, CutShort, Elements, Stretch, part_of


class Lines:
    r"""One element a line, or all elements of the array that a line is; blank lines are none.

    Both `\n` and `\r\n` end a line.

    Args:
        limit: The longest line, in bytes.
        offset: Where the first byte fed lies in the input.
    """

    def __init__(self, *, limit: int = LONGEST_ELEMENT_BYTES, offset: int = 0) -> None:
        self._limit = limit
        self._offset = offset  # of the pending line's first byte
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._part = 0  # of the overlong line that is being given out; 0 when there is none
        self._out: list[Elements | Stretch] = []

    def feed(self, portion: bytes) -> list[Elements | Stretch]:
        start = 0
        first = portion.find(b"\n")
        if first >= 0 and (self._pending or self._part):
            self._add(portion[:first])
            self._end_line()
            self._offset += 1
            start = first + 1
        last = portion.rfind(b"\n", start)
        if last >= 0:
            self._lines(portion[start:last])
            self._offset += last + 1 - start
            start = last + 1
        self._add(portion[start:])
        return self._take()

    def finish(self, cut_short: CutShort | None = None) -> list[Elements | Stretch]:
        if cut_short and not self._part and self._pending:
            tail = b"".join(self._pending)
            self._out.append(Stretch(cut_short, "a line cut short by the damage", self._offset, tail))
            self._pending, self._pending_bytes = [], 0
        self._end_line()
        return self._take()

    def _take(self) -> list[Elements | Stretch]:
        out, self._out = self._out, []
        return out

    def _add(self, piece: bytes) -> None:
        """Add to the pending line; of one that is too long, give out whole pieces."""
        if piece:
            self._pending.append(piece)
            self._pending_bytes += len(piece)
        if self._pending_bytes > self._limit:
            text = b"".join(self._pending)
            whole = (len(text) - 1) // self._limit * self._limit
            for start in range(0, whole, self._limit):
                self._too_long(text[start : start + self._limit])
            self._pending, self._pending_bytes = [text[whole:]], len(text) - whole

    def _too_long(self, content: bytes) -> None:
        self._part += 1
        detail = part_of(f"a line longer than {self._limit} bytes", self._part, self._offset)
        self._out.append(Stretch("too_long", detail, self._offset, content))
        self._offset += len(content)

    def _end_line(self) -> None:
        """Give out the pending line, which is complete, and stand at its end."""
        text = b"".join(self._pending)
        self._pending, self._pending_bytes = [], 0
        if self._part:
            self._too_long(text)
            self._part = 0
        elif text:
            self._lines(text)
            self._offset += len(text)

    def _lines(self, text: bytes) -> None:
        """Split complete lines, the first of which begins at `_offset`."""
        lines = text.split(b"\n")
        offsets = list(accumulate([len(line) + 1 for line in lines[:-1]], initial=self._offset))
        if len(text) > self._limit and max(map(len, lines)) > self._limit:
            self._one_by_one(lines, offsets)
            return
        if b"\r" in text:
            lines = [line[:-1] if line[-1:] == b"\r" else line for line in lines]
        found = Elements(lines, offsets)
        if {line[:1] for line in lines} != {b"{"}:
            found = Elements([], [])
            for line, offset in zip(lines, offsets, strict=True):
                add_text(found, line, offset)
        if found.bodies:
            self._out.append(found)

    def _one_by_one(self, lines: list[bytes], offsets: list[int]) -> None:
        begin = self._offset
        for line, offset in zip(lines, offsets, strict=True):
            self._offset = offset
            self._add(line)
            self._end_line()
        self._offset = begin
