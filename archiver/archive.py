"""An archive: a store with a ledger in it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Final

from archiver import clock, layout
from archiver.datafile import Encoding
from archiver.errors import ArchiveNotFoundError, ConfigError, StoreError
from archiver.identity import Identities
from archiver.ledger.commit import put_in_slot
from archiver.ledger.entry import Commit, Content, digest_of
from archiver.ledger.ledger import Ledger
from archiver.ledger.shape import archive_problem
from archiver.store.base import Store
from archiver.store.probe import race_creates

IDENTITY_WINDOW_DAYS: Final = 31
_DATASET_VERSIONS: Final = {"events": 1, "alerts": 1, "supplements": 1}


@dataclass(frozen=True, slots=True)
class Archive:
    """An open archive.

    Attributes:
        store: Where it lies.
        ledger: Its chain, followed to the head when it was opened.
        identities: What this process knows of archived ids; grows as it is asked.
        publishes_delta: Whether commits by this process are told in the Delta log at once.
    """

    store: Store
    ledger: Ledger
    identities: Identities
    publishes_delta: bool = True

    @property
    def id(self) -> str:
        """A random UUID, given at `init`, the same for ever."""
        return str(self.ledger.snapshot.archive["id"])

    @property
    def encoding(self) -> Encoding:
        """How this archive's data files are written."""
        said = self.ledger.snapshot.archive
        return Encoding(said["data_format"], said["compression_level"])


@dataclass(frozen=True, slots=True)
class AsOf:
    """Which snapshot is asked for: that of a commit, or of the newest commit at a time.

    Attributes:
        sequence: Of the commit; None if a time is given.
        time_us: In microseconds since 1970; None if a sequence is given.
    """

    sequence: int | None = None
    time_us: int | None = None


def open_archive(store: Store, *, as_of: AsOf | None = None) -> Archive:
    """Open the archive in `store`.

    Args:
        as_of: Open it as it was then, for readers: it stays there and cannot be written.

    Raises:
        ArchiveNotFoundError: There is none.
        ConfigError: There was no such commit, or its files may have been let go.
        IntegrityError: Its chain is broken.
    """
    ledger = Ledger.open(store)
    if as_of is not None:
        wanted = as_of.sequence
        if wanted is None:
            wanted = ledger.sequence_at(as_of.time_us or 0)
        ledger = ledger.pinned(wanted)
    said = ledger.snapshot.archive
    if problem := archive_problem(said):
        raise ConfigError(
            f"{store.location}: this version does not know an archive of {problem}",
            hint="use the version of archiver that wrote it, or a later one",
        )
    return Archive(store, ledger, Identities(ledger, window_days=said["identity_window_days"]))


def init_archive(
    store: Store, encoding: Encoding | None = None, *, exist_ok: bool = False, rounds: int = 30
) -> Archive:
    """Create an archive in `store`: its first commit says what it is.

    Args:
        encoding: Format and compression of the data files, for the archive's life.
        exist_ok: An archive that is there already is opened.
        rounds: How often eight writers race for one name, to see whether the store
            creates atomically; 0 leaves the race out.

    Raises:
        ConfigError: The store cannot create atomically, or an archive is there already.
        StoreError: The place is not empty, or cannot be written.
    """
    encoding = encoding or Encoding()
    try:
        archive = open_archive(store)
    except ArchiveNotFoundError:
        pass
    else:
        if exist_ok:
            return archive
        raise ConfigError(
            f"{store.location}: an archive is here already ({archive.id})",
            hint="nothing needs to be done; `archiver status` shows it",
        )
    _refuse_remains(store)
    if rounds:
        report = race_creates(store, rounds=rounds)
        if not report.is_atomic:
            raise ConfigError(
                f"{store.location}: the store does not create objects atomically: {report.problems[0]}",
                hint="use a store that honours `If-None-Match: *` (AWS S3, R2, MinIO, Ceph) or a folder",
            )
    said: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "data_format": encoding.format,
        "compression_level": encoding.level,
        "partitioning": ["workspace", "dt"],
        "datasets": _DATASET_VERSIONS,
        "identity_window_days": IDENTITY_WINDOW_DAYS,
    }
    content = Content(
        operation="init",
        batch=digest_of(said["id"].encode())[7:39],
        attempt=layout.new_attempt(),
        archive=said,
    )
    first = Commit(sequence=0, previous="", committed_us=clock.now_us(), oldest_readable=0, content=content)
    ours = put_in_slot(store, first)
    if not ours and not exist_ok:
        raise ConfigError(f"{store.location}: somebody else created an archive here at the same moment")
    return open_archive(store)


def _refuse_remains(store: Store) -> None:
    """A ledger without its first commit is damage, not an empty place."""
    remains = next(iter(store.list(layout.LEDGER)), None)
    # The first commit itself may be here by now: somebody else's, of this moment. The slot tells.
    if remains is not None and remains.key != layout.commit(0):
        raise StoreError(
            f"{store.location}: {remains.key} is here, but {layout.commit(0)} is not",
            hint="this was an archive and has lost its beginning: restore it from a copy, do not start anew",
        )
