"""A spool: one folder on a local file system into which programs put files for the archive.

<spool>/*.seg, *.jsonl, …     what was delivered; names that begin with a dot are not looked at
<spool>/claims/               what runs are working on, see `archiver.sources.claim`
<spool>/done/<day>/           what is archived, if it is kept
<spool>/done/for-a-day/<day>/ archived files of which nobody could say whether they were still written
<spool>/.archive.json         which archive this spool feeds
<spool>/.*.live               what a receiver is writing, see `archiver.live`
<spool>/consumers/            what other consumers than the archive have not read yet
<spool>/forward/              how far destinations were served, see `archiver.forward.folders`
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from archiver import clock, durable, live, segment
from archiver.errors import SourceError
from archiver.sources.base import Backlog
from archiver.sources.claim import CLAIMS, LOCK, RECORD, Claim
from archiver.sources.files import BLOCK_BYTES, Format, format_of
from archiver.sources.filing import Stamp, open_regular, place, shown, told, writers_of
from archiver.sources.frozen import DONE, FOR_A_DAY, Done, SpoolBatch

REMEMBERED = ".archive.json"
UNGUARDED_SECONDS = 300.0
MOST_FILES = 1000  # a commit lists them all

# A compressed file counts for about what it will be, so that batches stay alike in memory and time.
_OWN_FOLDERS = (CLAIMS, DONE, live.CONSUMERS, live.FORWARD)
_COMPRESSED_WEIGHT = 8


_log = logging.getLogger("archiver.run")


class _Candidate(NamedTuple):
    """A file of the spool, as it was when the folder was read. They sort by age, then by name."""

    mtime_ns: int
    name: str
    stamp: Stamp
    how: Format

    @property
    def weight(self) -> int:
        return self.stamp.bytes * (1 if self.how.compression == "none" else _COMPRESSED_WEIGHT)


class SpoolSource:
    """See `archiver.sources.base.Source`.

    Args:
        folder: The spool.
        name: As commits shall show it.
        settle_seconds: How long a file of another program must have been left alone. 0 takes it at once.
        done: What becomes of archived files.
        max_batch_bytes: Of a batch's files together, on disk; a larger file is a batch by itself.
        block_bytes: About how much `read` gives out at once.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        name: str = "spool",
        settle_seconds: float = 60.0,
        done: Done = "delete",
        max_batch_bytes: int = 256 * 1024 * 1024,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self.folder = Path(folder)
        self._name = name
        self._settle_seconds = settle_seconds
        self._done: Done = done
        self._max_batch_bytes = max_batch_bytes
        self._block_bytes = block_bytes

    @property
    def name(self) -> str:
        return self._name

    def batches(self, base: Callable[[], int]) -> Iterator[SpoolBatch]:
        """Yield the batches that dead runs left, then what was ready when this was called, oldest first.

        What a dead receiver had acknowledged is sealed first, and so is ready.

        What is not ready by then (or put back in the meantime) is left to the next run,
        so that a run ends however fast deliveries come.

        Raises:
            SourceError: Behind the last batch, if something could not be taken; names all of it.
        """
        troubles: list[SourceError] = []
        try:
            for found in live.recover(self.folder):
                for missed in found.missed:
                    _log.warning("%s: this consumer misses %s", missed, found.path.name)
        except SourceError as error:
            troubles.append(error)
        ready = self._ready()
        self._sweep(troubles)
        for folder in self._claims():
            batch = self._guarded(partial(self._adopted, folder, base, troubles), troubles)
            if batch:
                yield batch
        while ready:
            batch = self._guarded(partial(self._claimed, ready, base, troubles), troubles)
            if batch:
                yield batch
        if troubles:
            message = "; ".join(each.message for each in troubles[:10])
            more = f"; and {len(troubles) - 10} more" if len(troubles) > 10 else ""
            raise SourceError(message + more, hint=next((each.hint for each in troubles if each.hint), ""))

    def backlog(self) -> Backlog:
        """Count what lies here.

        Raises:
            SourceError: The folder cannot be read.
        """
        claims = self._claims()
        stamps = []
        unknown = unreadable = 0
        for status, name in self._names():
            if stat.S_ISREG(status.st_mode) and format_of(name):
                stamps.append(Stamp.of(status))
                unreadable += not os.access(self.folder / name, os.R_OK)
            elif not (stat.S_ISDIR(status.st_mode) and name in _OWN_FOLDERS):
                unknown += 1
        for folder in claims:
            stamps += _stamps_in(folder)
        return Backlog(
            files=len(stamps),
            bytes=sum(each.bytes for each in stamps),
            oldest_at=min((clock.nearest(each.mtime_ns // 1000) for each in stamps), default=None),
            claims=len(claims),
            unknown_names=unknown,
            unreadable=unreadable,
        )

    def remembered_archive(self) -> dict[str, Any] | None:
        """Return what `remember_archive` was told; None if this spool never had an archive.

        Raises:
            SourceError: It cannot be read.
        """
        path = self.folder / REMEMBERED
        hint = f"if {self.folder} never fed an archive, remove {REMEMBERED}"
        with told(path, "read it", hint=hint):
            try:
                found = json.loads(path.read_bytes())
            except FileNotFoundError:
                return None
            except ValueError as error:
                raise SourceError(f"{path}: not JSON: {error}", hint=hint) from error
        if not isinstance(found, dict) or not isinstance(found.get("archive_id"), str):
            raise SourceError(f"{path}: expected an object with an archive_id", hint=hint)
        return found

    def remember_archive(self, archive_id: str, location: str, *, head: int, head_digest: str) -> None:
        """Remember for good which archive this spool feeds, and a head that its ledger has had.

        A ledger that is shorter, or another one, is found out by the next run.

        Raises:
            SourceError: It cannot be written.
        """
        path = self.folder / REMEMBERED
        said = {"archive_id": archive_id, "location": location, "head": head, "head_digest": head_digest}
        content = json.dumps(said, indent=1).encode()
        with told(path, "write it"):
            try:
                durable.create(path, content)
            except FileExistsError:
                durable.replace(path, content)

    def _guarded(
        self, make: Callable[[], SpoolBatch | None], troubles: list[SourceError]
    ) -> SpoolBatch | None:
        """One file or claim that cannot be had must not keep the others from the archive."""
        try:
            return make()
        except SourceError as error:
            troubles.append(error)
            return None

    def _names(self) -> Iterator[tuple[os.stat_result, str]]:
        with told(self.folder, "read the spool", hint="is the path right, and the disk mounted?"):
            with os.scandir(self.folder) as entries:
                found = [(entry.name, entry) for entry in entries if not entry.name.startswith(".")]
            for name, entry in found:
                try:
                    yield entry.stat(follow_symlinks=False), name
                except FileNotFoundError:  # another run was faster
                    continue

    def _ready(self) -> list[_Candidate]:
        """Files that may be taken as far as their names and times tell; the oldest is the last."""
        now = time.time()
        found = []
        for status, name in self._names():
            how = format_of(name) if stat.S_ISREG(status.st_mode) else None
            if how and (segment.is_own_name(name) or _is_quiet(status, now, self._settle_seconds)):
                found.append(_Candidate(status.st_mtime_ns, name, Stamp.of(status), how))
        return sorted(found, reverse=True)

    def _claims(self) -> list[Path]:
        with told(self.folder / CLAIMS, "read the claims"):
            try:
                return sorted((self.folder / CLAIMS).iterdir())
            except FileNotFoundError:
                return []

    def _adopted(
        self, folder: Path, base: Callable[[], int], troubles: list[SourceError]
    ) -> SpoolBatch | None:
        claim = Claim.adopt(self.folder, folder)
        if claim is None:
            return None
        try:
            found = SpoolBatch.load(claim, done=self._done, block_bytes=self._block_bytes)
            return found or self._frozen(claim, base, troubles)
        except BaseException:
            claim.release()
            raise

    def _frozen(
        self, claim: Claim, base: Callable[[], int], troubles: list[SourceError]
    ) -> SpoolBatch | None:
        return SpoolBatch.freeze(claim, base, troubles, done=self._done, block_bytes=self._block_bytes)

    def _claimed(
        self, ready: list[_Candidate], base: Callable[[], int], troubles: list[SourceError]
    ) -> SpoolBatch | None:
        """Take files off the end of `ready` into a new claim, and freeze it."""
        claim = Claim.create(self.folder)
        try:
            size = count = 0
            while (
                ready
                and count < MOST_FILES
                and (not count or size + ready[-1].weight <= self._max_batch_bytes)
            ):
                candidate = ready.pop()
                try:
                    taken = self._is_free(candidate) and claim.take(candidate.name, candidate.stamp)
                except SourceError as error:
                    troubles.append(error)
                    continue
                if taken:
                    size += candidate.weight
                    count += 1
            return self._frozen(claim, base, troubles)
        except BaseException:
            claim.release()
            raise

    def _is_free(self, candidate: _Candidate) -> bool:
        """Whether nobody is writing the file, as far as can be known."""
        path = self.folder / candidate.name
        try:
            handle = open_regular(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            hint = "let the archiver's user read it, or move it elsewhere"
            raise SourceError(f"{shown(path)}: cannot open it: {error.strerror}", hint=hint) from error
        try:
            writers = writers_of(handle)
            if writers == "unknown" and segment.is_own_name(candidate.name):
                return True  # it was complete before it had its name
            if writers == "unknown" and self._settle_seconds > 0:
                seconds = max(self._settle_seconds, UNGUARDED_SECONDS)
                return _is_quiet(os.fstat(handle), time.time(), seconds)
            return writers != "some"
        finally:
            os.close(handle)

    def _sweep(self, troubles: list[SourceError]) -> None:
        """Remove what was kept for a day; what was written to in the meantime goes back to the spool."""
        top = self.folder / DONE / FOR_A_DAY
        yesterday = datetime.now(UTC).date() - timedelta(days=1)
        try:
            with told(top, "clear it"):
                days = sorted(top.iterdir()) if top.exists() else []
        except SourceError as error:
            troubles.append(error)
            return
        for day in days:
            try:
                with told(day, "clear it"):
                    if date.fromisoformat(day.name) < yesterday:
                        self._sweep_day(day)
            except (SourceError, ValueError) as error:  # a stray name stops no other
                troubles.append(error if isinstance(error, SourceError) else SourceError(f"{day}: {error}"))

    def _sweep_day(self, day: Path) -> None:
        for path in sorted(day.iterdir()):
            try:
                size, mtime_ns, name = path.name.split(".", 2)
                status = os.lstat(path)
            except FileNotFoundError:  # another run was faster
                continue
            if (str(status.st_size), str(status.st_mtime_ns)) != (size, mtime_ns):
                place(path, self.folder, name)
                durable.sync_folder(self.folder)
            elif self._done == "keep":
                kept = self.folder / DONE / day.name
                durable.make_folders(kept)
                place(path, kept, name)
                durable.sync_folder(kept)
            path.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            day.rmdir()


def _is_quiet(status: os.stat_result, now: float, seconds: float) -> bool:
    """Whether a file was left alone for `seconds`.

    A time in the far future is a clock that jumped back: it says nothing, and must not
    keep the file here for ever.
    """
    age = now - status.st_mtime
    return seconds <= 0 or age >= seconds or age < -max(seconds, UNGUARDED_SECONDS)


def _stamps_in(claim: Path) -> list[Stamp]:
    found = []
    try:
        for path in claim.iterdir():
            status = os.lstat(path)
            if path.name not in (LOCK, RECORD) and stat.S_ISREG(status.st_mode):
                found.append(Stamp.of(status))
    except OSError:  # its owner is putting it away at this moment
        return found
    return found
