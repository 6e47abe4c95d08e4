"""What is known of a destination from its files, served or not. Changes nothing, asks no network."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from archiver import clock
from archiver.archive import Archive
from archiver.config import Settings
from archiver.errors import ArchiverError
from archiver.forward import account
from archiver.forward.base import Lag
from archiver.forward.cursor import Cursor, read_cursor
from archiver.forward.deadletters import FOLDER, DeadLetters
from archiver.forward.folders import LOCK
from archiver.forward.lag import lag_of, reads_ledger
from archiver.forward.sending import MOST_REFUSED_IN_A_ROW, Tally
from archiver.forward.settings import Destination

_ABOUT_TO_GO: Final = 3


@dataclass(slots=True)
class Standing:
    """How one destination stands.

    Attributes:
        name, kind, origin: As configured.
        has_begun: Whether anything was ever forwarded to it, or tried to be.
        is_running: Whether a process forwards to it now; None if that cannot be told.
        reads_ledger: Whether its events come from the archive now, and not from its folders.
        tally: What became of its events since it began; `tally_is_known`: false, if it cannot be read.
        lag: None if that cannot be told.
        dead_letters: How many wait for somebody to look at them, None if that cannot be told;
            `dead_letters_are_all`: not more.
        oldest_dead_letter_us: When the oldest of them was refused.
        problems: What could not be read, and why.
    """

    name: str
    kind: str
    origin: str
    has_begun: bool = False
    is_running: bool | None = None
    reads_ledger: bool = False
    tally: Tally = field(default_factory=Tally)
    tally_is_known: bool = True
    lag: Lag | None = None
    dead_letters: int | None = None
    dead_letters_are_all: bool = True
    oldest_dead_letter_us: int | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def refuses_everything(self) -> bool:
        """Whether so many in a row were refused, and wait, that it is hardly the events' fault."""
        return self.tally.refused_in_a_row >= MOST_REFUSED_IN_A_ROW and self.dead_letters != 0

    @property
    def stuck(self) -> int:
        """Segments that are taken and stay on the disk; none, if they may be about to go."""
        count = 0 if self.lag is None else self.lag.stuck
        return count if count > _ABOUT_TO_GO else 0

    def failing_seconds(self, now_us: int) -> float:
        """For how long its requests have failed; 0 if the last one went well."""
        since = self.tally.failing_since_us
        return 0.0 if since is None else max(now_us - since, 0) / 1_000_000

    def to_json(self) -> dict[str, Any]:
        tally, lag = self.tally, self.lag
        return {
            "destination": self.name,
            "type": self.kind,
            "from": self.origin,
            "reads": "ledger" if self.reads_ledger else "folder",
            "begun": self.has_begun,
            "running": self.is_running,
            "lag": None
            if lag is None
            else {
                "events": lag.events,
                "seconds": round(lag.seconds, 3),
                "complete": lag.is_complete,
                "bytes": lag.bytes,
                "stuck": lag.stuck,
            },
            "taken": tally.taken,
            "already_there": tally.already,
            "filtered": tally.filtered,
            "invalid": tally.invalid,
            "requests": tally.requests,
            "retries": tally.retries,
            "dead_letters": tally.dead,
            "dead_letters_waiting": self.dead_letters,
            "dead_letters_waiting_are_all": self.dead_letters_are_all,
            "oldest_dead_letter_at": _text(self.oldest_dead_letter_us),
            "circuit_open": tally.is_open,
            "failures": tally.failures,
            "failing_since": _text(tally.failing_since_us),
            "trouble": tally.trouble,
            "trouble_at": _text(tally.trouble_us),
            "last_taken_at": _text(tally.taken_us),
            "last_taken_event_time": _text(tally.taken_event_us),
            "tally_is_known": self.tally_is_known,
            "problems": self.problems,
        }


OpenArchive = Callable[[], Archive]


def standings(
    settings: Settings, open_archive: OpenArchive | None = None, *, now_us: int | None = None
) -> list[Standing]:
    """Return how each configured destination stands, in the order of the configuration. Raises nothing.

    Args:
        open_archive: Called once at most, and only if a destination reads the ledger; None: nobody has it.
    """
    now = clock.now_us() if now_us is None else now_us
    archive: Archive | None = None
    trouble = ""
    found = []
    for destination in settings.destinations.values():
        one = standing_of(settings, destination, archive, now, look_at_lag=False)
        if one.reads_ledger and archive is None and not trouble and open_archive is not None:
            try:
                archive = open_archive()
            except ArchiverError as error:
                trouble = error.message
        if one.reads_ledger and archive is None and trouble:
            one.problems.append(trouble)
        else:
            _look_at_lag(one, settings, destination, archive, now)
        found.append(one)
    return found


def standing_of(
    settings: Settings,
    destination: Destination,
    archive: Archive | None,
    now_us: int,
    *,
    look_at_lag: bool = True,
) -> Standing:
    """Return how one destination stands; what cannot be read is told in its `problems`.

    Args:
        archive: Followed to its head; None: nobody has it.
        look_at_lag: Whether to count what it has not taken.
    """
    one = Standing(destination.name, destination.kind, destination.origin)
    one.reads_ledger = reads_ledger(destination, None)
    try:
        folder = settings.forward_folder / destination.name
    except ArchiverError as error:
        one.problems.append(error.message)
        return one
    cursor = _cursor(folder, one)
    one.reads_ledger = reads_ledger(destination, cursor)
    _look_at_account(folder, one)
    one.has_begun = one.has_begun or cursor is not None
    _look_at_lock(folder / LOCK, one)
    letters = DeadLetters(folder / FOLDER)
    try:
        one.dead_letters, one.dead_letters_are_all = letters.count()
        one.oldest_dead_letter_us = letters.oldest()
    except ArchiverError as error:
        one.problems.append(error.message)
    if look_at_lag:
        _look_at_lag(one, settings, destination, archive, now_us)
    return one


def _look_at_lag(
    one: Standing, settings: Settings, destination: Destination, archive: Archive | None, now_us: int
) -> None:
    try:
        one.lag = lag_of(settings, destination, archive, now_us)
    except ArchiverError as error:
        if error.message not in one.problems:
            one.problems.append(error.message)


def _cursor(folder: Path, one: Standing) -> Cursor | None:
    try:
        return read_cursor(folder)
    except ArchiverError as error:
        one.has_begun = True
        one.problems.append(error.message)
        return None


def _look_at_account(folder: Path, one: Standing) -> None:
    path = folder / account.FILE
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        one.tally_is_known = False
        one.problems.append(f"{path}: cannot be read: {error.strerror}")
        return
    one.has_begun = True
    one.tally = account.read_tally(folder)


def _look_at_lock(lock: Path, one: Standing) -> None:
    """Tell whether somebody has the lock. Takes it for a moment, beside others that look, if nobody does."""
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        one.is_running = False
        return
    except OSError as error:
        one.problems.append(f"{lock}: cannot be opened: {error.strerror}")
        return
    try:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            one.is_running = False
    except BlockingIOError:
        one.is_running = True
    except OSError as error:
        one.problems.append(f"{lock}: cannot be tried: {error.strerror}")
    finally:
        os.close(handle)


def _text(us: int | None) -> str | None:
    return None if us is None else clock.to_text(clock.nearest(us))
