"""A connection through ADBC, with errors that say what happened and keep the URL to themselves."""

from __future__ import annotations

import contextlib
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Final

import pyarrow as pa

from archiver.database.ahead import Ahead, interruptible
from archiver.database.postgres_url import hidden_values, is_plain, with_timeouts
from archiver.database.settings import Database, Location
from archiver.errors import ConfigError, SourceError

_LONGEST_MESSAGE: Final = 600


class DatabaseError(SourceError):
    """The database answered with an error, or not at all.

    Attributes:
        sqlstate: Five characters, or empty.
    """

    kind = "database"

    def __init__(self, message: str, *, hint: str = "", sqlstate: str = "") -> None:
        super().__init__(message, hint=hint)
        self.sqlstate = sqlstate


class Connection:
    """One connection, in autocommit; `transaction` opens one. Not to be shared between threads."""

    def __init__(
        self, source: str, raw: Any, errors: tuple[type[Exception], ...], secrets: tuple[str, ...]
    ) -> None:
        self.source = source
        self._raw = raw
        self._errors = (*errors, pa.ArrowException, OSError)
        self._secrets = secrets

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it; an error on the way is of no interest any more."""
        with contextlib.suppress(Exception):
            self._raw.close()

    def run(self, sql: str, *values: Any) -> None:
        """Execute a statement whose answer does not matter."""
        self.table(sql, *values)

    def table(self, sql: str, *values: Any) -> pa.Table:
        """Return the whole answer of a statement, its values bound. For small answers."""
        with self._told():
            cursor = self._raw.cursor()
            return interruptible(lambda: _answer(cursor, sql, values), lambda: self._cancel(cursor))

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a small answer."""
        table = self.table(sql, *values)
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def value(self, sql: str, *values: Any) -> Any:
        """Return the one value of an answer; None where there is no row."""
        rows = self.rows(sql, *values)
        return rows[0][0] if rows else None

    @contextlib.contextmanager
    def stream(self, sql: str) -> Iterator[Iterator[pa.RecordBatch]]:
        """Give the answer batch by batch, read some way ahead. Leaving early cancels the rest.

        Meanwhile nothing else may be asked of this connection.
        """
        with self._told():
            cursor = self._raw.cursor()
        ahead = Ahead(lambda: self._batches(cursor, sql), lambda: self._cancel(cursor))
        try:
            yield ahead
        finally:
            ahead.close()
            with contextlib.suppress(Exception):
                cursor.close()

    def _cancel(self, cursor: Any) -> None:
        with contextlib.suppress(*self._errors):
            cursor.adbc_cancel()

    def _batches(self, cursor: Any, sql: str) -> Iterator[pa.RecordBatch]:
        with self._told():
            cursor.execute(sql)
            reader = cursor.fetch_record_batch()
        while True:
            with self._told():
                try:
                    batch = reader.read_next_batch()
                except StopIteration:
                    return
            if batch.num_rows:
                yield batch

    @contextlib.contextmanager
    def transaction(self, begin: str = "BEGIN") -> Iterator[None]:
        """Run what is inside in one transaction; roll back if it fails."""
        self.run(begin)
        try:
            yield
        except BaseException:
            with contextlib.suppress(SourceError):
                self.run("ROLLBACK")
            raise
        self.run("COMMIT")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise self._translated(error) from None

    def _translated(self, error: BaseException) -> DatabaseError:
        return translated(self.source, error, self._secrets)


def _answer(cursor: Any, sql: str, values: tuple[Any, ...]) -> pa.Table:
    with cursor:
        cursor.execute(sql, values or None)
        if cursor.description is None:
            return pa.table({})
        return cursor.fetch_arrow_table()


def translated(source: str, error: BaseException, secrets: Sequence[str]) -> DatabaseError:
    """Return `error` as one of ours: a line or two, nothing secret, with a hint where one is known."""
    state = str(getattr(error, "sqlstate", None) or "")
    text = scrubbed(str(error), secrets)
    if found := re.search(r"SQLSTATE: (\w{5})", text):
        state = state or found[1]
    text = re.split(r"\n+(?:Query was|LINE \d+):", text)[0]
    text = " ".join(text.split())[:_LONGEST_MESSAGE]
    hint = _HINTS.get(state, _HINTS.get(state[:2], ""))
    if state == "57014" and "statement timeout" not in text:
        hint = "somebody cancelled it at the server; run again: it goes on where it stopped"
    return DatabaseError(f"source {source}: {text}", hint=hint, sqlstate=state)


