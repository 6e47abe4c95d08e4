"""A connection to a SQLite file: opened to be read, never created, with errors that say what to do."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from archiver.database.ahead import interruptible
from archiver.database.connection import Connection, DatabaseError, secrets_of, translated
from archiver.database.settings import Database, Location
from archiver.errors import ConfigError, SourceError

_BATCH_ROWS: Final = "adbc.sqlite.query.batch_rows"
_LONGEST_WAIT_SECONDS: Final = 60.0
_WAL: Final = b"\x02\x02"  # the versions in the header of a file in WAL mode
_EXAMPLE: Final = "sqlite:////folder/file.db, or file:/folder/file.db"
# Of the errors that a user meets: words of SQLite's message, and what to do.
_HINTS: Final = (
    (
        "database is locked",
        "another program writes, or holds a transaction open, for longer than was waited (the smaller of"
        " statement_timeout_seconds and a minute); run again: it goes on where it stopped",
    ),
    (
        "database disk image is malformed",
        "the file is damaged: `PRAGMA integrity_check` of SQLite tells where; restore a copy, then --rewind",
    ),
    ("file is not a database", "the URL names another kind of file, or an encrypted one"),
    (
        "unable to open database file",
        "the file can be seen, but not opened; a database in WAL mode has two files beside it, -wal and -shm:"
        " this user must be able to read them, and to create -shm where it is missing",
    ),
    (
        "attempt to write a readonly database",
        "SQLite would have to write first: to roll back what a writer left that died; or, in WAL mode, while"
        " nobody has the file open, to create its -wal and -shm; let the application, or `sqlite3 FILE"
        " 'PRAGMA user_version'` as a user who may write, open the file, and run meanwhile",
    ),
    (
        "no such table",
        "was the table renamed? Correct `table`; nothing was taken, and the cursor is where it was",
    ),
    (
        "no such column",
        "was a column renamed or dropped? Correct the source's settings, and look at"
        " `archiver sources inspect`",
    ),
)


class SqliteConnection(Connection):
    """See `archiver.database.connection.Connection`. One of a SQLite file."""

    def fetch(self, sql: str, rows: int, *values: Any) -> pa.Table:
        """Return the answer, at most `rows` long, of which each column's type fits all of it.

        The driver takes a column's type from the first batch, and fails when a later one has
        another; so all of it is one batch.
        """

        def answer() -> pa.Table:
            with cursor:
                cursor.adbc_statement.set_options(**{_BATCH_ROWS: str(max(1, rows))})
                cursor.execute(sql, values or None)
                return cursor.fetch_arrow_table()

        with self._told():
            cursor = self._raw.cursor()
            return interruptible(answer, lambda: self._cancel(cursor))

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a small answer; a text that is no UTF-8 is an error like any other."""
        with self._told():
            return super().rows(sql, *values)

    @contextlib.contextmanager
    def transaction(self, begin: str = "BEGIN") -> Iterator[None]:
        """Run what is inside in one transaction; roll back if it fails, or its COMMIT does."""
        self.run(begin)
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            with contextlib.suppress(SourceError):
                self.run("ROLLBACK")
            raise

    def _translated(self, error: BaseException) -> DatabaseError:
        return _translated(self.source, error, self._secrets)


def path_of(location: Location) -> str:
    """Return the absolute path that the URL names.

    Raises:
        ConfigError: It names none.
    """
    scheme, _, rest = location.reveal().partition(":")
    rest, _, query = rest.partition("?")
    for name, _ in urllib.parse.parse_qsl(query, keep_blank_values=True):
        if name != "mode":  # the file is opened read-only, whatever it says
            raise ConfigError(
                f"the database's URL has the parameter {name!r:.40}, which means nothing here",
                hint=_EXAMPLE,
            )
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host not in ("", "localhost"):
            raise ConfigError("the database's URL names a host, but SQLite's is a file", hint=_EXAMPLE)
        # As SQLAlchemy has it: of four slashes the last one belongs to the path, after three it is relative.
        rest = path if scheme == "sqlite" else slash + path
    path = urllib.parse.unquote(rest)
    if not path or path == ":memory:" or "\0" in path:
        raise ConfigError("the database's URL names no file", hint=_EXAMPLE)
    return str(Path(path).absolute())


