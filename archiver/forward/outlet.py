"""One destination's surroundings: its folders, its lock, and what sends to it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from archiver import durable
from archiver.config import Settings
from archiver.errors import ArchiverError, ConfigError, SourceError
from archiver.forward.base import Intake, Limits
from archiver.forward.deadletters import DeadLetters
from archiver.forward.folders import LOCK, make_folders
from archiver.forward.intakes import client_of, intake_of
from archiver.forward.payload import Payloads
from archiver.forward.sending import Policy, Sender, Tally, fitted
from archiver.forward.settings import Destination
from archiver.http import Client

DEAD_LETTERS: Final = "deadletters"
_PROBE_SECONDS: Final = 0.02


class BusyError(ArchiverError):
    """Another process forwards to this destination."""

    kind = "busy"


def state_folder(settings: Settings, name: str) -> Path:
    """Return where a destination's cursor, account and dead letters are."""
    return settings.forward_folder / name


def destination_of(settings: Settings, name: str) -> Destination:
    """Return the settings of one destination.

    Raises:
        ConfigError: None has this name.
    """
    if name not in settings.destinations:
        known = ", ".join(settings.destinations) or "none"
        raise ConfigError(f"there is no [destinations.{name}]", hint=f"configured: {known}")
    return settings.destinations[name]


def prepare(settings: Settings, destination: Destination) -> list[Path]:
    """Create a destination's folders; from then on receivers leave segments for it.

    Returns:
        Where its segments wait, for each spool; none if it reads the archive.

    Raises:
        SourceError: One cannot be created.
        ConfigError: There is no place for its cursor, or no spool that it could read.
    """
    waiting: list[Path] = []
    if destination.origin == "deliveries":
        if not settings.spool_folders:
            raise ConfigError(
                f"destination {destination.name}: no spool is configured that it could read",
                hint='name one under [spool] folders, or let it read the archive: from = "archive"',
            )
        for spool in map(Path, settings.spool_folders):
            if not spool.is_dir():  # a disk that is not mounted must not come into being as a folder
                raise SourceError(f"{spool}: no such spool folder", hint="create it, or mount its disk")
        waiting = make_folders(settings.spool_folders, destination.name)
    state = state_folder(settings, destination.name)
    if settings.forward_state is None and not state.parents[1].is_dir():
        raise SourceError(f"{state.parents[1]}: no such spool folder", hint="create it, or mount its disk")
    try:
        durable.make_folders(state)
    except OSError as error:
        raise SourceError(f"{state}: cannot be created: {error.strerror}") from error
    return waiting


@contextlib.contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Hold a destination's lock.

    Raises:
        BusyError: Somebody else has it.
        SourceError: The folder cannot be written.
    """
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise SourceError(f"{folder / LOCK}: cannot be opened: {error.strerror}") from error
    try:
        if not _locks(handle):
            time.sleep(_PROBE_SECONDS)  # whoever only looks holds it for less
            if not _locks(handle):
                raise BusyError(f"destination {name}: another process forwards to it")
        yield
    finally:
        os.close(handle)


def _locks(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Outlet(NamedTuple):
    """What sends to one destination; made anew when its token or certificate may have been mended."""

    sender: Sender
    intake: Intake
    client: Client
    limits: Limits


def outlet_of(
    destination: Destination,
    folder: Path,
    *,
    policy: Policy,
    stop: threading.Event,
    tally: Tally,
    changed: Callable[[], None] = lambda: None,
    environment: Mapping[str, str] | None = None,
    most_per_second: int | None = None,
) -> Outlet:
    """Make what sends to a destination. The caller closes its client.

    Args:
        folder: The destination's, for dead letters.
        tally: What it counts in.
        most_per_second: Instead of what is configured.

    Raises:
        ConfigError: Its settings or secrets cannot be used.
    """
    intake = intake_of(destination, environment)
    limits = fitted(intake.limits, most_events=destination.batch_events, most_bytes=destination.batch_bytes)
    payloads = Payloads(destination, environment)
    client = client_of(destination, environment)
    sender = Sender(
        destination.name,
        intake,
        client,
        payloads,
        DeadLetters(folder / DEAD_LETTERS),
        limits=limits,
        policy=policy,
        most_per_second=most_per_second or destination.max_per_second,
        stop=stop,
        tally=tally,
        changed=changed,
    )
    return Outlet(sender, intake, client, limits)
