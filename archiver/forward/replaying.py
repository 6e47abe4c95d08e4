"""A replay to one destination, from the command to its result."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from archiver import clock, durable
from archiver.archive import Archive
from archiver.config import Settings
from archiver.errors import ArchiverError, SourceError
from archiver.forward.base import Intake, Outgoing
from archiver.forward.datafiles import Want
from archiver.forward.outlet import BusyError, Outlet, locked, outlet_of, state_folder
from archiver.forward.replay import FOLDER, Estimate, Replay, Scope, begin, plan
from archiver.forward.run import Forwarded
from archiver.forward.sending import Policy
from archiver.forward.settings import Destination
from archiver.forward.wanted import Wanted

log = logging.getLogger("archiver.forward")

WATCH_SECONDS: Final = 0.2


def scope_of(
    *,
    since_us: int | None = None,
    until_us: int | None = None,
    actions: Sequence[str] = (),
    workspaces: Sequence[str] = (),
    event_types: Sequence[str] = (),
    words: tuple[str | None, str | None] = (None, None),
) -> Scope:
    """Return what a command asks for; of empty lists all. `words` are both times as they were written."""
    return Scope(
        since_us, until_us, tuple(sorted(workspaces)) or None, tuple(event_types), tuple(actions), words
    )


def estimate(destination: Destination, archive: Archive, scope: Scope) -> Estimate:
    """Return what a replay of the present snapshot would read. No data file is opened."""
    return plan(archive, _narrowed(destination, scope))


def warnings_of(destination: Destination, intake: Intake, found: Estimate, now_us: int) -> list[str]:
    """Return what somebody should know before a replay to this destination.

    Args:
        now_us: In microseconds since 1970.
    """
    told = []
    oldest = intake.oldest_seconds
    if oldest is not None and found.oldest_us is not None:
        limit_us = now_us - int(oldest * 1_000_000)
        if found.oldest_us < limit_us:
            older = sorted(day for day in found.days if clock.from_text(f"{day}T00:00:00.000000Z") < limit_us)
            told.append(
                f"{destination.kind} does not take the time of events older than {oldest / 3600:g} h:"
                f" {len(older)} of {len(found.days)} days are older, or in part"
                f" ({older[0]} to {older[-1]})"
            )
    if destination.kind == "elastic" and found.events:
        told.append(
            "elastic refuses an event that is there already only within one backing index:"
            " what an older one of the data stream holds may be there twice"
        )
    return told


def replay(
    settings: Settings,
    destination: Destination,
    archive: Archive,
    scope: Scope,
    *,
    restart: bool = False,
    policy: Policy | None = None,
    stop: threading.Event | None = None,
    watch: Callable[[Forwarded], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
    max_per_second: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Forwarded:
    """Send what the archive has of `scope` to a destination; its own filters apply as well.

    What it forwards live goes on beside it, and its cursor does not move. A command that was
    stopped goes on where it was when it is given again.

    Args:
        restart: Begin anew even so.
        stop: Set by whoever wants it to end: it then ends after the request that is on its way.
        watch: Called a few times a second with what was reached so far.
        note: Called with what somebody should know before anything is sent.

    Raises:
        ConfigError: The destination's settings or secrets cannot be used.
        SourceError: The position cannot be read or written.
        IntegrityError, StoreError: The snapshot cannot be read.
    """
    result = Forwarded(destination.name)
    folder = state_folder(settings, destination.name)
    try:
        durable.make_folders(folder / FOLDER)
    except OSError as error:
        raise SourceError(f"{folder / FOLDER}: cannot be created: {error.strerror}") from error
    watched_at = 0.0

    def changed() -> None:
        nonlocal watched_at
        if time.monotonic() - watched_at >= WATCH_SECONDS:
            watched_at = time.monotonic()
            watch(result)

    try:
        with locked(folder / FOLDER, destination.name):
            outlet = outlet_of(
                destination,
                folder,
                policy=policy or Policy(),
                stop=stop or threading.Event(),
                tally=result.tally,
                changed=changed,
                environment=environment,
                most_per_second=max_per_second,
            )
            try:
                _send(
                    result, outlet, destination, archive, scope, folder / FOLDER, restart=restart, note=note
                )
            finally:
                outlet.client.close()
    except BusyError:
        result.is_busy = True
        log.warning("destination %s: another process replays to it", destination.name)
    watch(result)
    return result


def _send(
    result: Forwarded,
    outlet: Outlet,
    destination: Destination,
    archive: Archive,
    scope: Scope,
    folder: Path,
    *,
    restart: bool,
    note: Callable[[str], None],
) -> None:
    own = (destination.workspaces, destination.event_types, destination.actions, destination.exclude_actions)
    filters = own if any(own) else ()
    file, snapshot, said = begin(archive, folder, scope, restart=restart, filters=filters)
    if said:
        note(said)
    position = file.position
    before = position.taken

    def count() -> None:
        position.taken = before + result.tally.taken

    scope = scope.at_times_of(position)
    narrowed = _narrowed(destination, scope)
    reader = Replay(
        archive, snapshot, narrowed, _wanted(destination, scope), outlet.limits, file, before_write=count
    )
    try:
        result.is_complete = outlet.sender.send(reader)
    except ArchiverError as error:
        result.error = error
    count()
    position.finished = result.is_complete
    file.write(sync=True)


def _narrowed(destination: Destination, scope: Scope) -> Scope:
    """Return a scope with the destination's own workspaces: other files need not be read."""
    if not destination.workspaces:
        return scope
    asked = destination.workspaces if scope.workspaces is None else scope.workspaces
    return replace(scope, workspaces=tuple(sorted({*asked} & {*destination.workspaces})))


def _wanted(destination: Destination, scope: Scope) -> Want | None:
    """Return what both the destination and the command want; None is all."""
    own = Wanted.of(destination)
    asked = Wanted(event_types=scope.event_types, workspaces=scope.workspaces or (), actions=scope.actions)
    if own.is_everything and asked.is_everything:
        return None

    def both(event: Outgoing) -> bool:
        return own(event) and asked(event)

    return both
