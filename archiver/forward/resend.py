"""Dead letters sent once more, by the sender that refused events were sent by, and given up.

A letter that the receiver took now is taken out; one that is refused again stays, with the new
answer. What was done is written down about every second: a crash may repeat the letters of that
time, and loses none. `archiver forward` may run beside it; the receiver then has two connections.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from archiver.errors import ArchiverError
from archiver.forward.base import Limits, Portion
from archiver.forward.deadletters import DeadLetters, Letter
from archiver.forward.intakes import client_of, intake_of
from archiver.forward.payload import Payloads
from archiver.forward.sending import DestinationError, Policy, Sender, fitted
from archiver.forward.settings import Destination
from archiver.forward.wanted import Wanted
from archiver.progress import Progress, Silent

_SETTLE_SECONDS: Final = 1.0
_MOST_UNSETTLED: Final = 10_000
_MOST_UNSETTLED_BYTES: Final = 16 << 20
_DELETED_TOGETHER: Final = 1_000


@dataclass(slots=True)
class ResendReport:
    """What became of dead letters that were sent again.

    Attributes:
        destination: Its name.
        chosen: Letters that were looked at.
        taken: The receiver has them now; they are dead letters no more.
        refused: Stay dead letters, with the new answer.
        unwanted: Stay as they are, and were not sent: today's filters leave them out.
        stopped: Why the rest was not sent, with what to do about it; empty: all were.
        dry_run: Nothing was sent; `taken` counts what would have been sent.
        problems: Files and lines that are no dead letters.
    """

    destination: str
    chosen: int = 0
    taken: int = 0
    refused: int = 0
    unwanted: int = 0
    stopped: str = ""
    dry_run: bool = False
    problems: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether no chosen letter is left."""
        return not (self.stopped or self.refused or self.unwanted)

    def to_json(self) -> dict[str, Any]:
        return {
            "message_type": "deadletters_resend",
            "destination": self.destination,
            "dry_run": self.dry_run,
            "chosen": self.chosen,
            "would_be_sent" if self.dry_run else "taken": self.taken,
            "refused": self.refused,
            "unwanted": self.unwanted,
            "stopped": self.stopped,
            "problems": self.problems,
        }


def resend(
    destination: Destination,
    dead_letters: DeadLetters,
    names: Collection[str] | None = None,
    *,
    dry_run: bool = False,
    environment: Mapping[str, str] | None = None,
    policy: Policy | None = None,
    progress: Progress | None = None,
) -> ResendReport:
    """Send dead letters again, by today's settings; the oldest first.

    Args:
        names: Which letters; None: all that are there now.
        environment: Where the secrets' variables are; None: this process's.
        policy: How a receiver that fails is treated; a wait that is too long ends it.

    Raises:
        ConfigError: A secret or a setting will not do. Nothing was sent.
        LettersBusyError: Somebody else is at these letters.
        ArchiverError: A name is none of a letter; nothing was sent. Or the letters cannot be rewritten.
    """
    report = ResendReport(destination.name, dry_run=dry_run)
    if dry_run:
        wanted = Wanted.of(destination)
        for letter in _chosen(dead_letters, names):
            report.chosen += 1
            report.taken += wanted(letter.event)
        report.unwanted = report.chosen - report.taken
        report.problems = dead_letters.problems
        return report
    intake = intake_of(destination, environment)
    payloads = Payloads(destination, environment)
    client = client_of(destination, environment)
    limits = fitted(intake.limits, most_events=destination.batch_events, most_bytes=destination.batch_bytes)
    progress = progress or Silent()
    with dead_letters.alone():
        reader = _Letters(
            dead_letters,
            _chosen(dead_letters, names),
            Wanted.of(destination),
            limits,
            report,
            progress,
        )
        sender = Sender(
            destination.name,
            intake,
            client,
            payloads,
            reader.refusals,
            limits=limits,
            policy=policy,
            most_per_second=destination.max_per_second,
        )
        progress.start("send", None, len(names) if names is not None else dead_letters.count()[0])
        try:
            sender.send(reader)
        except DestinationError as error:
            report.stopped = f"{error.message}; {error.hint}" if error.hint else error.message
        finally:
            client.close()
            try:
                reader.settle()
            finally:
                progress.finish()
    report.problems = dead_letters.problems
    return report


