"""An archive in a folder of a local file system.

An object is a file. It is created as a temporary file beside its place, made durable,
and linked there, so that it appears whole and only where nothing is. A key that runs
through an object (`a` and `a/b`) is refused here, which an object store would take.
Below the root, symbolic links are neither followed by a listing nor read as objects.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pyarrow import fs

from archiver import durable, layout
from archiver.errors import (
    ObjectNotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    StoreError,
    WriteOutcomeUnknownError,
)
from archiver.spans import Span
from archiver.store.base import Deleted, ObjectInfo, PutMode
from archiver.store.keys import check_key

_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_TRIES_AGAINST_COLLECT = 20

_HINTS = {
    errno.ENOSPC: "the disk is full: make room and run again, nothing is lost",
    errno.EDQUOT: "the disk quota is used up: make room and run again, nothing is lost",
    errno.EROFS: "the file system is mounted read-only",
    errno.EACCES: "give the user that runs this the right to read and write there",
    errno.EPERM: "give the user that runs this the right to write there; the file may be immutable",
    errno.ELOOP: "an archive holds no symbolic links: replace it by what it points to",
    errno.ENAMETOOLONG: "this file system does not take names as long",
    errno.EIO: "the disk reports an error: look at the system's log",
}


class LocalStore:
    """The store in the folder `root`, which the first put creates. See `archiver.store.base.Store`."""

    def __init__(self, root: Path) -> None:
        self._given = root
        self._root = Path(os.path.abspath(root))  # noqa: PTH100  (resolve() would follow a link at the root)
        # Folders known to exist and to be durable in their parents. Only ever a shortcut:
        # `collect` may remove one at any time, and then the put that misses it starts again.
        self._folders: set[Path] = set()

    @property
    def location(self) -> str:
        return str(self._given)

    def put(self, key: str, content: bytes, *, mode: PutMode = "create") -> None:
        path = self._path(key)
        if mode == "overwrite":
            self._write(path, "write", lambda: durable.replace(path, content))
            return
        for _ in range(_TRIES_AGAINST_COLLECT):
            try:
                self._write(path, "create", lambda: durable.create(path, content))
                return
            except FileExistsError:
                pass
            try:
                found = self.get(key)
            except ObjectNotFoundError:
                continue  # deleted in between
            if found != content:
                raise PreconditionFailedError(
                    f"{path}: expected nothing or our {len(content)} bytes, found {len(found)} others"
                )
            with self._errors(path, "sync"):
                durable.sync_folder(path.parent)  # whoever linked it may not have come so far
            return
        raise StoreError(f"{path}: it appears and vanishes again", hint="what else writes in this folder?")

    def put_once(self, key: str, content: bytes) -> None:
        path = self._path(key)
        try:
            self._write(path, "create", lambda: durable.create(path, content))
        except FileExistsError:
            raise PreconditionFailedError(f"{path}: expected nothing, found an object") from None
        except StoreError as error:
            # The link is the one step that counts, and it is made or not. When the fsync
            # after it failed, the object is there but may not survive a crash.
            if os.path.lexists(path):
                raise WriteOutcomeUnknownError(error.message, hint=error.hint) from error
            raise

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        path = self._path(key)
        with self._errors(path, "read"), open(path, "rb", opener=_open_unlinked) as file:
            if start:
                file.seek(start)
            return file.read(-1 if length is None else length)

    def info(self, key: str) -> ObjectInfo:
        path = self._path(key)
        with self._errors(path, "look at"):
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError
        return _info(key, found)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        folder = prefix.rpartition("/")[0]
        if folder:
            check_key(folder)
        wanted, after = os.fsencode(prefix), os.fsencode(start_after)
        yield from self._walk(os.fsencode(folder + "/" if folder else ""), wanted, after)

    def _walk(self, folder: bytes, prefix: bytes, after: bytes) -> Iterator[ObjectInfo]:
        """Yield the objects in `folder` (a key's beginning, ends in `/`) and below it."""
        names = []
        path = os.fsencode(self._root) + b"/" + folder
        # The folder may be gone by now, or never have been.
        with self._errors(path, "list"), contextlib.suppress(*_ABSENT), os.scandir(path) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                # With its `/` a folder sorts among files as the keys in it do.
                key = folder + entry.name + (b"/" if is_folder else b"")
                if is_folder:
                    within = key.startswith(prefix) or prefix.startswith(key)
                    if within and (key > after or after.startswith(key)):
                        names.append(key)
                elif key.startswith(prefix) and key > after and not _is_temporary(entry.name):
                    names.append(key)
        names.sort()
        for key in names:
            if key.endswith(b"/"):
                yield from self._walk(key, prefix, after)
                continue
            try:
                found = os.lstat(os.fsencode(self._root) + b"/" + key)
            except _ABSENT:
                continue
            yield _info(os.fsdecode(key), found)

    def delete(self, keys: Iterable[str]) -> Deleted:
        count = 0
        for key in keys:
            path = self._path(key)
            with self._errors(path, "delete"), contextlib.suppress(*_ABSENT):
                path.unlink()
            self._remove_empty_folders(path.parent)
            count += 1
        return Deleted(count)

    @property
    def lock_keep(self) -> Span | None:
        return None

    def lock(self, keys: Iterable[str], until: datetime) -> int:  # noqa: ARG002  (the contract's)
        """Nothing to do: a file system has no such locks."""
        return 0

    def locked_until(self, key: str) -> datetime | None:
        self.info(key)
        return None

    def settle(self) -> None:
        path = self._root / layout.LEDGER
        with self._errors(path, "sync"), contextlib.suppress(FileNotFoundError):
            durable.sync_folder(path)
            durable.sync_folder(self._root)

    def arrow(self) -> tuple[fs.FileSystem, str]:
        return fs.LocalFileSystem(), f"{self._root}/"

    def local_path(self, key: str) -> str | None:
        return str(self._path(key))

    def delete_temporaries(self, *, older_than_seconds: float) -> int:
        """Delete the temporary files of writers that died; return how many.

        No key names them. One in use is younger than its writer's fsync takes; an hour
        is a safe age.
        """
        limit, count = time.time() - older_than_seconds, 0
        for folder, _, names in os.walk(os.fsencode(self._root)):
            for name in filter(_is_temporary, names):
                path = os.path.join(folder, name)  # noqa: PTH118  (names may be no text)
                with self._errors(path, "delete"), contextlib.suppress(*_ABSENT):
                    if os.lstat(path).st_mtime < limit:
                        os.unlink(path)  # noqa: PTH108
                        count += 1
        return count

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _write(self, path: Path, verb: str, write: Callable[[], None]) -> None:
        """Run `write`, with the folder of `path` there. FileExistsError passes through.

        New folders are made durable behind it: a `collect` that removes empty folders
        finds one empty for some microseconds only, and not for as long as an fsync takes.
        """
        for attempt in range(_TRIES_AGAINST_COLLECT):
            with self._errors(path, verb):
                try:
                    folders = self._make_folder(path.parent)
                    try:
                        write()
                    finally:
                        for folder in folders:
                            durable.sync_folder(folder.parent)
                    self._folders.update(folders)
                    return
                except FileExistsError:
                    raise
                except FileNotFoundError:
                    self._forget(path.parent)
            time.sleep(0.001 * attempt)
        raise StoreError(
            f"could not {verb} {path}: its folder vanishes",
            hint=f"is {self.location} still mounted, and what else writes there?",
        )

    def _make_folder(self, folder: Path) -> Sequence[Path]:
        """Make `folder` and those above it; return those that are not known to be durable.

        Also one that another process made: that one may not have come to its fsync yet.
        """
        if folder in self._folders:
            return []
        if folder == self._root:
            durable.make_folders(folder)
            self._folders.add(folder)
            return []
        folders = self._make_folder(folder.parent)
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
        return [*folders, folder]

    def _forget(self, folder: Path) -> None:
        # Not the root: one that vanishes under us is an unmounted disk, and not made anew.
        while folder != self._root:
            self._folders.discard(folder)
            folder = folder.parent

    def _remove_empty_folders(self, folder: Path) -> None:
        while folder != self._root:
            try:
                folder.rmdir()
            except OSError:
                return  # not empty, already gone, or not ours to remove
            self._folders.discard(folder)
            folder = folder.parent

    @contextlib.contextmanager
    def _errors(self, path: Path | bytes, verb: str) -> Iterator[None]:
        """Turn errors of the system into ours; FileExistsError is the callers' business."""
        try:
            yield
        except FileExistsError:
            raise
        except OSError as error:
            name = os.fsdecode(path)
            if isinstance(error, _ABSENT) and verb in ("read", "look at"):
                raise ObjectNotFoundError(f"{name}: no such object") from None
            message = f"could not {verb} {name}: {error.strerror or error}"
            hint = _HINTS.get(error.errno or 0, "")
            kind = PermissionDeniedError if isinstance(error, PermissionError) else StoreError
            raise kind(message, hint=hint) from error


def _open_unlinked(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


def _is_temporary(name: bytes) -> bool:
    return name.startswith(durable.TEMPORARY_PREFIX.encode())


def _info(key: str, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))