_HINTS: Final = {
    "28": "check the role and the password in the URL, and pg_hba.conf",
    "3D000": "check the database's name in the URL",
    "42501": "grant the role SELECT on the table; docs/database.md lists what each command needs",
    "42P01": "was the table renamed? Correct `table`; nothing was taken, and the cursor is where it was",
    "42703": "was a column renamed or dropped? Correct the settings; see `archiver sources inspect`",
    "57014": "raise statement_timeout_seconds, or lower batch_rows; is there an index on position and key?",
    "57P01": "the server ended the connection; run again: it goes on where it stopped",
    "08": "the connection was lost; run again: it goes on where it stopped",
}


def scrubbed(text: str, secrets: Sequence[str]) -> str:
    """Return `text` without any of `secrets`, and without the password of any URL."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "…")
    return re.sub(r"(?i)([a-z][a-z0-9+.-]*://)[^@\s/]*@", r"\1…@", text)


def secrets_of(location: Location) -> tuple[str, ...]:
    """Return every writing of the URL and its password that an error could quote."""
    url = location.reveal()
    found = {url}
    with contextlib.suppress(ValueError):
        found.add(urllib.parse.urlsplit(url).password or "")
    found |= hidden_values(url)
    # A password with an unescaped @ or / is cut up by libpq, and its pieces are quoted as host or port;
    # one without a host behind it is taken for the port.
    before_host, at, behind = url.partition("://")[2].rpartition("@")
    _, _, region = (before_host if at else behind.partition("/")[0]).partition(":")
    if at or not region.isdecimal():
        found.update((region, *re.split(r"[@/:?#]", region)))
    for one in tuple(found):
        found.update((urllib.parse.unquote(one), urllib.parse.quote(one)))
    return tuple(one for one in found if len(one) > 2)


def is_postgres(location: Location) -> bool:
    """Whether the URL is PostgreSQL's; SQLite's is the other that is known.

    Raises:
        ConfigError: It is neither.
    """
    scheme, colon, _ = location.reveal().partition(":")
    if colon and scheme in ("postgresql", "postgres"):
        return True
    if colon and scheme in ("sqlite", "file"):
        return False
    raise ConfigError(
        "the database's URL begins with neither postgresql:// nor sqlite:///",
        hint="postgresql://role:password@host:5432/database, or sqlite:////folder/file.db",
    )


# While a page is judged and written the session waits for us. Not every version has each of these.
_NO_IDLE_LIMITS: Final = """
SELECT set_config(name, '0', false) FROM pg_settings
WHERE name IN ('idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout')
"""


def connect_postgres(source: Database, location: Location, *, writes: bool = False) -> Connection:
    """Open a connection whose session writes values in one way, whatever the role's defaults are.

    Args:
        writes: Whether anything may be changed; else the session is read-only.

    Raises:
        DatabaseError: The server cannot be reached, or refuses us.
    """
    import adbc_driver_manager  # noqa: PLC0415  (slow to import, and only needed here)
    import adbc_driver_postgresql.dbapi as driver  # noqa: PLC0415

    secrets = secrets_of(location)
    errors = (adbc_driver_manager.Error, ValueError)
    url = location.reveal()
    try:
        raw = interruptible(lambda: driver.connect(with_timeouts(url), autocommit=True))
    except (*errors, pa.ArrowException, OSError) as error:
        if not is_plain(url):
            raise DatabaseError(
                f"source {source.name}: no connection; the driver's words are not shown, as they could quote"
                " the password: the URL is not well-formed, or has a parameter that libpq does not know",
                hint="postgresql://role:password@host:5432/database; in a password write % as %25, @ as %40,"
                " : as %3A, / as %2F, ? as %3F, # as %23, [ as %5B, a space as %20",
            ) from None
        problem = translated(source.name, error, secrets)
        answered = "FATAL:" in problem.message  # libpq gives no SQLSTATE here
        problem.hint = problem.hint or (
            "check role, password and database in the URL, and pg_hba.conf"
            if answered
            else "is the server up, and the host in the URL right?"
        )
        raise problem from None
    connection = Connection(source.name, raw, errors, secrets)
    try:
        milliseconds = str(int(source.statement_timeout_seconds * 1000))
        for name, value in (
            ("client_encoding", "UTF8"),  # the driver takes every text for UTF-8
            ("application_name", "archiver"),
            ("timezone", "UTC"),
            ("datestyle", "ISO, YMD"),
            ("intervalstyle", "iso_8601"),
            ("bytea_output", "hex"),
            ("extra_float_digits", "1"),
            ("row_security", "off"),  # rows that a policy would hide are an error, not a gap
            ("statement_timeout", milliseconds),
            ("default_transaction_read_only", "off" if writes else "on"),
            ("default_transaction_isolation", "read committed"),
            ("default_transaction_deferrable", "off"),  # it would wait for other sessions
        ):
            connection.run("SELECT set_config($1, $2, false)", name, value)
        connection.run(_NO_IDLE_LIMITS)
    except BaseException:
        connection.close()
        raise
    return connection
