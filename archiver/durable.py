"""Writing to a local file system so that it survives a crash.

A name in a folder is durable only after an fsync of the folder, a file's bytes only
after an fsync of the file; both orders matter and are kept here, in one place.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path

TEMPORARY_PREFIX = ".tmp-"


def sync_folder(folder: Path | str) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folders(folder: Path) -> None:
    """Create `folder` and its parents, each durable in its own parent."""
    missing = []
    here = folder
    while not here.exists():
        missing.append(here)
        here = here.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def _write_temporary(folder: Path, content: bytes) -> Path:
    temporary = folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def create(path: Path, content: bytes) -> None:
    """Create `path` with `content`, whole or not at all, and only if nothing is there.

    Raises:
        FileExistsError: Something is there. It was not touched.
    """
    temporary = _write_temporary(path.parent, content)
    try:
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def _is_of_the_system(path: Path) -> bool:
    try:
        # /dev/stdout leads to a handle of this process, which may well be a file.
        if path.is_symlink() and path.readlink().is_relative_to("/proc"):
            return True
        kind = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))


def replace(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Write `path`, whole or not at all, over the file that is there, if one is.

    Args:
        mode: Who may read it, whatever the process's umask says; None: user and group at most.

    Raises:
        OSError: It cannot be written, or is a device or a pipe, of which no file shall take the
            place: /dev/null would be gone for everybody. What was there is still there.
    """
    if _is_of_the_system(path):
        raise OSError(errno.EINVAL, "it is a device or a pipe, and no file", str(path))
    temporary = _write_temporary(path.parent, content)
    try:
        if mode is not None:
            temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
