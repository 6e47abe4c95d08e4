"""Taking files out of a spool so that exactly one run has them, whoever dies when.

    <spool>/claims/<claim>/lock                 flocked as long as the owner lives
    <spool>/claims/<claim>/000001-<name>        a file, moved here
    <spool>/claims/<claim>/batch.json           written last: from here on the batch is frozen

A claim whose lock is free has a dead owner, and whoever locks it owns it. Without
`batch.json` it is no more than some files, which make a new batch.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from archiver import durable, layout
from archiver.errors import SourceError
from archiver.sources.filing import Stamp, fitted, place, told

LOCK = "lock"
RECORD = "batch.json"
CLAIMS = "claims"

_NUMBERED = re.compile(r"[0-9]{6}-(.+)", re.ASCII | re.DOTALL)


class Claim:
    """A claim folder whose lock this process holds. Made by `create` and `adopt`."""

    def __init__(self, spool: Path, folder: Path, lock: int) -> None:
        self.spool = spool
        self.folder = folder
        self._lock: int | None = lock
        self._taken = 0
        # Claimed name -> original one, where it is known. It can be told from the claimed one, too,
        # but for names so long that they had to be cut.
        self.names: dict[str, str] = {}

    @classmethod
    def create(cls, spool: Path) -> Claim:
        """Make an empty claim.

        Raises:
            SourceError: The spool does not let us.
        """
        with told(spool / CLAIMS, "make a claim", hint="the archiver must be allowed to write in the spool"):
            durable.make_folders(spool / CLAIMS)
            while True:
                folder = spool / CLAIMS / layout.new_attempt()
                folder.mkdir()
                lock = _locked(folder)
                # None: another run took the empty folder for a dead one's, and removes it.
                if lock is not None:
                    durable.sync_folder(folder.parent)
                    return cls(spool, folder, lock)

    @classmethod
    def adopt(cls, spool: Path, folder: Path) -> Claim | None:
        """Own a dead run's claim; None if its owner lives, or another run was faster."""
        with told(folder, "lock the claim"):
            lock = _locked(folder)
        return None if lock is None else cls(spool, folder, lock)

    @property
    def held(self) -> bool:
        return self._lock is not None

    def take(self, name: str, stamp: Stamp) -> bool:
        """Move a file of the spool here; false if another run has it, or it changed since it was looked at.

        Raises:
            SourceError: It may not be moved.
        """
        target = self.folder / fitted(f"{self._taken + 1:06d}-", name)
        try:
            (self.spool / name).rename(target)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise SourceError(f"{self.spool / name}: cannot claim it: {error.strerror}") from error
        self._taken += 1
        self.names[target.name] = name
        with told(target, "look at it"):
            status = os.lstat(target)
            if Stamp.of(status) == stamp and stat.S_ISREG(status.st_mode):
                return True
            self.give_back(name, target)
        return False

    def files(self) -> Iterator[tuple[str, Path]]:
        """Yield the original name and the path of every file here, in the order they were taken."""
        for name in sorted(path.name for path in self.folder.iterdir()):
            if name not in (LOCK, RECORD) and not name.startswith(durable.TEMPORARY_PREFIX):
                numbered = _NUMBERED.fullmatch(name)
                uncut = self.names.get(name) or (numbered[1] if numbered else name)
                yield uncut, self.folder / name

    def give_back(self, name: str, path: Path) -> None:
        """Move a file from here to the spool, under its own name or a free one.

        Raises:
            OSError: It could not be done.
        """
        place(path, self.spool, name)
        durable.sync_folder(self.spool)
        path.unlink(missing_ok=True)

    def dissolve(self) -> None:
        """Remove the claim; files that are still in it go back to the spool.

        Raises:
            SourceError: It could not be finished; the claim is released for another run.
        """
        if self._lock is None:
            return
        try:
            with told(self.folder, "dissolve the claim"):
                (self.folder / RECORD).unlink(missing_ok=True)
                durable.sync_folder(self.folder)
                for name, path in self.files():
                    self.give_back(name, path)
                for left in self.folder.glob(f"{durable.TEMPORARY_PREFIX}*"):
                    left.unlink(missing_ok=True)
                (self.folder / LOCK).unlink(missing_ok=True)
                # Another run may have made a new lock by now. Then it owns an empty claim, and removes it.
                with contextlib.suppress(OSError):
                    self.folder.rmdir()
        finally:
            self.release()

    def release(self) -> None:
        """Let another run have the claim as it is."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _locked(folder: Path) -> int | None:
    """Lock a claim folder; None if somebody has it, or it has just gone."""
    path = folder / LOCK
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o640)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its owner may have removed it between our open and our lock.
        if os.lstat(path).st_ino == os.fstat(lock).st_ino:
            return lock
    except (BlockingIOError, FileNotFoundError):
        os.close(lock)
        return None
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None
