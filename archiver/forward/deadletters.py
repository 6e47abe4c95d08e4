"""What a destination refused, kept until somebody sends it again or gives it up.

    <state>/<destination>/deadletters/<stem>.<letters>.jsonl     one JSON object a line
    <state>/<destination>/deadletters/.lock                      held by whoever sends again or deletes

A stem is the time and a random part, and the beginning of its letters' names. Letters are added as
new files, so nobody who adds waits for anybody. Whoever takes letters out writes what is left under
the smaller number of letters and then deletes the larger file: of several files with one stem, which
a crash may leave, the one with the fewest letters counts.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import json
import os
import re
import secrets
import time
from bisect import insort
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from archiver import clock, durable
from archiver.errors import ArchiverError, SourceError
from archiver.forward.base import Outgoing
from archiver.sources.filing import open_regular, shown

FOLDER: Final = "deadletters"
MOST_IN_A_FILE: Final = 1000
MOST_FILE_BYTES: Final = 8 << 20

_LOCK: Final = ".lock"
_MOST_LINE_BYTES: Final = 128 << 20  # a delivery of 16 MiB, each of its bytes escaped
_MOST_PROBLEMS: Final = 20
_MOST_ANSWER_CHARACTERS: Final = 500
_OLD_SECONDS: Final = 3600.0
_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # of base 32: sorts as the numbers do
# With so much chance no two files of one microsecond get one name, also after one was rewritten.
_TIME_DIGITS, _RANDOM_DIGITS, _PLACE_DIGITS = 11, 7, 2
_STEM_LENGTH: Final = _TIME_DIGITS + _RANDOM_DIGITS
_NAME: Final = re.compile(rf"([{_DIGITS}]{{{_STEM_LENGTH}}})\.([1-9][0-9]{{0,3}})\.jsonl", re.ASCII)
_LETTER: Final = re.compile(rf"[{_DIGITS}]{{{_STEM_LENGTH + _PLACE_DIGITS}}}", re.ASCII)


class LettersBusyError(ArchiverError):
    """Somebody else sends these letters again, or deletes some. Nothing was touched."""

    kind = "busy"


@dataclass(frozen=True, slots=True)
class Letter:
    """One event that a destination refused.

    Attributes:
        event: With its body as it was delivered. Its `place` is not kept.
        reason: Why it is here, in our words: `refused by the receiver`, `too large`.
        answer: What the receiver said, or which limit it is above. Kept as one line, bounded.
        first_at: When it was refused first, in microseconds since 1970; 0: now, when it is added.
        attempts: How often it was sent, or tried to be.
        id: Its name, by which `add` calls it; sorts by `first_at`.
    """

    event: Outgoing
    reason: str
    answer: str = ""
    first_at: int = 0
    attempts: int = 1
    id: str = ""

    @classmethod
    def of(cls, event: Outgoing, *, reason: str, answer: str = "", attempts: int = 1) -> Letter:
        """Return the letter of an event that was refused now."""
        return cls(event, reason, answer, clock.now_us(), attempts)


@dataclass(slots=True)
class _File:
    """One file's lines; what stands in none of `letters` is nobody's letter, and is kept as it is."""

    letters: list[Letter] = field(default_factory=list)
    others: list[bytes] = field(default_factory=list)


class DeadLetters:
    """The dead letters of one destination. Any number of processes may read, add and take out.

    Args:
        folder: `<state>/<destination>/deadletters`; made when a letter is added.

    Attributes:
        problems: Files and lines that reading found to be no letters; the first twenty of them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[str] = []

    def add(self, letters: Sequence[Letter]) -> list[Letter]:
        """Keep letters, and return them with their names.

        When this returns they are durable: the event may be passed over.

        Raises:
            SourceError: They could not be written; some of them may be there.
        """
        added: list[Letter] = []
        now = clock.now_us()
        dated = [replace(one, first_at=one.first_at or now) for one in letters]
        try:
            if dated:
                durable.make_folders(self.folder)
            for part in _parts(dated):
                added += self._create(part)
        except OSError as error:
            raise SourceError(
                f"{self.folder}: dead letters cannot be written: {error.strerror}",
                hint="the events that they are made of are not passed over: give it room and rights",
            ) from error
        return added

    def count(self, most: int = 100_000) -> tuple[int, bool]:
        """Return how many letters there are, and whether these are all; reads no file.

        Counts no further than to `most`. A line that is no letter counts as one.

        Raises:
            SourceError: The folder cannot be read.
        """
        counts: dict[str, int] = {}
        total = 0
        for name in self._listed():
            if (found := _NAME.fullmatch(name)) is None:
                continue
            stem, letters = found[1], int(found[2])
            known = counts.get(stem)
            counts[stem] = letters if known is None else min(known, letters)
            total += counts[stem] - (known or 0)
            if total > most:
                return most, False
        return total, True

    def oldest(self) -> int | None:
        """Return when the oldest file's first letter was refused first, in microseconds; None: none is there.

        Raises:
            SourceError: The folder cannot be read.
        """
        first = min((name for name in self._listed() if _NAME.fullmatch(name)), default=None)
        return None if first is None else _number(first[:_TIME_DIGITS])

    def letters(self) -> Iterator[Letter]:
        """Yield the letters there are now, the oldest first; one file at a time is in memory.

        What is no letter is told in `problems`, and hides no other one.

        Raises:
            SourceError: The folder cannot be read.
        """
        files = self._files()
        for stem in sorted(files):
            yield from self._read(stem, files[stem]).letters

    def find(self, name: str) -> Letter | None:
        """Return the letter of this name, or None.

        Raises:
            SourceError: The folder cannot be read.
        """
        if _LETTER.fullmatch(name) is None:
            return None
        stem = name[:_STEM_LENGTH]
        found = self._read(stem, self._files([stem]).get(stem, [])).letters
        return next((one for one in found if one.id == name), None)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only one to take letters out, as long as the block lasts. Adding goes on beside it.

        Raises:
            LettersBusyError: Somebody else is; it is not waited for.
            SourceError: The folder takes no lock.
        """
        handle = -1
        try:
            try:
                durable.make_folders(self.folder)
                handle = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o640)
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._sweep()
            except BlockingIOError:
                raise LettersBusyError(
                    f"{self.folder}: these dead letters are being sent again, or deleted, already",
                    hint="wait until that command has ended",
                ) from None
            except OSError as error:
                raise SourceError(f"{self.folder}: cannot be locked: {error.strerror}") from error
            yield
        finally:
            if handle >= 0:
                os.close(handle)

    def settle(self, gone: Collection[str], changed: Iterable[Letter] = ()) -> int:
        """Take letters out, and write others anew; return how many were taken out. Needs `alone`.

        A letter stays, in its old or its new state, until it is known to be taken out. Names that
        are not there are passed over.

        Raises:
            SourceError: It could not be written. What was not settled is as it was.
        """
        anew = {one.id: one for one in changed}
        leaving, taken_out = set(gone), 0
        files = self._files({name[:_STEM_LENGTH] for name in leaving | anew.keys()})
        try:
            for stem in sorted(files):
                taken_out += self._rewrite(stem, files[stem], leaving, anew)
            if taken_out:
                durable.sync_folder(self.folder)
        except OSError as error:
            raise SourceError(
                f"{self.folder}: dead letters cannot be rewritten: {error.strerror}",
                hint="what was taken by the receiver may be sent once more",
            ) from error
        return taken_out

    def _create(self, part: Sequence[Letter]) -> list[Letter]:
        first = min(one.first_at for one in part)
        while True:
            stem = _new_stem(first)
            named = [replace(one, id=stem + _digits(place, _PLACE_DIGITS)) for place, one in enumerate(part)]
            try:
                durable.create(self.folder / _name(stem, len(named)), b"".join(map(_encode, named)))
            except FileExistsError:
                continue
            return named

    def _rewrite(self, stem: str, there: list[int], gone: Collection[str], anew: Mapping[str, Letter]) -> int:
        found = self._read(stem, there)
        left = [anew.get(one.id, one) for one in found.letters if one.id not in gone]
        if left == found.letters:
            return 0
        keeps = None
        if left or found.others:
            # What is nobody's letter comes last, as it is: only the last line may lack its end.
            keeps = len(left) + len(found.others)
            durable.replace(self.folder / _name(stem, keeps), b"".join([*map(_encode, left), *found.others]))
        # The largest first: what a crash leaves is never older than what it deleted.
        for count in reversed(there):
            if count != keeps:
                (self.folder / _name(stem, count)).unlink(missing_ok=True)
        return len(found.letters) - len(left)

    def _read(self, stem: str, there: list[int]) -> _File:
        """Return what the file of this stem holds; if it goes away meanwhile, its successor, or nothing."""
        while there:
            path = self.folder / _name(stem, there[0])
            try:
                return self._lines(path, stem)
            except FileNotFoundError:
                there = self._files([stem]).get(stem, [])
            except OSError as error:
                self._problem(f"{shown(path)}: cannot be read: {error.strerror}")
                break
        return _File()

    def _lines(self, path: Path, stem: str) -> _File:
        found = _File()
        known: set[str] = set()
        with os.fdopen(open_regular(path), "rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_MOST_LINE_BYTES), b""), 1):
                letter = _decode(line)
                if letter is None or letter.id[:_STEM_LENGTH] != stem or letter.id in known:
                    self._problem(f"{shown(path)}: line {number} is no dead letter of this file")
                    found.others.append(line)
                else:
                    known.add(letter.id)
                    found.letters.append(letter)
        return found

    def _files(self, stems: Collection[str] | None = None) -> dict[str, list[int]]:
        """Return the files by stem, as their numbers of letters; the one that counts comes first.

        Args:
            stems: Only these; None: all, and what is no file of ours is told.
        """
        files: dict[str, list[int]] = {}
        for name in self._listed():
            found = _NAME.fullmatch(name)
            if found is None:
                if stems is None and not name.startswith("."):
                    self._problem(f"{shown(self.folder / name)}: is no file of dead letters")
            elif stems is None or found[1] in stems:
                insort(files.setdefault(found[1], []), int(found[2]))
        return files

    def _listed(self) -> Iterator[str]:
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    yield entry.name
        except FileNotFoundError:
            return
        except OSError as error:
            raise SourceError(f"{self.folder}: cannot be listed: {error.strerror}") from error

    def _problem(self, told: str) -> None:
        if len(self.problems) < _MOST_PROBLEMS and told not in self.problems:
            self.problems.append(told)

    def _sweep(self) -> None:
        """Delete what writers left that died long ago."""
        for name in list(self._listed()):
            if name.startswith(durable.TEMPORARY_PREFIX):
                path = self.folder / name
                with contextlib.suppress(OSError):
                    if time.time() - path.lstat().st_mtime > _OLD_SECONDS:
                        path.unlink()


def _new_stem(first_at: int) -> str:
    chance = "".join(secrets.choice(_DIGITS) for _ in range(_RANDOM_DIGITS))
    return _digits(first_at, _TIME_DIGITS) + chance


def one_line(text: str) -> str:
    """Return somebody else's text as one bounded line that a terminal can show."""
    line = "".join(char if char.isprintable() else " " for char in text[: 2 * _MOST_ANSWER_CHARACTERS])
    return " ".join(line.split())[:_MOST_ANSWER_CHARACTERS]