def connect_sqlite(source: Database, location: Location, *, writes: bool = False) -> SqliteConnection:
    """Open the file. Where there is none, none is created.

    Args:
        writes: Whether anything may be changed; else the connection can read and no more.

    Raises:
        ConfigError: The URL names no file.
        DatabaseError: The file is not there, or no database.
    """
    import adbc_driver_manager  # noqa: PLC0415  (slow to import, and only needed here)
    import adbc_driver_sqlite.dbapi as driver  # noqa: PLC0415

    path = path_of(location)
    _check_file(source.name, path)
    _check_companions(source.name, path)
    secrets = secrets_of(location)
    errors = (adbc_driver_manager.Error, ValueError)
    uri = f"file:{urllib.parse.quote(path)}?mode={'rw' if writes else 'ro'}"
    try:
        raw = driver.connect(uri, autocommit=True)
    except (*errors, pa.ArrowException, OSError):
        # What the driver says here is of no use: "failed to allocate memory".
        raise DatabaseError(
            f"source {source.name}: {path!r:.300} cannot be opened{' for writing' if writes else ''}",
            hint=f"this user must be able to {'read and write' if writes else 'read'} the file, and those"
            " beside it: -wal, -shm and -journal",
        ) from None
    connection = SqliteConnection(source.name, raw, errors, secrets)
    try:
        connection.value(f"PRAGMA busy_timeout = {round(_wait_seconds(source) * 1000)}")
        # Neither the text of an event nor a damaged schema may run anything.
        connection.value("PRAGMA trusted_schema = 0")
        connection.value("PRAGMA cell_size_check = 1")
        # Off unless asked for: without, rows that other rows point to could be deleted.
        connection.value("PRAGMA foreign_keys = 1")
        connection.value("SELECT count(*) FROM sqlite_schema")  # opens the file: until here nothing did
    except BaseException:
        connection.close()
        raise
    return connection


def _wait_seconds(source: Database) -> float:
    return min(source.statement_timeout_seconds or _LONGEST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS)


def _check_companions(source: str, path: str) -> None:
    """Refuse to leave files behind that the application could not write.

    In WAL mode even a reader creates -wal and -shm where they are missing, with the rights of the
    database's file, but as its own; and it leaves them there.
    """
    file, me = Path(path), os.geteuid()
    if all(Path(path + end).exists() for end in ("-wal", "-shm")) or not os.access(file.parent, os.W_OK):
        return  # nothing is created
    try:
        found, folder = file.stat(), file.parent.stat()
        if me in (0, found.st_uid) or found.st_mode & stat.S_IWOTH:  # root's become the owner's
            return
        group = folder.st_gid if folder.st_mode & stat.S_ISGID else os.getegid()
        if found.st_mode & stat.S_IWGRP and group == found.st_gid:
            return
        with file.open("rb") as opened:  # nothing of this process has locks on it yet
            header = opened.read(20)
    except OSError:
        return  # whoever opens it says why
    if header[18:20] == _WAL:
        raise DatabaseError(
            f"source {source}: {path!r:.300} is in WAL mode, nobody has it open, and it is another user's:"
            " SQLite would leave two files beside it that its owner cannot write",
            hint="run archiver as the file's owner, or while the application has the file open",
        )


def _check_file(source: str, path: str) -> None:
    # Never opened here: when a process closes a file, SQLite's locks on it are gone.
    try:
        found = Path(path).stat()
    except OSError as error:
        raise DatabaseError(
            f"source {source}: {path!r:.300}: {error.strerror or 'cannot be read'}",
            hint="correct the URL, or mount the disk; nothing was created, and the cursor is where it was",
        ) from None
    if not stat.S_ISREG(found.st_mode):
        raise DatabaseError(f"source {source}: {path!r:.300} is no file")
    if found.st_size == 0:
        raise DatabaseError(
            f"source {source}: {path!r:.300} is empty",
            hint="an application that has not started yet, or a URL that names the wrong file?",
        )


def _translated(source: str, error: BaseException, secrets: tuple[str, ...]) -> DatabaseError:
    text = str(error).partition("\nquery: ")[0]
    text = re.sub(r"\A(?:[A-Z_]+: )?(?:\[SQLite\] )?(?:Failed to \w+ query: )?", "", text)
    found = translated(source, Exception(text), secrets)
    found.hint = next((hint for words, hint in _HINTS if words in text), "")
    return found
