"""Forwarding: each destination by itself, in a thread of its own, once or for as long as wanted.

A destination that is down holds up no other one, no receiver and no archive: what it has not
taken waits in its folder, and later in the archive.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from archiver import clock
from archiver.archive import Archive
from archiver.config import Settings
from archiver.errors import ArchiverError
from archiver.forward.account import Account
from archiver.forward.commits import Commits, begin_at_head
from archiver.forward.cursor import CursorFile
from archiver.forward.deliveries import Deliveries
from archiver.forward.intakes import intake_of
from archiver.forward.outlet import (
    BusyError,
    Outlet,
    destination_of,
    locked,
    outlet_of,
    prepare,
    state_folder,
)
from archiver.forward.overflow import drop_links, has_overflowed
from archiver.forward.sending import DestinationError, Policy, Tally
from archiver.forward.settings import Destination
from archiver.forward.wanted import Wanted
from archiver.runs import rules_of
from archiver.validate import Rules

log = logging.getLogger("archiver.forward")

DEAD_LETTERS: Final = "deadletters"
LOOK_SECONDS: Final = 0.5
LOOK_IN_ARCHIVE_SECONDS: Final = 5.0

OpenArchive = Callable[[], Archive]


@dataclass(slots=True)
class Forwarded:
    """What one call brought for one destination.

    Attributes:
        tally: Of this call alone.
        is_complete: Whether all that was there is settled.
        is_busy: Another process does it.
        error: What ended it, or None.
    """

    name: str
    tally: Tally = field(default_factory=Tally)
    is_complete: bool = False
    is_busy: bool = False
    error: ArchiverError | None = None

    @property
    def exit_code(self) -> int:
        if self.error is not None:
            return self.error.exit_code
        return 3 if self.tally.dead else 0

    def to_json(self) -> dict[str, Any]:
        tally = self.tally
        return {
            "destination": self.name,
            "taken": tally.taken,
            "already_there": tally.already,
            "dead_letters": tally.dead,
            "filtered": tally.filtered,
            "invalid": tally.invalid,
            "requests": tally.requests,
            "retries": tally.retries,
            "bytes": tally.bytes,
            "complete": self.is_complete,
            "busy": self.is_busy,
            "error": None if self.error is None else self.error.message,
        }


class Forwarding:
    """One destination, under its lock.

    Args:
        open_archive: Opens the archive; asked only where it is needed.
        environment: Where secrets are looked up; None is that of the process.
    """

    def __init__(
        self,
        settings: Settings,
        destination: Destination,
        open_archive: OpenArchive,
        *,
        policy: Policy | None = None,
        stop: threading.Event | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.destination = destination
        self.folder = state_folder(settings, destination.name)
        self._settings = settings
        self._open_archive = open_archive
        self._archive: Archive | None = None
        self._policy = policy or Policy()
        self._stop = stop or threading.Event()
        self._environment = environment
        self._waiting = prepare(settings, destination)
        self._wanted = Wanted.of(destination)
        self.account = Account(self.folder)

    def once(self) -> bool:
        """Send what there is; whether all of it is settled.

        Raises:
            DestinationError: It took nothing for too long, or refuses us.
            BusyError: Another process does it.
            ArchiverError: Something could not be read or written.
        """
        with locked(self.folder, self.destination.name):
            return self._session(lambda _: False)

    def follow(self) -> None:
        """Send what there is and what comes, until `stop` is set.

        Raises:
            BusyError: Another process does it.
        """
        with locked(self.folder, self.destination.name):
            failures = 0

            def goes_on(cursor: CursorFile) -> bool:
                nonlocal failures
                failures = 0
                reads_folder = cursor.cursor.archive is None
                return not self._stop.wait(LOOK_SECONDS if reads_folder else LOOK_IN_ARCHIVE_SECONDS)

            while not self._stop.is_set():
                try:
                    self._session(goes_on)
                except ArchiverError as error:
                    failures += 1
                    log.warning("%s%s", error.message, f"; {error.hint}" if error.hint else "")
                    wait = min(self._policy.first_wait * 2 ** min(failures, 30), self._policy.longest_wait)
                    asked = error.wait_seconds if isinstance(error, DestinationError) else 0.0
                    self._stop.wait(max(wait * random.uniform(0.5, 1.0), asked))  # noqa: S311

    def _session(self, goes_on: Callable[[CursorFile], bool]) -> bool:
        """Send what there is, again and again while `goes_on`; whether all of it is settled."""
        outlet: Outlet | None = None
        try:
            cursor = CursorFile(self.folder)
            if cursor.is_new:
                cursor.write(sync=True)
            outlet = outlet_of(
                self.destination,
                self.folder,
                policy=self._policy,
                stop=self._stop,
                tally=self.account.tally,
                changed=self.account.changed,
                environment=self._environment,
            )
            deliveries = Deliveries(self._sources(), self._rules(), cursor, outlet.limits, self._wanted)
            is_complete = self._pass(outlet, cursor, deliveries)
            while goes_on(cursor):
                is_complete = self._pass(outlet, cursor, deliveries)
        except ArchiverError as error:
            if not isinstance(error, DestinationError):
                self.account.tally.trouble, self.account.tally.trouble_us = error.message, clock.now_us()
            raise
        finally:
            if outlet is not None:
                outlet.client.close()
            self.account.write()
        return is_complete

    def _pass(self, outlet: Outlet, cursor: CursorFile, deliveries: Deliveries) -> bool:
        reads_archive = self.destination.origin == "archive"
        if reads_archive and cursor.cursor.archive is None:
            begin_at_head(self._opened(), cursor)
        if not reads_archive and has_overflowed(self._waiting, self.destination.max_waiting_bytes):
            drop_links(self._waiting, self._opened(), cursor, self.destination.name)
        if cursor.cursor.archive is not None:
            commits = Commits(self._opened(), cursor, outlet.limits, self._wanted, folders=self._waiting)
            if not outlet.sender.send(commits):
                return False
            if reads_archive:
                return True
            cursor.cursor.archive = None
            cursor.write(sync=True)
        return outlet.sender.send(deliveries)

    def _opened(self) -> Archive:
        if self._archive is None:
            self._archive = self._open_archive()
        return self._archive

    def _sources(self) -> dict[Path, str]:
        return {
            folder: "spool" if number == 1 else f"spool-{number}"
            for number, folder in enumerate(self._waiting, start=1)
        }

    def _rules(self) -> dict[str, Rules]:
        return {source: rules_of(self._settings, source) for source in self._sources().values()}


def forward(
    settings: Settings,
    names: Sequence[str],
    open_archive: OpenArchive,
    *,
    follow: bool = False,
    policy: Policy | None = None,
    stop: threading.Event | None = None,
    environment: Mapping[str, str] | None = None,
    watch: Callable[[Sequence[Forwarded]], None] = lambda _: None,
) -> list[Forwarded]:
    """Forward to the destinations `names`, all at once, and return what became of each.

    Args:
        follow: Go on until `stop` is set.
        watch: Called a few times a second with what was reached so far.

    Raises:
        ConfigError: One of them is not configured, or its settings or secrets cannot be used.
    """
    stop = stop or threading.Event()
    policy = policy or Policy()
    pieces = []
    for name in names:
        one = Forwarding(
            settings,
            destination_of(settings, name),
            open_archive,
            policy=policy,
            stop=stop,
            environment=environment,
        )
        intake_of(one.destination, environment)  # what cannot begin is told before anything is sent
        pieces.append((one, Forwarded(name)))
    threads = [
        threading.Thread(target=_run, args=(one, result, follow), name=f"forward-{one.destination.name}")
        for one, result in pieces
    ]
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(0.2 / len(threads))
            for one, result in pieces:
                result.tally = _since(one.account)
            watch([result for _, result in pieces])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for one, result in pieces:
        result.tally = _since(one.account)
    return [result for _, result in pieces]


def _run(one: Forwarding, result: Forwarded, follow: bool) -> None:
    try:
        if follow:
            one.follow()
        else:
            result.is_complete = one.once()
    except BusyError as error:
        result.is_busy = True
        log.warning("%s", error.message)
    except ArchiverError as error:
        result.error = error
    except Exception as error:
        log.exception("destination %s", one.destination.name)
        result.error = ArchiverError(f"destination {one.destination.name}: {type(error).__name__}")


def _since(account: Account) -> Tally:
    """Return what was counted since the account was opened; the rest of it as it is now."""
    now, before = account.tally, account.before
    counted = ("taken", "already", "dead", "filtered", "invalid", "requests", "retries", "bytes")
    found = Tally(**{name: getattr(now, name) - getattr(before, name) for name in counted})
    found.failures, found.failing_since_us, found.is_open = now.failures, now.failing_since_us, now.is_open
    found.trouble, found.trouble_us = now.trouble, now.trouble_us
    found.taken_us, found.taken_event_us = now.taken_us, now.taken_event_us
    return found