def _parts(letters: Sequence[Letter]) -> Iterator[list[Letter]]:
    """Yield the letters in order, as many together as one file takes."""
    part: list[Letter] = []
    size = 0
    for one in letters:
        if part and (len(part) == MOST_IN_A_FILE or size + len(one.event.body) > MOST_FILE_BYTES):
            yield part
            part, size = [], 0
        part.append(one)
        size += len(one.event.body)
    if part:
        yield part


def _name(stem: str, letters: int) -> str:
    return f"{stem}.{letters}.jsonl"


def _digits(number: int, length: int) -> str:
    number = min(max(number, 0), 32**length - 1)
    return "".join(_DIGITS[number >> (5 * place) & 31] for place in reversed(range(length)))


def _number(digits: str) -> int:
    number = 0
    for digit in digits:
        number = number << 5 | _DIGITS.index(digit)
    return number


def _encode(letter: Letter) -> bytes:
    event = letter.event
    tree: dict[str, Any] = {
        "letter": letter.id,
        "first_at": clock.to_text(clock.nearest(letter.first_at)),
        "attempts": letter.attempts,
        "reason": one_line(letter.reason),
        "answer": one_line(letter.answer),
        "dataset": event.dataset,
        "id": event.id,
        "workspace": event.workspace,
        "event_type": event.event_type,
        "action": event.action,
        "at": clock.to_text(clock.nearest(event.at_us)),
        "received_at": clock.to_text(clock.nearest(event.received_us)),
    }
    try:
        tree["body"] = event.body.decode()
    except UnicodeDecodeError:
        tree["body_base64"] = base64.b64encode(event.body).decode()
    # In ASCII, so that whoever prints the file with other tools shows no terminal anything.
    return json.dumps(tree, separators=(",", ":")).encode() + b"\n"


def _decode(line: bytes) -> Letter | None:
    """Return the letter that a line holds, or None if it holds none."""
    try:
        tree = json.loads(line)
        if "body" in tree:
            body = _text(tree, "body").encode()
        else:
            body = base64.b64decode(_text(tree, "body_base64"), validate=True)
        dataset = tree["dataset"]
        attempts = tree["attempts"]
        if dataset not in ("events", "alerts") or type(attempts) is not int:
            return None
        event = Outgoing(
            body=body,
            dataset=dataset,
            id=_text(tree, "id"),
            workspace=_text(tree, "workspace"),
            event_type=_text(tree, "event_type"),
            action=_text(tree, "action"),
            at_us=clock.from_text(_text(tree, "at")),
            received_us=clock.from_text(_text(tree, "received_at")),
        )
        first_at = clock.from_text(_text(tree, "first_at"))
        name = _text(tree, "letter")
        if _LETTER.fullmatch(name) is None:
            return None
        return Letter(event, _text(tree, "reason"), _text(tree, "answer"), first_at, attempts, name)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        return None


def _text(tree: dict[str, Any], key: str) -> str:
    value = tree[key]
    if not isinstance(value, str):
        raise TypeError(key)
    return value
