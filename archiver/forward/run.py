"""Forwarding: each destination by itself, in a thread of its own, once or for as long as wanted.

A destination that is down holds up no other one, no receiver and no archive: what it has not
taken waits in its folder, and later in the archive.
"""

from __future__ import annotations

import logging
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from archiver import clock
from archiver.archive import Archive
from archiver.config import Settings
from archiver.errors import ArchiverError
from archiver.forward.account import Account
from archiver.forward.base import Portion, Reader
from archiver.forward.commits import Commits, begin_at_head
from archiver.forward.cursor import CursorFile
from archiver.forward.deliveries import Deliveries
from archiver.forward.folders import folder_of
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
STRETCH_SECONDS: Final = 60.0

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


class Stretch:
    """What a reader gives within a minute, up to the end of a unit.

    A destination that is slow has so much to read that its folder could outgrow its limit meanwhile.

    Attributes:
        has_more: Whether the reader may have more.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.has_more = False
        self.acknowledge = reader.acknowledge

    def read(self) -> Iterator[Portion]:
        until = time.monotonic() + STRETCH_SECONDS
        for portion in self.reader.read():
            yield portion
            if portion.is_last and time.monotonic() >= until:
                self.has_more = True
                return


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
        if destination.origin == "archive":  # it may have been of the other kind before
            folders = [folder_of(spool, destination.name) for spool in settings.spool_folders]
            self._waiting = [folder for folder in folders if folder.is_dir()]
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
        """Send what there is and what comes, until `stop` is set; first waits for whoever does it now."""
        told = ""
        while not self._stop.is_set():
            try:
                with locked(self.folder, self.destination.name):
                    self._follow()
            except ArchiverError as error:  # of the lock
                if error.message != told:
                    told = error.message
                    log.warning("%s; it is tried again", told)
                self._stop.wait(LOOK_SECONDS)

    def _follow(self) -> None:
        failures = 0

        def goes_on(cursor: CursorFile) -> bool:
            nonlocal failures
            failures = 0
            reads_folder = cursor.cursor.archive is None
            return not self._stop.wait(LOOK_SECONDS if reads_folder else LOOK_IN_ARCHIVE_SECONDS)

        while not self._stop.is_set():
            asked = 0.0
            try:
                self._session(goes_on)
            except ArchiverError as error:
                log.warning("%s%s", error.message, f"; {error.hint}" if error.hint else "")
                asked = error.wait_seconds if isinstance(error, DestinationError) else 0.0
            except Exception:  # the other destinations go on, and nobody would miss this one
                log.exception("destination %s", self.destination.name)
            failures += 1
            wait = min(self._policy.first_wait * 2 ** min(failures, 30), self._policy.longest_wait)
            self._stop.wait(max(wait * random.uniform(0.5, 1.0), asked))  # noqa: S311

    def _session(self, goes_on: Callable[[CursorFile], bool]) -> bool:
        """Send what there is, again and again while `goes_on`; whether all of it is settled."""
        outlet: Outlet | None = None
        try:
            cursor = CursorFile(self.folder)
            # What cannot be remembered is not sent either: on a full disk it would be sent for ever.
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
        while True:
            if reads_archive and cursor.cursor.archive is None:
                # What waits for it in folders is in the archive, too, or will be.
                drop_links(self._waiting, self._opened(), cursor, self.destination.name)
                if cursor.cursor.archive is None:
                    begin_at_head(self._opened(), cursor)
            if not reads_archive and has_overflowed(self._waiting, self.destination.max_waiting_bytes):
                self._give_up_folder(cursor)
            if cursor.cursor.archive is not None:
                commits = Commits(self._opened(), cursor, outlet.limits, self._wanted, folders=self._waiting)
                stretch = Stretch(commits)
                if not outlet.sender.send(stretch):
                    return False
                if stretch.has_more:
                    continue
                if reads_archive:
                    return True
                cursor.cursor.archive = None
                cursor.write(sync=True)
            stretch = Stretch(deliveries)
            if not outlet.sender.send(stretch):
                return False
            if not stretch.has_more:
                return True

    def _give_up_folder(self, cursor: CursorFile) -> None:
        """Leave what waits to the archive; if none can be read, it is sent from here all the same."""
        try:
            drop_links(self._waiting, self._opened(), cursor, self.destination.name)
        except ArchiverError as error:
            if cursor.cursor.archive is not None:
                raise
            log.warning(
                "destination %s: more than its max_waiting_bytes waits for it, and goes on waiting: %s",
                self.destination.name,
                error.message,
            )

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
        ConfigError: One of them is not configured.
        ArchiverError: None of them can begin. Where others can, it is told of those that cannot.
    """
    stop = stop or threading.Event()
    policy = policy or Policy()
    chosen = [destination_of(settings, name) for name in names]
    pieces, results, reasons = [], [], []
    for destination in chosen:
        result = Forwarded(destination.name)
        results.append(result)
        try:
            one = Forwarding(
                settings, destination, open_archive, policy=policy, stop=stop, environment=environment
            )
            pieces.append((one, result))
            intake_of(destination, environment)  # its thread meets that as well, and may try again
        except ArchiverError as error:
            result.error = error
            reasons.append(error.message)
            if len(reasons) == len(chosen):
                raise
    if reasons:  # now: with `follow` the report comes late
        log.warning("%s", "; ".join(reasons))
    threads = [
        threading.Thread(
            target=_run, args=(one, result, follow), name=f"forward-{one.destination.name}", daemon=True
        )
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
            watch(results)
    finally:
        stop.set()
        # Who asks twice waits for no answer; the threads die with the process, as by SIGKILL.
        if not isinstance(sys.exception(), KeyboardInterrupt):
            for thread in threads:
                thread.join()
    for one, result in pieces:
        result.tally = _since(one.account)
    return results


def _run(one: Forwarding, result: Forwarded, follow: bool) -> None:
    result.error = None
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
