"""The live reader: sealed segments that wait for one destination, in its own folder of each spool.

    <spool>/consumers/<destination>/<name>.seg     a hard link; see `archiver.live`

Whatever becomes of the archive's name for a segment, this one stays until the destination
has taken all of it. Only valid events are forwarded: the others are kept in quarantine by `run`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from archiver import segment
from archiver.block import Block
from archiver.errors import SourceError
from archiver.forward.base import Limits, Portion
from archiver.forward.cursor import CursorFile, InSpool
from archiver.forward.events import portions
from archiver.forward.judged import Judged
from archiver.forward.wanted import Wanted
from archiver.sources.files import Format, read_file
from archiver.sources.filing import open_regular
from archiver.validate import Rules

_BLOCK_BYTES: Final = 2 << 20
_MOST_STUCK: Final = 1_000


class Waiting(NamedTuple):
    """A segment that waits: the folder it is in, and its name."""

    folder: Path
    name: str


def waiting_in(folders: Sequence[Path]) -> list[Waiting]:
    """List the segments that wait, the oldest first.

    Raises:
        SourceError: A folder cannot be read.
    """
    found = []
    for folder in folders:
        try:
            found += [Waiting(folder, one.name) for one in folder.iterdir() if segment.is_own_name(one.name)]
        except OSError as error:
            raise SourceError(f"{folder}: cannot be listed: {error.strerror}") from error
    return sorted(found, key=lambda one: (one.name, one.folder))


class Deliveries:
    """See `archiver.forward.base.Reader`. A unit is a `Waiting`.

    Args:
        folders: Where segments wait, with the name of the source for what is read there.
        rules: By source, what events are judged by.
        cursor: Of the destination; what was taken is remembered there.
        limits: Of a request; portions are about of that size.
        wanted: Which events the destination wants.
    """

    def __init__(
        self,
        folders: Mapping[Path, str],
        rules: Mapping[str, Rules],
        cursor: CursorFile,
        limits: Limits,
        wanted: Wanted,
    ) -> None:
        self._folders = dict(folders)
        self._judged = {source: Judged(one) for source, one in rules.items()}
        self._cursor = cursor
        self._limits = limits
        self._wanted = None if wanted.is_everything else wanted
        self._read: deque[Waiting] = deque()
        self._stuck: set[Waiting] = set()

    def read(self) -> Iterator[Portion]:
        """Yield what waits, the oldest segment first; see `Reader.read`."""
        self._forget_finished()
        self._read.clear()
        # One that is begun goes on, though an older one came late: a folder has one place.
        for unit in sorted(waiting_in([*self._folders]), key=lambda one: not self._is_begun(one)):
            if unit not in self._stuck:
                self._read.append(unit)
                yield from self._portions(unit)

    def acknowledge(self, portion: Portion, place: int) -> None:
        """See `Reader.acknowledge`. Links of segments that are taken whole are removed."""
        unit: Waiting = portion.unit
        is_whole = portion.is_last and place >= portion.end
        while self._read and (self._read[0] != unit or is_whole):
            self._stuck.add(self._read.popleft())
            if unit in self._stuck:
                break
        spools = self._cursor.cursor.spools
        for folder in {unit.folder, *(done.folder for done in self._stuck)}:
            names = sorted(done.name for done in self._stuck if done.folder == folder)
            is_here = folder == unit.folder and not is_whole
            spools[str(folder)] = InSpool(unit.name if is_here else "", place if is_here else 0, names)
        self._cursor.write()
        self._remove_links()

    def _is_begun(self, unit: Waiting) -> bool:
        position = self._cursor.cursor.spools.get(str(unit.folder))
        return position is not None and position.segment == unit.name

    def _forget_finished(self) -> None:
        """Remove the links of what was taken before this process began, or could not be removed then."""
        for folder, position in self._cursor.cursor.spools.items():
            self._stuck.update(Waiting(Path(folder), name) for name in position.finished)
        self._remove_links()

    def _remove_links(self) -> None:
        """Remove the links of what is taken; if one stays, the cursor says that it is.

        Raises:
            SourceError: So many stay that this user may hardly remove any.
        """
        for done in list(self._stuck):
            try:
                (done.folder / done.name).unlink(missing_ok=True)
                self._stuck.discard(done)
            except OSError as error:
                trouble = error
        if len(self._stuck) >= _MOST_STUCK:
            raise SourceError(
                f"{done.folder}: {len(self._stuck)} segments are taken and cannot be removed:"
                f" {trouble.strerror}",
                hint="let this user delete in this folder",
            )

    def _portions(self, unit: Waiting) -> Iterator[Portion]:
        path = unit.folder / unit.name
        position = self._cursor.cursor.spools.get(str(unit.folder))
        taken = position.place if position is not None and position.segment == unit.name else 0
        judged = self._judged[self._folders[unit.folder]]
        try:
            handle = open_regular(path)
        except FileNotFoundError:
            return  # somebody gave it up
        except OSError as error:
            raise SourceError(f"{path}: cannot be opened: {error.strerror}") from error
        with os.fdopen(handle, "rb", buffering=0) as file:
            size = os.fstat(handle).st_size
            try:
                blocks = read_file(file, Format("segment"), size=size, block_bytes=_BLOCK_BYTES)
                yield from self._of_blocks(unit, blocks, judged, taken)
            except OSError as error:
                raise SourceError(f"{path}: cannot be read: {error.strerror}") from error

    def _of_blocks(
        self, unit: Waiting, blocks: Iterator[Block], judged: Judged, taken: int
    ) -> Iterator[Portion]:
        end = 0
        block = next(blocks, None)
        while block is not None:
            following = next(blocks, None)
            end += len(block.bodies) + len(block.rejections)
            if end > taken or following is None:
                events, invalid = judged.events(block, taken)
                yield from portions(
                    unit,
                    events,
                    end=end,
                    is_last=following is None,
                    wanted=self._wanted,
                    limits=self._limits,
                    invalid=invalid,
                )
            block = following
