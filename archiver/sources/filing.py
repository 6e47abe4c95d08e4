"""Certainties about files that others write, too: who writes them, are they the same, where may they go."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from archiver.errors import SourceError
from archiver.sources.names import printable

Writers = Literal["none", "some", "unknown"]

_LONGEST_NAME_BYTES = 255


class Stamp(NamedTuple):
    """What tells a file from another and from itself after a change."""

    inode: int
    bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


@contextmanager
def told(path: Path, what: str, *, hint: str = "") -> Iterator[None]:
    """Turn an OSError into a SourceError that says which file and what was tried."""
    try:
        yield
    except OSError as error:
        raise SourceError(f"{shown(path)}: cannot {what}: {error.strerror or error}", hint=hint) from error


def shown(path: Path) -> str:
    """A path for a message, printable whatever its name is."""
    return f"{path.parent}/{printable(path.name)}"


def open_regular(path: Path) -> int:
    """Open a regular file for reading, without waiting and without following a link.

    Raises:
        OSError: There is none, it is none, or it may not be read.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file")
    return handle


def writers_of(handle: int) -> Writers:
    """Whether anybody has an open file open for writing; `unknown` where the system does not tell.

    It tells the owner of the file and root, on local file systems: a read lease is granted
    only when nobody writes.
    """
    try:
        # A writer who comes while the lease is held makes the kernel send a signal, SIGIO unless told
        # otherwise, and that one ends a process. This one is ignored unless somebody wants it.
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return "some" if error.errno == errno.EAGAIN else "unknown"
    fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return "none"


def is_written(path: Path) -> bool:
    """Whether somebody is known to have `path` open for writing."""
    try:
        handle = open_regular(path)
    except OSError:
        return False
    try:
        return writers_of(handle) == "some"
    finally:
        os.close(handle)


def fitted(prefix: str, name: str) -> str:
    """Put `prefix` before `name`, and drop the name's beginning where that would be too long for a name."""
    room = _LONGEST_NAME_BYTES - len(os.fsencode(prefix))
    return prefix + os.fsdecode(os.fsencode(name)[-room:])


def place(path: Path, folder: Path, name: str) -> Path:
    """Give a file a second name in `folder`: `name`, or a free one like it. Nothing is overwritten.

    May be repeated after a crash: a name that it has there already is found again. The
    caller makes it durable and unlinks the first name. Where the system allows no
    second name to another owner's file it is moved at once.

    Raises:
        OSError: It could not be done.
    """
    target = folder / name
    for _ in range(100):
        try:
            os.link(path, target, follow_symlinks=False)
        except FileExistsError:
            if os.lstat(target).st_ino == os.lstat(path).st_ino:
                return target
        except PermissionError:
            target = folder / fitted(f"{secrets.token_hex(8)}-", name)
            path.rename(target)
            return target
        else:
            return target
        target = folder / fitted(f"{secrets.token_hex(8)}-", name)
    raise OSError(errno.EEXIST, "no free name")