def give_up(dead_letters: DeadLetters, names: Collection[str] | None = None, *, dry_run: bool = False) -> int:
    """Delete dead letters, and return how many; with `dry_run`, only count them.

    Args:
        names: Which; None: all that are there now.

    Raises:
        LettersBusyError: Somebody else is at these letters.
        ArchiverError: A name is none of a letter; nothing was deleted. Or they cannot be deleted.
    """
    if dry_run:
        return sum(1 for _ in _chosen(dead_letters, names))
    with dead_letters.alone():
        chosen = iter(one.id for one in _chosen(dead_letters, names))
        count = 0
        while part := list(islice(chosen, _DELETED_TOGETHER)):
            count += dead_letters.settle(part)
    return count


def _chosen(dead_letters: DeadLetters, names: Collection[str] | None) -> Iterable[Letter]:
    """Return the letters of these names, or all.

    Raises:
        ArchiverError: A name is none of a letter.
    """
    if names is None:
        return dead_letters.letters()
    found = {name: dead_letters.find(name) for name in sorted(set(names))}
    for name, letter in found.items():
        if letter is None:
            raise ArchiverError(
                f"{name!r:.40}: no dead letter of this name", hint="see `archiver deadletters list`"
            )
    return [letter for letter in found.values() if letter is not None]


class _Refusals(DeadLetters):
    """Takes the sender's dead letters, which are there already, and remembers what was said of them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.by_place: dict[int, Letter] = {}

    def add(self, letters: Sequence[Letter]) -> list[Letter]:
        for letter in letters:
            self.by_place[letter.event.place] = letter
        return list(letters)


class _Letters:
    """Reads dead letters for a sender; a letter's place is its number among those that are sent."""

    def __init__(
        self,
        dead_letters: DeadLetters,
        letters: Iterable[Letter],
        wanted: Callable[..., bool],
        limits: Limits,
        report: ResendReport,
        progress: Progress,
    ) -> None:
        self.refusals = _Refusals(dead_letters.folder)
        self._dead_letters = dead_letters
        self._letters = letters
        self._wanted = wanted
        self._limits = limits
        self._report = report
        self._progress = progress
        self._under_way: deque[tuple[int, Letter]] = deque()
        self._gone: list[str] = []
        self._changed: list[Letter] = []
        self._unsettled_bytes = 0
        self._settled_at = time.monotonic()

    def read(self) -> Iterator[Portion]:
        portion = Portion(None, [], 0)
        place = size = 0
        for letter in self._letters:
            self._report.chosen += 1
            if not self._wanted(letter.event):
                self._report.unwanted += 1
                self._progress.advance(rows=1)
                continue
            if portion.events and (
                len(portion.events) >= self._limits.most_events
                or size + len(letter.event.body) > self._limits.most_bytes
            ):
                yield portion
                portion, size = Portion(None, [], 0), 0
            place += 1
            size += len(letter.event.body)
            self._under_way.append((place, letter))
            portion.events.append(letter.event._replace(place=place))
            portion.end = place
        portion.end, portion.is_last = place, True
        yield portion

    def acknowledge(self, portion: Portion, place: int) -> None:  # noqa: ARG002 - a Reader's
        """Each letter up to `place` was taken, or refused anew."""
        while self._under_way and self._under_way[0][0] <= place:
            number, letter = self._under_way.popleft()
            refusal = self.refusals.by_place.pop(number, None)
            self._progress.advance(rows=1)
            if refusal is None:
                self._gone.append(letter.id)
                continue
            self._report.refused += 1
            self._unsettled_bytes += len(letter.event.body)
            self._changed.append(
                replace(
                    letter,
                    reason=refusal.reason,
                    answer=refusal.answer,
                    attempts=letter.attempts + refusal.attempts,
                )
            )
        if (
            time.monotonic() - self._settled_at >= _SETTLE_SECONDS
            or len(self._gone) + len(self._changed) >= _MOST_UNSETTLED
            or self._unsettled_bytes >= _MOST_UNSETTLED_BYTES
        ):
            self.settle()

    def settle(self) -> None:
        """Write down what was done."""
        self._report.taken += self._dead_letters.settle(self._gone, self._changed)
        self._gone, self._changed, self._unsettled_bytes = [], [], 0
        self._settled_at = time.monotonic()
