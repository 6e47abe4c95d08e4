"""From settings to rows: which database it is, by its URL."""

from __future__ import annotations

from archiver.database.base import Rows
from archiver.database.connection import is_postgres
from archiver.database.old import OldRows
from archiver.database.settings import Database


def open_rows(source: Database) -> Rows:
    """Connect, and choose how rows are read without losing one.

    Raises:
        ConfigError: The settings do not fit, or rows could be lost: says why.
        SourceError: The database cannot be reached or read.
    """
    location = source.location()
    if is_postgres(location):
        from archiver.database.postgres import open_postgres  # noqa: PLC0415  (drivers are slow to import)

        return open_postgres(source, location)
    from archiver.database.sqlite import open_sqlite  # noqa: PLC0415

    return open_sqlite(source, location)


def open_old_rows(source: Database, *, deletes: bool) -> OldRows:
    """Connect to delete old rows.

    Args:
        deletes: Without, nothing can be deleted by what is returned, and no right to do so is needed.

    Raises:
        ConfigError: The settings do not fit, or deleting a row would take with it what is not in it.
        SourceError: The database cannot be reached or read, or the role may not delete.
    """
    location = source.location()
    if is_postgres(location):
        from archiver.database.postgres_old import open_postgres_old  # noqa: PLC0415

        return open_postgres_old(source, location, deletes=deletes)
    from archiver.database.sqlite_old import open_sqlite_old  # noqa: PLC0415

    return open_sqlite_old(source, location, deletes=deletes)
