"""A second copy of an archive in another place: for a restore, a move, or to sleep well.

Every object is held against the ledger on its way. What the ledger does not name (caches,
the table log for engines, leftovers) is not copied: it is made anew there. The commits
come last and backwards, so that the copy's head moves from the old one to the new one at
once. A copy that was interrupted meanwhile has a gap in its ledger: readers refuse it, or see
the older copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from archiver import layout
from archiver.errors import (
    ConfigError,
    IntegrityError,
    ObjectNotFoundError,
    PreconditionFailedError,
)
from archiver.ledger.checkpoint_write import in_order
from archiver.ledger.entry import decode, digest_of
from archiver.ledger.ledger import Ledger
from archiver.progress import Progress, Silent
from archiver.store.base import Store

_THREADS: Final = 4
_COMMIT_THREADS: Final = 16
_COMMITS_AT_ONCE: Final = 256
_IN_FLIGHT_BYTES: Final = 256 << 20
_PLACES: Final = (*(f"{dataset}/workspace=" for dataset in layout.DATASETS), layout.QUARANTINE, layout.LISTS)


@dataclass(slots=True)
class CopyReport:
    """What was copied.

    Attributes:
        commits: How many the copy did not have.
        objects, bytes: Data files, quarantine files and lists that were written.
        present: Objects that were there already with the right size; `verify` reads them.
        head, head_digest: Of the source when the copy began; the copy's head now.
    """

    dry_run: bool = False
    commits: int = 0
    objects: int = 0
    bytes: int = 0
    present: int = 0
    head: int = -1
    head_digest: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"message_type": "copy_report"} | {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class _Wanted:
    key: str
    digest: str
    bytes: int


def copy(
    source: Store, destination: Store, *, dry_run: bool = False, progress: Progress | None = None
) -> CopyReport:
    """Bring `destination` to the present head of the archive in `source`.

    Interrupted, it is begun again and goes on where it stopped. A later call copies what
    came since. Writers may be at work in `source`, not in `destination`. What `collect` lets
    go of in `source` meanwhile is no longer needed behind a later commit: then that becomes
    the copy's head.

    Args:
        dry_run: Only say what would be copied; nothing is written.

    Raises:
        ArchiveNotFoundError: There is no archive in `source`.
        ConfigError: `destination` holds another archive, or commits of its own, or is where `source`
            is, or one lies in the other.
        IntegrityError: An object of `source` is missing or is not what the ledger says.
        StoreError: One of the two stores failed; what was copied stays.
    """
    progress = progress or Silent()
    ledger = Ledger.open(source)
    _refuse_nested(source, destination)
    report = CopyReport(dry_run)
    have = _common_head(source, destination)
    sizes = {info.key: info.bytes for place in _PLACES for info in destination.list(place)}
    copied: set[str] = set()
    while True:
        head = ledger.snapshot
        report.head, report.head_digest = head.sequence, head.digest
        report.commits, report.present = head.sequence - have, 0
        work = []
        for one in _wanted(ledger, have):
            if sizes.get(one.key) == one.bytes:
                report.present += 1
            elif one.key not in copied:
                work.append(one)
        progress.start("copying", sum(one.bytes for one in work))
        try:
            whole = _copy_objects(ledger, destination, work, report, copied, progress)
            if whole and not dry_run:
                _copy_commits(source, destination, have, head.sequence, head.digest)
        finally:
            progress.finish()
        if whole:
            return report
        ledger.refresh()  # the head of which something was let go could not be read in the copy


def _refuse_nested(source: Store, destination: Store) -> None:
    """Refuse a place in which the objects of one would be strangers in the other."""
    here, there = _place(source), _place(destination)
    # Two servers may have buckets of one name; two folders of one name are one.
    if here == there and source.local_path("x") is None:
        return
    if here.startswith(there) or there.startswith(here):
        raise ConfigError(
            f"{destination.location}: is where {source.location} is, or one lies in the other",
            hint="copy to a place beside the archive",
        )


def _place(store: Store) -> str:
    folder = store.local_path("x")
    return f"{store.location.rstrip('/') if folder is None else Path(folder).parent.resolve()}/"


def _common_head(source: Store, destination: Store) -> int:
    """Return the sequence of the copy's head, -1 if it has none, after a look whether it is a copy.

    An interrupted copy has commits without those before them; they do not count yet.
    """
    present = {
        sequence
        for info in destination.list(layout.LEDGER)
        if (sequence := layout.sequence_of(info.key)) is not None
    }
    head = next(number for number in range(len(present) + 1) if number not in present) - 1
    # Every later commit names the digest of the one before it: the newest of both kinds tell of all.
    for sequence in {head, max(present, default=-1)} - {-1}:
        key = layout.commit(sequence)
        ours = _commit_or_none(source, key)
        if destination.get(key) != ours:
            raise ConfigError(
                f"{destination.location}: is no copy of {source.location}: {key} is "
                + ("not there" if ours is None else "another there"),
                hint="copy to an empty place; a copy that was written to has gone its own way",
            )
    return head


def _commit_or_none(store: Store, key: str) -> bytes | None:
    try:
        return store.get(key)
    except ObjectNotFoundError:
        return None


def _wanted(ledger: Ledger, have: int) -> Iterator[_Wanted]:
    """Yield what the commits behind `have` name and a snapshot that may be asked for needs."""
    head = ledger.snapshot
    superseded = head.files.superseded()
    for commit in in_order(range(have + 1, head.sequence + 1), ledger.read):
        said = commit.content
        live = head.files.find(file.key for file in said.added)
        for file in said.added:
            if file.key in live or superseded.get(file.key, -1) > head.oldest_readable:
                yield _Wanted(file.key, file.digest, file.bytes)
        for one in (*said.quarantined, *said.lists):
            yield _Wanted(one.key, one.digest, one.bytes)


def _copy_objects(
    ledger: Ledger,
    destination: Store,
    work: list[_Wanted],
    report: CopyReport,
    copied: set[str],
    progress: Progress,
) -> bool:
    """Copy objects and note them in `copied`; return False if the source let go of one meanwhile."""
    if report.dry_run:
        report.objects, report.bytes = len(work), sum(one.bytes for one in work)
        return True
    whole = True
    under_way: dict[Future[bool], _Wanted] = {}
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="copy") as copiers:
        for one in [*work, None]:
            while under_way and (
                one is None
                or len(under_way) >= 2 * _THREADS
                or sum(other.bytes for other in under_way.values()) + one.bytes > _IN_FLIGHT_BYTES
            ):
                for done in wait(under_way, return_when=FIRST_COMPLETED).done:
                    finished = under_way.pop(done)
                    if done.result():
                        copied.add(finished.key)
                        report.objects += 1
                        report.bytes += finished.bytes
                    else:
                        whole = False
                    progress.advance(bytes_done=finished.bytes)
            if one is not None:
                under_way[copiers.submit(_copy_object, ledger, destination, one)] = one
    return whole


def _copy_object(ledger: Ledger, destination: Store, one: _Wanted) -> bool:
    """Copy one object; return False where the source has let it go meanwhile."""
    try:
        content = ledger.store.get(one.key)
    except ObjectNotFoundError:
        # Only a `collect` beside us may take a data file, and only after a commit that says so.
        now = Ledger.open(ledger.store).snapshot
        removed_by = now.files.superseded().get(one.key, 0)
        is_data = layout.partition_of(one.key) is not None
        if is_data and one.key not in now.files and removed_by <= now.oldest_readable:
            return False
        raise IntegrityError(
            f"{one.key}: missing, though the ledger names it",
            hint="run `archiver verify` on the source",
        ) from None
    found = digest_of(content)
    if found != one.digest:
        raise IntegrityError(
            f"{one.key}: expected {one.digest}, found {found}", hint="run `archiver verify` on the source"
        )
    try:
        destination.put(one.key, content)
    except PreconditionFailedError as error:
        raise ConfigError(
            f"{destination.location}: {one.key} is there already and differs: {error.message}"[:600],
            hint="no copy of ours: perhaps half an object of another tool; delete it and copy again",
        ) from None
    return True


def _copy_commits(source: Store, destination: Store, have: int, head: int, digest: str) -> None:
    """Put the commits behind `have`, each held against the one after it; the first of them comes last."""

    def put(sequence: int, content: bytes) -> None:
        key = layout.commit(sequence)
        try:
            destination.put(key, content)
        except PreconditionFailedError:
            raise ConfigError(
                f"{destination.location}: {key} is there already and differs: somebody writes to the copy",
                hint="a copy is written by `archiver copy` alone",
            ) from None

    with ThreadPoolExecutor(_COMMIT_THREADS, thread_name_prefix="copy") as threads:
        for start in range(head, have, -_COMMITS_AT_ONCE):
            part = range(start, max(start - _COMMITS_AT_ONCE, have), -1)
            contents = dict(
                zip(part, threads.map(lambda one: source.get(layout.commit(one)), part), strict=True)
            )
            for sequence, content in contents.items():
                key = layout.commit(sequence)
                if (found := digest_of(content)) != digest:
                    raise IntegrityError(f"{key}: expected {digest}, found {found}")
                digest = decode(content, key).previous
            first = contents.pop(have + 1, None)
            for _ in threads.map(put, contents.keys(), contents.values()):
                pass
            if first is not None:
                put(have + 1, first)
