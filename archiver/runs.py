"""One run over the configured sources: open or create the archive, archive source by source.

An archive is created only for a spool that never had one: a mistyped location or a disk
that is not mounted must not look like a new archive. A database cannot remember whether it had
one, so `init` creates the archive where there are no spools.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from archiver import layout
from archiver.archive import Archive, init_archive, open_archive
from archiver.compact import compact
from archiver.config import Settings
from archiver.database.settings import Database
from archiver.datafile import Encoding
from archiver.errors import ArchiveNotFoundError, ArchiverError, ConfigError, IntegrityError
from archiver.maintain import after_commits
from archiver.pipeline import RunReport, run
from archiver.progress import Progress, Silent, Throughout
from archiver.sources.database import DatabaseSource
from archiver.sources.spool import SpoolSource
from archiver.store.base import Store
from archiver.validate import Rules

log = logging.getLogger("archiver.run")

# Rows come with their columns made, and are judged in this very process: smaller than of deliveries.
ROWS_CHUNK_BYTES: Final = 128 << 20


def spool_sources(settings: Settings) -> list[SpoolSource]:
    """Return the configured spools as sources; the first is called `spool`, others `spool-2` and so on.

    Those that only a stream names come last.

    Raises:
        ConfigError: A folder is not there.
    """
    sources = []
    for number, folder in enumerate(settings.spool_folders, start=1):
        if not Path(folder).is_dir():
            raise ConfigError(f"{folder}: no such folder", hint="create the spool folder, or correct --spool")
        name = "spool" if number == 1 else f"spool-{number}"
        sources.append(
            SpoolSource(Path(folder), name=name, settle_seconds=settings.settle_seconds, done=settings.done)
        )
    return sources


def rules_of(settings: Settings, source: str) -> Rules:
    """Read the user's schemas and return what events of `source` are judged by.

    Raises:
        ConfigError: A schema file cannot be read.
    """
    schemas = {}
    for dataset, path in settings.schemas.items():
        try:
            schemas[dataset] = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: the schema for {dataset} cannot be read: {error}") from error
    pinned = {
        name: frozenset(stream.workspaces) for name, stream in settings.streams.items() if stream.workspaces
    }
    return Rules(source=source, schemas=schemas, workspaces_of_stream=pinned)


def run_sources(
    store: Store,
    settings: Settings,
    *,
    progress: Progress | None = None,
    report: RunReport | None = None,
    compacts: bool = False,
    rewind: Collection[str] = (),
) -> RunReport:
    """Archive everything that the configured spools and databases have ready.

    Args:
        rewind: Databases that are read from their first row again.
        compacts: Whether small files are then compacted. What fails there is a problem in the
            report; what was archived stays.
        report: Is filled as the run goes on, and holds what was committed if an error ends it.

    Raises:
        ConfigError: A spool is not there, or belongs to another archive.
        ArchiveNotFoundError: The spool had an archive, and it is not at this location.
    """
    if unknown := set(rewind) - set(settings.sources):
        raise ConfigError(f"there is no [sources.{min(unknown)}] to rewind")
    sources = spool_sources(settings)
    archive = archive_of(store, sources, settings)
    report = report or RunReport()
    for source in sources:
        run(
            archive,
            source,
            rules=rules_of(settings, source.name),
            progress=progress,
            workers=settings.workers,
            report=report,
        )
    for name, database in settings.sources.items():
        _run_database(archive, database, settings, report, progress, rewind=name in rewind)
    if compacts:
        _compact(archive, report, progress)
    _remember(archive, sources)
    if report.commits or report.acknowledged_only:
        after_commits(archive, progress)
    for source in sources:
        backlog = source.backlog()
        report.waiting += backlog.files
        report.ignored += backlog.unknown_names
    return report


def _run_database(
    archive: Archive,
    database: Database,
    settings: Settings,
    report: RunReport,
    progress: Progress | None,
    *,
    rewind: bool,
) -> None:
    """Archive one database; what goes wrong with it stops no other source."""
    source = DatabaseSource(
        database,
        lambda: archive.ledger.snapshot.cursors.get(database.name),
        rewind=rewind,
        counts=not isinstance(progress or Silent(), Silent),
    )
    counted, problems = report.counts.to_json(), len(report.problems)
    throughout = Throughout(progress or Silent(), lambda: source.total)
    try:
        run(
            archive,
            source,
            rules=rules_of(settings, source.name),
            progress=throughout,
            workers=settings.workers,
            report=report,
            chunk_bytes=ROWS_CHUNK_BYTES,
        )
    except ConfigError as error:
        problem = f"{error.message}; {error.hint}" if error.hint else error.message
        report.problems.append(problem)
        log.error("%s", problem)
    finally:
        throughout.close()
    report.databases[source.name] = {
        **{name: count - counted[name] for name, count in report.counts.to_json().items()},
        "went_well": len(report.problems) == problems,
        **source.lag.to_json(),
    }


def _compact(archive: Archive, report: RunReport, progress: Progress | None) -> None:
    try:
        done = compact(archive, progress=progress)
    except ArchiverError as error:
        report.problems.append(f"compaction: {error.message}")
    else:
        report.compaction = done.to_json()
        report.problems += done.problems
    head = archive.ledger.snapshot
    report.head, report.head_digest = head.sequence, head.digest


def _remember(archive: Archive, sources: list[SpoolSource]) -> None:
    head = archive.ledger.snapshot
    for source in sources:
        source.remember_archive(
            archive.id,
            _absolute(archive.store.location),
            head=head.sequence,
            head_digest=head.digest,
        )


def hold_against(archive: Archive, source: SpoolSource) -> None:
    """Refuse to go on in a ledger that has lost, or has rewritten, a commit which this spool has seen.

    Whoever can write to the bucket and not to the spool's host cannot hide that.

    Raises:
        IntegrityError: It has. A spool of another archive, or of none, says nothing.
    """
    said = source.remembered_archive()
    if said is not None and said["archive_id"] == archive.id:
        _hold_against(archive, source, said)


def _hold_against(archive: Archive, source: SpoolSource, said: dict[str, Any]) -> None:
    head, digest = said.get("head"), said.get("head_digest")
    if not isinstance(head, int):
        return
    found = archive.ledger.snapshot
    hint = (
        "the ledger was cut or rewritten, or an older copy was restored: find out with "
        f"`archiver verify --expect {head}:{digest}` before anything else; nothing was taken from the "
        f"spool; if it is right as it is, delete {source.folder}/.archive.json"
    )
    if found.sequence < head:
        raise IntegrityError(
            f"{archive.store.location}: truncated: the ledger ends at commit {found.sequence}, "
            f"but {source.folder} has seen commit {head}",
            hint=hint,
        )
    there = found.digest if found.sequence == head else archive.ledger.read(head).digest
    if there != digest:
        raise IntegrityError(
            f"{layout.commit(head)}: forked: expected {digest}, seen by {source.folder}, found {there}",
            hint=hint,
        )


def expect_commits(archive: Archive, expected: list[tuple[int, str]]) -> None:
    """Refuse to go on unless the ledger has these commits (sequence, digest).

    Raises:
        IntegrityError: It has not.
    """
    for sequence, digest in expected:
        head = archive.ledger.snapshot.sequence
        found = archive.ledger.read(sequence).digest if sequence <= head else "none"
        if found != digest:
            raise IntegrityError(
                f"{layout.commit(sequence)}: expected {digest}, found {found}; the head is {head}",
                hint="the ledger was cut or rewritten: run `archiver verify --expect …`, change nothing",
            )


def _absolute(location: str) -> str:
    return location if "://" in location else str(Path(location).resolve())


def archive_of(store: Store, sources: list[SpoolSource], settings: Settings) -> Archive:
    """Return the archive that these spools belong to; create it if none of them ever had one."""
    remembered = {source.folder: source.remembered_archive() for source in sources}
    try:
        archive = open_archive(store)
    except ArchiveNotFoundError as error:
        if not sources:
            raise
        known = [(folder, record) for folder, record in remembered.items() if record]
        if known:
            folder, record = known[0]
            raise ArchiveNotFoundError(
                f"{store.location}: no archive is here, but {folder} was archived to "
                f"{record.get('location', 'archive ' + record['archive_id'])}",
                hint="correct --archive, or mount the disk; nothing was created",
            ) from error
        encoding = Encoding(settings.data_format, settings.compression_level)  # type: ignore[arg-type]
        archive = init_archive(store, encoding, exist_ok=True, rounds=5)
    for source in sources:
        said = remembered[source.folder]
        if said is None:
            _remember(archive, [source])
        elif said["archive_id"] != archive.id:
            raise ConfigError(
                f"{source.folder}: belongs to archive {said['archive_id']} in "
                f"{said.get('location', 'an unknown place')}, but {store.location} is archive {archive.id}",
                hint="correct --archive; to move the spool for good, delete its .archive.json first",
            )
        else:
            _hold_against(archive, source, said)
    return replace(archive, publishes_delta=settings.publish_delta)
