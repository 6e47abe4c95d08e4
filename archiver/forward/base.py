"""What passes between reading, sending and the intakes of other systems."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from archiver.errors import ArchiverError
from archiver.http import Answer, Client, NoAnswer


class Outgoing(NamedTuple):
    """One valid event on its way.

    Attributes:
        body: As it was delivered, byte for byte; a row of a database as its JSON object.
        dataset: `events` or `alerts`.
        id: Of the event or the alert.
        workspace: Whose it is.
        event_type: `event.created` for a row, which has none of its own.
        action: Empty for an alert.
        at_us: `event_time` in microseconds since 1970, UTC.
        received_us: When it was received, likewise.
        place: How many elements of its portion's unit are read when this one is: see `Portion`.
    """

    body: bytes
    dataset: Literal["events", "alerts"]
    id: str
    workspace: str
    event_type: str
    action: str
    at_us: int
    received_us: int
    place: int = 0


@dataclass(slots=True)
class Portion:
    """Consecutive events of one unit (a segment, a data file), after the destination's filters.

    Attributes:
        unit: Which one; only its reader knows what it means.
        events: In order; may be empty, if all were filtered out.
        end: Elements of the unit that are read when the whole portion is.
        is_last: Whether the unit ends with it.
        filtered: Events that the destination does not want.
        invalid: Elements that are no valid event, and so are in quarantine, not forwarded.
    """

    unit: Any
    events: list[Outgoing]
    end: int
    is_last: bool = False
    filtered: int = 0
    invalid: int = 0


@dataclass(slots=True)
class Lag:
    """How far behind a destination is.

    Attributes:
        events: Not yet taken by it, as far as they were counted; filters are not applied.
        seconds: Since the oldest of them was received, or committed.
        is_complete: False: there are more events than were counted.
        bytes: On this host's disk, kept for this destination alone or also for the archive.
        stuck: Segments that are taken, and whose links are still there.
    """

    events: int = 0
    seconds: float = 0.0
    is_complete: bool = True
    bytes: int = 0
    stuck: int = 0


class Reader(Protocol):
    """Where events come from, and what remembers how far they were taken."""

    def read(self) -> Iterator[Portion]:
        """Yield what there is now and was not acknowledged, in order; ends when there is no more.

        Raises:
            ArchiverError: It could not be read.
        """
        ...

    def acknowledge(self, portion: Portion, place: int) -> None:
        """All of the portion's unit up to `place` (of an event, or the portion's end) is taken.

        Called in the order of reading, also across portions and units: what was yielded before is
        taken as well. It survives the death of this process when this returns.
        """
        ...


class Limits(NamedTuple):
    """Of one request: events, bytes of its body before compression, and bytes of one event in it."""

    most_events: int
    most_bytes: int
    most_event_bytes: int


TroubleKind = Literal["later", "batch", "settings"]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a request, or a part of it, was not taken.

    Attributes:
        kind: `later`: the same may be taken later. `batch`: something in this request is refused,
            and the answer does not say what; the sender divides it. `settings`: no event's fault;
            somebody has to mend something (a token, a URL, a certificate).
        answer: A status (`503`), a receiver's code (`503 code 9`) or what happened instead of an
            answer (`reset`).
        told: What the receiver or the system said, as one line.
        hint: What somebody may do about it, or empty.
        retry_after: Seconds that the receiver asked to wait for, or None.
        of_items: Whether the receiver works, and fails at just these items: should that not end,
            they are refused.
    """

    kind: TroubleKind
    answer: str
    told: str = ""
    hint: str = ""
    retry_after: float | None = None
    of_items: bool = False

    def __str__(self) -> str:
        said = f"{self.answer} ({self.told})" if self.told else self.answer
        return f"{said}; {self.hint}" if self.hint else said


@dataclass(slots=True)
class Verdict:
    """What became of the items of one request, by their numbers in it.

    What stands neither in `refused` nor in `again` was taken.

    Attributes:
        refused: Items that will never be taken, each with what the receiver said of it.
        again: Items that must be sent again, ascending.
        trouble: Why `again` is not empty; a trouble of the kind `batch` has all items in `again`.
        already: How many of those taken were there before, where the receiver tells.
    """

    refused: dict[int, str] = field(default_factory=dict)
    again: Sequence[int] = ()
    trouble: Trouble | None = None
    already: int = 0


class UnsendableError(ArchiverError):
    """One event that this destination can never take, such as one above its limit."""

    kind = "unsendable"


class Intake(Protocol):
    """The HTTP API of one kind of receiver. No state but what a connection has; one thread at a time."""

    @property
    def limits(self) -> Limits: ...

    @property
    def oldest_seconds(self) -> float | None:
        """How old an event may be at most for the receiver to keep its time; None: any age."""
        ...

    def item(self, event: Outgoing, payload: bytes) -> bytes:
        """Return what stands for one event in a request's body. `payload` is its JSON, one line.

        Raises:
            UnsendableError: It can never be taken.
        """
        ...

    def deliver(self, client: Client, items: Sequence[bytes], stop: threading.Event) -> Verdict:
        """Post the items as one request, and say what became of each; at most `limits.most_events`.

        Waits for a receiver's later confirmation too, where it gives one, unless `stop` is set.

        Raises:
            NotTrustedError: Nothing was sent.
        """
        ...


_LATER = frozenset({408, 425, 429})
_DIVIDED = frozenset({400, 413, 422})
_HINTS = {
    "refused": "is the receiver running, and at this address?",
    "unreachable": "is the name right, and is there a way to it?",
    "timeout": "is the receiver overloaded, or something between that swallows what is sent?",
    "reset": "did the receiver stop? or does it speak https, and not http?",
    "401": "is the token right?",
    "403": "may the token write there?",
    "404": "is the path of the URL right?",
    "405": "is the path of the URL right?",
}


def trouble_of(answer: Answer | NoAnswer) -> Trouble | None:
    """Return what HTTP alone says about a request; None if it was taken (2xx)."""
    if isinstance(answer, NoAnswer):
        return Trouble("later", answer.silence, answer.told, _HINTS.get(answer.silence, ""))
    status = answer.status
    if 200 <= status < 300:
        return None
    kind: TroubleKind = "settings"
    if status >= 500 or status in _LATER:
        kind = "later"
    elif status in _DIVIDED:
        kind = "batch"
    hint = "a redirection is not followed: name the place that it leads to" if 300 <= status < 400 else ""
    return Trouble(kind, str(status), answer.told, hint or _HINTS.get(str(status), ""), answer.retry_after)


def all_again(count: int, trouble: Trouble) -> Verdict:
    """Return the verdict of a request of which nothing is known to be taken."""
    return Verdict(again=range(count), trouble=trouble)
