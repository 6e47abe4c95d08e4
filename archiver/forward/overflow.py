"""A destination that is down for long must not fill the disk: its links go, and the ledger is read instead.

    (1) list the segments that wait
    (2) read the ledger up to its head: which of them does a commit list?
    (3) the cursor stands at the first of those commits, and that is durable
    (4) exactly the links of those segments are removed

Whoever dies between (3) and (4) leaves links; each goes when the commit that lists it is taken.
A segment that no commit lists yet keeps its link: the archive has not taken it either, so the
link costs no room, and it is read live once the ledger was caught up with. The first commit may
list segments that were taken before: that batch repeats, as may one that several spools' segments
of about one time are in.

Known hole: an event that the archive had from another source (a database) before the first of
those commits is archived once, and so is not in any of them; if its own delivery is among the
links that go, this destination does not get it.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from archiver import segment
from archiver.archive import Archive
from archiver.errors import ConfigError, SourceError
from archiver.forward.cursor import CursorFile, InArchive, InSpool
from archiver.forward.deliveries import Waiting

log = logging.getLogger("archiver.forward")

_CLOCK_TROUBLE_US: Final = 3_600_000_000


def has_overflowed(folders: Sequence[Path], most_bytes: int) -> bool:
    """Whether the segments that wait in `folders` are more than `most_bytes`; looks no further than needed.

    Raises:
        SourceError: A folder cannot be read.
    """
    total = 0
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if segment.is_own_name(entry.name):
                        total += _size(entry)
                        if total > most_bytes:
                            return True
        except OSError as error:
            raise SourceError(f"{folder}: cannot be listed: {error.strerror}") from error
    return False


def drop_links(folders: Sequence[Path], archive: Archive, cursor: CursorFile, name: str) -> None:
    """Remove the links of segments that the archive has, and have its ledger read in their place.

    After an error, and where no commit lists any of them, all is as it was.

    Args:
        name: The destination's, for the log.

    Raises:
        SourceError: A folder cannot be read, or the cursor not be written.
        ArchiverError: The ledger cannot be read.
    """
    waiting = _sizes(folders)  # (1)
    spools = cursor.cursor.spools
    finished = {Waiting(Path(folder), one) for folder, at in spools.items() for one in at.finished}
    commits = _listed_by(archive, {one.name for one in waiting.keys() - finished})  # (2)
    dropped = [one for one in waiting if one not in finished and one.name in commits]
    if not dropped:
        return
    first = min(commits.values())
    before = cursor.cursor.archive
    if before is None or first < before.commit:
        cursor.cursor.archive = InArchive(first)
        cursor.cursor.archive_id = archive.id
    for one in dropped:
        position = spools.get(str(one.folder))
        if position is not None and position.segment == one.name:
            spools[str(one.folder)] = InSpool(finished=position.finished)
    cursor.write(sync=True)  # (3)
    for one in dropped:  # (4)
        with contextlib.suppress(OSError):  # it goes when its commit is taken
            (one.folder / one.name).unlink(missing_ok=True)
    log.warning(
        "destination %s: %d segments (%d bytes) that waited for it are left to the archive: their links"
        " are removed; it goes on with what the archive has, from commit %d on, whose events may repeat",
        name,
        len(dropped),
        sum(waiting[one] for one in dropped),
        first,
    )


def _sizes(folders: Sequence[Path]) -> dict[Waiting, int]:
    found = {}
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if segment.is_own_name(entry.name):
                        found[Waiting(folder, entry.name)] = _size(entry)
        except OSError as error:
            raise SourceError(f"{folder}: cannot be listed: {error.strerror}") from error
    return found


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def _listed_by(archive: Archive, names: set[str]) -> dict[str, int]:
    """Return the commit of each segment that the ledger lists, as it is now.

    A segment's name begins with when it was begun: no older commit lists it. Should the clocks be
    further apart than an hour, it is not found, and keeps its link.
    """
    found: dict[str, int] = {}
    archive.ledger.refresh()
    if not names:
        return found
    begun_us = min(int(name[:16], 16) for name in names) // 1_000
    try:
        before = archive.ledger.sequence_at(begun_us - _CLOCK_TROUBLE_US)
    except ConfigError:  # the archive is younger
        before = -1
    for commit in archive.ledger.since(before):
        for one in commit.content.inputs:
            listed = str(one.get("name", ""))
            if listed in names:
                found.setdefault(listed, commit.sequence)
        if len(found) == len(names):
            break
    return found
