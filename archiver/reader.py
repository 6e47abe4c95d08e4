"""An archive, for whoever reads it from Python: named queries, SQL, events.

    import archiver

    archive = archiver.open("s3://audit-archive/production")
    archive.query("failed_logins", since="7d").show()
    archive.sql("SELECT action, count(*) AS events FROM events GROUP BY action").pl()
    archive.events(workspace="ws_1a2b3c4d", since="2026-03-01", until="2026-04-01").df()

Everything that one reader answers is about one snapshot, the newest when it was opened or
that of `as_of`, whatever is archived meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from archiver import clock
from archiver.archive import Archive, AsOf, open_archive
from archiver.query.catalog import Catalog
from archiver.query.result import Result
from archiver.query.session import Session, open_session
from archiver.store.open import open_store
from archiver.store.options import S3Options
from archiver.times import parse_when

When = str | datetime
"""A point in time: a text as the command line takes it (`7d`, `2026-03-26`), or a datetime."""


@dataclass(frozen=True, slots=True)
class Reader:
    """One snapshot of an archive. Made by `archiver.open`; safe to use from several threads.

    Attributes:
        archive: What it reads.
        catalog: The named queries that it knows.
    """

    archive: Archive
    catalog: Catalog
    _session: Session

    @property
    def sequence(self) -> int:
        """The commit whose snapshot this is."""
        return self._session.sequence

    def query(self, name: str, /, **parameters: object) -> Result:
        """Ask a named query; `archiver queries` lists them.

        Args:
            parameters: As the query's header names them; one that is left out has its default.

        Raises:
            ConfigError: No query is called that, it has no such parameter, or a value is not of its type.
        """
        found = self.catalog.get(name)
        values = found.bind(parameters)
        return Result(lambda: self._session.sql(found.statement, values), found)

    def sql(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Result:
        """Ask one SELECT of DuckDB's SQL, over the views that `archiver sql --help` names.

        Args:
            parameters: Values for `?` or `$name`; never put them into the text.
        """
        return Result(lambda: self._session.sql(statement, parameters))

    def events(
        self, *, workspace: str | None = None, since: When | None = None, until: When | None = None
    ) -> Result:
        """Return the events of a workspace and a time, in the order of their times.

        Args:
            since, until: From this moment on, up to but not including that one. UTC where no zone is told.
        """
        now = clock.now_us()
        wanted = {
            "workspace_id = $workspace": ("workspace", workspace),
            "event_time >= $since": ("since", None if since is None else _instant(since, now)),
            "event_time < $until": ("until", None if until is None else _instant(until, now)),
        }
        given = {text: pair for text, pair in wanted.items() if pair[1] is not None}
        where = f" WHERE {' AND '.join(given)}" if given else ""
        return self.sql(f"FROM events{where} ORDER BY event_time, id", dict(given.values()))


def open(  # noqa: A001 - `archiver.open` is what it is called
    location: str | os.PathLike[str],
    *,
    as_of: int | When | None = None,
    queries: Sequence[str | Path] = (),
    memory_limit: str = "1GB",
    timeout_seconds: float | None = None,
    endpoint_url: str | None = None,
    region: str | None = None,
    addressing_style: str | None = None,
) -> Reader:
    """Open an archive for reading.

    Args:
        location: A folder, or `s3://bucket/prefix`. Credentials come from the usual AWS chain.
        as_of: Read it as it was after a commit (a number) or at a time.
        queries: Folders with `*.sql` files of your own.
        memory_limit: What DuckDB may take for each statement.
        timeout_seconds: For each statement, its answer read to the end.
        endpoint_url, region, addressing_style: Of an S3-compatible server other than AWS.

    Raises:
        ArchiveNotFoundError: None is there.
        ConfigError: The location means nothing, or `as_of` cannot be read any more.
        StoreError: It could not be read.
        IntegrityError: Its ledger is broken.
    """
    given: dict[str, Any] = {
        "endpoint_url": endpoint_url,
        "region": region,
        "addressing_style": addressing_style,
    }
    options = S3Options(**{name: value for name, value in given.items() if value is not None})
    wanted = None
    if isinstance(as_of, int):
        wanted = AsOf(sequence=as_of)
    elif as_of is not None:
        wanted = AsOf(time_us=_instant_us(as_of, clock.now_us()))
    archive = open_archive(open_store(os.fspath(location), options), as_of=wanted)
    session = open_session(archive, memory_limit=memory_limit, timeout_seconds=timeout_seconds)
    return Reader(archive, Catalog.of(queries), session)


def _instant_us(when: When, now_us: int) -> int:
    if isinstance(when, str):
        return parse_when(when, now_us)
    return clock.to_us(when if when.tzinfo is not None else when.replace(tzinfo=UTC))


def _instant(when: When, now_us: int) -> datetime:
    return clock.from_us(_instant_us(when, now_us))
