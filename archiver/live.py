"""A segment while it grows: appended to, made durable for many deliveries at once, sealed.

    <spool>/.<name>.seg.live      grows; its writer holds a lock on it
    <spool>/<name>.seg            sealed: what `run` takes
    <spool>/consumers/*/<name>.seg   the same file, one hard link for each other consumer

A delivery that was made durable here is archived whatever becomes of the writer: a live
segment whose lock is free has lost its writer, and whoever finds it seals it. What the
writer had not finished is a torn tail, which readers report and set apart.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from archiver import durable, segment
from archiver.errors import SourceError
from archiver.sources.filing import open_regular, shown

SUFFIX: Final = ".live"
CONSUMERS: Final = "consumers"
FORWARD: Final = "forward"  # what `forward` remembers, unless its folder is configured

_LARGEST_COPY_BYTES: Final = 4 << 20
_LIVE_NAME: Final = re.compile(r"\.([0-9a-f]{16}-[0-9a-f]{16}\.seg)\.live", re.ASCII)


def is_live_name(name: str) -> bool:
    """Whether a name is that of a segment which still grows, or which a dead writer left."""
    return _LIVE_NAME.fullmatch(name) is not None


class Recovered(NamedTuple):
    """A segment that a dead writer left, and that is sealed now; `missed` as in `LiveSegment`."""

    path: Path
    deliveries: int
    torn_bytes: int
    missed: tuple[str, ...] = ()


class LiveSegment:
    """One growing segment, for one thread.

    After an error of `append` or `sync` nothing more can be added: `seal` it. What was
    synced before is durable all the same.

    Args:
        folder: The spool, which exists.

    Attributes:
        missed: Which folders of consumers did not get it when it was sealed, and why.

    Raises:
        SourceError: It cannot be started: no room, no right.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened_at = time.monotonic()
        self.bytes = self.durable_bytes = 0
        self.deliveries = 0
        self.is_broken = False
        self.missed: tuple[str, ...] = ()
        self._lock, self._file, self._live = _created(folder)
        try:
            self._write([segment.MAGIC])
            # The name must be as durable as what will be acknowledged under it.
            durable.sync_folder(folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._live.unlink()
            self._close()
            raise SourceError(f"{folder}: cannot start a segment: {error.strerror}") from error

    def append(self, pieces: Sequence[bytes | bytearray], count: int) -> None:
        """Add `count` deliveries, each as `segment.frame_head` and body. Only `sync` makes them durable.

        Raises:
            SourceError: The disk refused. Nothing of them stays, or what stays is torn and is set
                apart by readers; what was synced is not touched.
        """
        if self.is_broken:
            raise SourceError(f"{self._live}: is broken")
        try:
            self._write(pieces)
        except OSError as error:
            self.is_broken = True
            # Not durable yet, so nobody was told that it is here; a full disk gets its room back.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self.durable_bytes or len(segment.MAGIC))
            raise SourceError(f"{self._live}: cannot write: {error.strerror}") from error
        self.deliveries += count

    def sync(self) -> None:
        """Make all that was appended durable.

        Raises:
            SourceError: The disk failed. It is never tried again on this file: a second fsync may
                succeed without having written what the first one lost. Or somebody deleted the file.
        """
        if self.is_broken:
            raise SourceError(f"{self._live}: is broken")
        try:
            os.fsync(self._file)
            has_name = os.fstat(self._file).st_nlink > 0
        except OSError as error:
            self.is_broken = True
            raise SourceError(f"{self._live}: cannot fsync: {error.strerror}") from error
        if not has_name:  # what is synced into it goes with it
            self.is_broken = True
            raise SourceError(f"{self._live}: somebody deleted it")
        self.durable_bytes = self.bytes

    def seal(self) -> Path | None:
        """Give the segment to its readers and return its path; None if there was nothing to give.

        What is not synced is synced first, unless something failed before. A consumer whose folder
        takes no link goes without: see `missed`.

        Raises:
            SourceError: It cannot be done. It stays as it is, and `recover` will do it.
        """
        try:
            if self._file < 0:
                return None
            if os.fstat(self._file).st_size <= len(segment.MAGIC):
                self._live.unlink()
                return None
            if not self.is_broken and self.durable_bytes < self.bytes:
                self.sync()
            # While its writer has it open, a reader would leave it to the next run; the lock stays on.
            file, self._file = self._file, -1
            os.close(file)
            sealed, self.missed = _publish(self.folder, self._live)
            return sealed
        except OSError as error:
            raise SourceError(f"{self._live}: cannot seal: {error.strerror}") from error
        finally:
            self._close()

    def _write(self, pieces: Sequence[bytes | bytearray]) -> None:
        # One call for many small ones, no copy of large ones.
        if sum(map(len, pieces)) <= _LARGEST_COPY_BYTES:
            pieces = [b"".join(pieces)]
        for piece in pieces:
            content = memoryview(piece)
            while content:
                written = os.write(self._file, content)
                content = content[written:]
                self.bytes += written

    def _close(self) -> None:
        for handle in (self._file, self._lock):
            if handle >= 0:
                with contextlib.suppress(OSError):
                    os.close(handle)
        self._file = self._lock = -1


def recover(folder: Path, *, seconds: float | None = None) -> list[Recovered]:
    """Seal the live segments of a spool whose writers are dead. Safe at any moment, and several at once.

    Args:
        seconds: After so long no other one is begun; None: all are done.

    Raises:
        SourceError: One cannot be sealed, or the folder not be read; the others are sealed.
    """
    done: list[Recovered] = []
    troubles: list[str] = []
    began = time.monotonic()
    for live in _live_in(folder):
        if seconds is not None and (done or troubles) and time.monotonic() - began >= seconds:
            break
        try:
            found = _recovered(folder, live)
        except OSError as error:
            troubles.append(f"{live}: cannot be sealed for its dead writer: {error.strerror}")
        else:
            if found is not None:
                done.append(found)
    if troubles:
        raise SourceError("; ".join(troubles), hint="let this user read, rename and delete in the spool")
    return done


def _live_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if _LIVE_NAME.fullmatch(entry.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SourceError(f"{folder}: cannot be listed: {error.strerror}") from error


def _created(folder: Path) -> tuple[int, int, Path]:
    """Create a live segment; return the handles of its lock and of the file, and its path."""
    for _ in range(100):
        # A clock before 1970 has no such number; only the random part must be unique.
        name = f"{max(time.time_ns(), 0):016x}-{secrets.token_hex(8)}{segment.SUFFIX}"
        live = folder / f".{name}{SUFFIX}"
        handles: list[int] = []
        try:
            handles.append(os.open(live, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640))
            handles.append(os.open(live, os.O_RDONLY | os.O_NOFOLLOW))
            if _is_ours(handles[1], live):
                return handles[1], handles[0], live
        except FileNotFoundError:
            # Between its creation and its lock somebody took it for one of a dead writer: another one.
            if not folder.is_dir():
                raise SourceError(f"{folder}: the spool is gone", hint="is its disk mounted?") from None
        except OSError as error:
            _close_all(handles)
            raise SourceError(f"{folder}: cannot start a segment: {error.strerror}") from error
        _close_all(handles)
    raise SourceError(f"{folder}: cannot start a segment: others take each one away")


def _close_all(handles: list[int]) -> None:
    for handle in handles:
        os.close(handle)


def _is_ours(handle: int, path: Path) -> bool:
    """Lock an open file; whether that worked and the path still leads to it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    try:
        return os.lstat(path).st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False


def _recovered(folder: Path, live: Path) -> Recovered | None:
    try:
        handle = open_regular(live)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        if not _is_ours(handle, live):
            return None
        if os.fstat(handle).st_size <= len(segment.MAGIC):
            live.unlink()
            return None
        deliveries = torn = 0
        for found in segment.read_runs(file):
            if isinstance(found, segment.BadStretch):
                torn += len(found.content)
            else:
                deliveries += len(found.bodies)
        # What a killed writer left may lie in the page cache only. A disk that fails here must not
        # keep what can be read from the archive; and nobody is told that it is durable.
        with contextlib.suppress(OSError):
            os.fsync(handle)
        sealed, missed = _publish(folder, live)
        return Recovered(sealed, deliveries, torn, missed)


def _publish(folder: Path, live: Path) -> tuple[Path, tuple[str, ...]]:
    """Link a live segment for each consumer, then rename it; both durable. May be repeated after a crash.

    The consumers come first: after the rename the archive may delete its name at any
    moment, and nothing would be left to link. But the archive waits for none of them: one
    whose folder takes no link goes without, and is told in the second part of the result.
    """
    found = _LIVE_NAME.fullmatch(live.name)
    if found is None:
        raise SourceError(f"{live}: is no live segment")
    name = found[1]
    missed = _link_for_consumers(folder, live, name)
    sealed = folder / name
    live.rename(sealed)
    durable.sync_folder(folder)
    return sealed, missed


def _link_for_consumers(folder: Path, live: Path, name: str) -> tuple[str, ...]:
    """Give each consumer its link, durably; return which folders took none, and why."""
    try:
        consumers = _consumers(folder)
    except OSError as error:
        return (f"{folder / CONSUMERS}: {error.strerror}",)
    missed = []
    for consumer in consumers:
        try:
            with contextlib.suppress(FileExistsError):
                os.link(live, consumer / name, follow_symlinks=False)
            durable.sync_folder(consumer)
        except FileNotFoundError:  # somebody took the folder away at this moment: he wants no more
            continue
        except OSError as error:
            missed.append(f"{shown(consumer)}: {error.strerror}")
    return tuple(missed)


def _consumers(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder / CONSUMERS) as entries:
            found = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return sorted(path for path in found if not path.name.startswith("."))
