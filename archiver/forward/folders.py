"""Where a destination's files are, and the folders that receivers find and leave segments in.

    <spool>/consumers/<destination>/      waiting segments, one hard link each; see `archiver.live`
    <state>/<destination>/                cursor, account, dead letters, lock

Light, because a receiver asks for it when it starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from archiver import durable, live
from archiver.config import Settings
from archiver.errors import SourceError

LOCK: Final = "lock"


def folder_of(spool: Path | str, destination: str) -> Path:
    """Return where segments wait for a destination: absolute, for the cursor remembers by it."""
    return Path(spool).absolute() / live.CONSUMERS / destination


def make_folders(spools: Sequence[Path | str], destination: str) -> list[Path]:
    """Create the folders in which receivers leave segments for a destination; return them.

    Raises:
        SourceError: One cannot be created.
    """
    made = []
    for spool in spools:
        folder = folder_of(spool, destination)
        try:
            durable.make_folders(folder)
        except OSError as error:
            raise SourceError(f"{folder}: cannot be created: {error.strerror}") from error
        made.append(folder)
    return made


def make_for_receivers(settings: Settings) -> list[str]:
    """Create the folders of all destinations that take deliveries, so that none is missed before they begin.

    Returns:
        What could not be created, in words. Whoever receives or archives goes on without it.
    """
    problems = []
    for destination in settings.destinations.values():
        if destination.origin != "deliveries":
            continue
        for spool in settings.spool_folders:
            if not Path(spool).is_dir():
                continue  # a disk that is not mounted must not come into being as a folder
            try:
                make_folders([spool], destination.name)
            except SourceError as error:
                problems.append(f"destination {destination.name}: {error.message}")
    return problems
