"""What `verify` found: damages, each with its word, and notes that are no damage."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from archiver.errors import IntegrityError, StoreError

Word = Literal["missing", "altered", "inserted", "truncated", "forked", "miscounted", "duplicated", "foreign"]
WORDS: Final[tuple[Word, ...]] = get_args(Word)

MEANINGS: Final[dict[Word, str]] = {
    "missing": "named but absent: an object, a commit below a later one, rows of a file, "
    "the event that a supplement adds to, an entry that was moved",
    "altered": "bytes differ from the digest that names them, a link of the chain differs, "
    "or a commit or a row contradicts what it must agree with",
    "inserted": "there, but accounted for nowhere: an object that bears a committed attempt's name and "
    "that no commit names, rows beyond those a commit counts, a commit of an attempt declared dead",
    "truncated": "an expected commit lies beyond the head: the newest commits are gone",
    "forked": "the chain is whole, but not the one that was expected: it was written anew",
    "miscounted": "numbers of a commit, or of a file and its commit, do not add up",
    "duplicated": "twice what may be there once: an event's identity, a batch, a key, a moved entry",
    "foreign": "an object that is no kind of ours",
}

LONGEST_LISTING: Final = 1_000
_MOST_UNREADABLE: Final = 100


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is not as it should be.

    Attributes:
        word: What kind of damage; see `MEANINGS`.
        object: Key of the object, relative to the archive.
        expected, found: In words, or digests. May quote stored text, so they are data.
    """

    word: Word
    object: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.word}: {printable(self.object)}: expected {self.expected}, found {self.found}"

    def to_json(self) -> dict[str, str]:
        return {
            "word": self.word,
            "object": printable(self.object),
            "expected": printable(self.expected),
            "found": printable(self.found),
        }


@dataclass(slots=True)
class VerifyReport:
    """What was checked and what came of it.

    Attributes:
        level: `full`, or `quick`: the ledger, and of every other object presence and size.
        head, head_digest: Of the newest commit that is there; -1 and empty if none could be read.
        commits, objects, bytes, rows: How much was checked. `objects` and `bytes` are those
            that the ledger names, commits apart; in a quick check their bytes were not read.
        damages: Up to 1,000 of them.
        damage_count: All of them.
        words: How many there are of each word.
        unreadable: Objects that are there but that the store did not give: not checked.
        notes: What is worth knowing and no damage.
    """

    level: Literal["full", "quick"] = "full"
    location: str = ""
    head: int = -1
    head_digest: str = ""
    commits: int = 0
    objects: int = 0
    bytes: int = 0
    rows: int = 0
    damages: list[Damage] = field(default_factory=list)
    damage_count: int = 0
    words: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_intact(self) -> bool:
        """Everything that was looked for was checked, and no damage found."""
        return not self.damage_count and not self.unreadable

    @property
    def expectation(self) -> str:
        """The head, as `--expect` takes it at the next check."""
        return f"{self.head}:{self.head_digest}"

    def raise_if_damaged(self) -> None:
        """Turn a bad verdict into an error.

        Raises:
            IntegrityError: There is damage.
            StoreError: There is none that we saw, but objects could not be read.
        """
        if self.damage_count:
            told = "; ".join(f"{word} {self.words[word]}" for word in WORDS if self.words[word])
            raise IntegrityError(
                f"{self.location}: expected an intact archive, found damage ({told}); "
                f"first: {self.damages[0]}",
                hint="change nothing; compare with a copy, and restore the objects named above from it",
            )
        if self.unreadable:
            raise StoreError(
                f"{self.location}: {len(self.unreadable)} objects could not be read, and are not checked; "
                f"first: {self.unreadable[0]}",
                hint="run `archiver doctor`, then verify again",
            )

    def to_json(self) -> dict[str, Any]:
        return {
            "message_type": "verify_report",
            "level": self.level,
            "location": self.location,
            "intact": self.is_intact,
            "head": self.head,
            "head_digest": self.head_digest,
            "commits": self.commits,
            "objects": self.objects,
            "bytes": self.bytes,
            "rows": self.rows,
            "damage_count": self.damage_count,
            "words": {word: self.words[word] for word in WORDS if self.words[word]},
            "damages": [damage.to_json() for damage in self.damages],
            "unreadable": [printable(text) for text in self.unreadable],
            "notes": self.notes,
            "seconds": round(self.seconds, 3),
        }


class Findings:
    """Where the checks put what they find. Safe to use from several threads."""

    def __init__(self, report: VerifyReport) -> None:
        self.report = report
        self._seen: set[tuple[str, str, str]] = set()
        self._lock = threading.Lock()

    def damage(self, word: Word, key: str, expected: str, found: str) -> None:
        """Record one damage; the same one twice counts once."""
        one = Damage(word, key, expected[:400], found[:400])
        with self._lock:
            name = (word, key, expected[:400])
            if name in self._seen:
                return
            report = self.report
            report.damage_count += 1
            report.words[word] += 1
            if len(report.damages) < LONGEST_LISTING:
                self._seen.add(name)
                report.damages.append(one)

    def note(self, text: str) -> None:
        self.report.notes.append(text)

    def cannot_read(self, key: str, error: StoreError) -> None:
        """Record that the store does not give an object; a store that gives nothing ends the check.

        Raises:
            StoreError: Too many already.
        """
        with self._lock:
            self.report.unreadable.append(f"{key}: {error.message}"[:400])
            if len(self.report.unreadable) > _MOST_UNREADABLE:
                raise error


def printable(text: str) -> str:
    """Return `text` with control characters and half characters shown, not sent."""
    shown = "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text)
    return shown.encode(errors="backslashreplace").decode()
