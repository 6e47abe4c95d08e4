"""Databases: whether a run could read them without losing a row, and how well they are guarded."""

from __future__ import annotations

from collections.abc import Iterator

from archiver.archive import Archive
from archiver.config import Settings
from archiver.database.look import Asked, look
from archiver.inspect_source import known_to
from archiver.reached import reached
from archiver.store.health import Check


def check_sources(settings: Settings, archive: Archive | None) -> Iterator[Check]:
    """Examine each configured database: URL, connection, rights, refusals, index, lag.

    Args:
        archive: Whose cursors are held against the databases; None: of none.
    """
    if not settings.sources:
        return
    known = {} if archive is None else {one.source: one for one in reached(archive, list(settings.sources))}
    for name, source in settings.sources.items():
        # One row is fetched: a right on the table is not yet one on every column.
        yield from look(source, Asked(known_to(name, known.get(name)), rows=1)).checks
