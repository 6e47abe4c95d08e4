"""An archive, for whoever reads it from Python: named queries, SQL, events.

    import archiver

    archive = archiver.open("s3://audit-archive/production")
    archive.query("failed_logins", since="7d").show()
    archive.sql("SELECT action, count(*) AS events FROM events GROUP BY action").pl()
    archive.events(workspace="ws_1a2b3c4d", since="2026-03-01", until="2026-04-01").df()

Everything that one reader answers is about one snapshot, the newest when it was opened or
that of `as_of`, whatever is archived meanwhile. Nothing has to be closed: a statement's
memory and threads are let go of when its answer was read, or is left.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archiver import clock
from archiver.archive import Archive, AsOf, open_archive
from archiver.errors import ConfigError, QueryError
from archiver.query.catalog import Catalog, Query, nearest
from archiver.query.escaping import shown
from archiver.query.narrowing import Narrow
from archiver.query.result import About, Events, Result
from archiver.query.session import Session, open_session, prepare
from archiver.store.open import open_store
from archiver.store.options import S3Options
from archiver.times import parse_when

if TYPE_CHECKING:
    import polars as pl

When = str | date | datetime
"""A point in time: a text as the command line takes it (`7d`, `2026-03-26`), a day (its first
moment) or a datetime; in UTC where it has no zone."""


class Queries:
    """The named queries that a reader knows, by name. A notebook shows them as a list."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def names(self) -> list[str]:
        """Return all names, in order."""
        return self._catalog.names()

    def __getitem__(self, name: str) -> Query:
        """Return a query; a `ConfigError` tells that there is none of that name."""
        return self._catalog.get(_named(name))

    def __iter__(self) -> Iterator[Query]:
        return iter(self._catalog)

    def __len__(self) -> int:
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __repr__(self) -> str:
        names = self.names()
        longest = max(map(len, names), default=0)
        return "\n".join(f"{query.name:<{longest}}  {shown(query.title)}" for query in self)

    def _repr_html_(self) -> str:
        from archiver.query.html import text_table  # noqa: PLC0415 - only for notebooks

        rows = [
            (one.name, one.title, one.answers, ", ".join(each.name for each in one.parameters))
            for one in self
        ]
        return text_table(("name", "title", "what it answers", "parameters"), rows)

    def _ipython_key_completions_(self) -> list[str]:
        return self.names()


@dataclass(frozen=True, slots=True)
class Reader:
    """One snapshot of an archive. Made by `archiver.open`; safe to use from several threads.

    Attributes:
        archive: What it reads.
        catalog: Where its named queries come from.
        head: Digest of the newest commit of the snapshot: `sha256:…`.
        as_of: When that commit was made.
    """

    archive: Archive
    catalog: Catalog
    head: str
    as_of: datetime
    _session: Session
    _reopen: Callable[[], Reader]

    @property
    def sequence(self) -> int:
        """The commit whose snapshot this is."""
        return self._session.sequence

    @property
    def queries(self) -> Queries:
        """The named queries: names, titles, what they answer."""
        return Queries(self.catalog)

    def query(self, name: str, /, **parameters: object) -> Result:
        """Ask a named query; `queries` lists them.

        >>> archive.query("failed_logins", since="2026-03-01", at_least=3).pl()["failures"].to_list()
        [8]

        Args:
            parameters: As the query's header names them; one that is left out has its default.
                They are values, and never become part of the SQL.

        Raises:
            ConfigError: No query is called that, it has no such parameter, or a value is not of its type.
        """
        found = self.queries[name]
        values = found.bind({each: _day_begun(value) for each, value in parameters.items()})
        about = About(found.title, found.answers, self._told())
        return Result(lambda: self._session.sql(found.statement, values), found, about)

    def sql(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Result:
        """Ask one SELECT of DuckDB's SQL, over the views that `archiver sql --help` names.

        What is not allowed or does not work is told when rows are asked for.

        >>> archive.sql("SELECT count(*) AS n FROM events WHERE id = $id", {"id": "f1"}).arrow().to_pylist()
        [{'n': 1}]

        Args:
            parameters: Values for `?` or `$name`; never put them into the text.

        Raises:
            QueryError: The statement is no text, or the parameters are no list or mapping.
        """
        if not isinstance(statement, str):
            raise QueryError(f"a statement is a text, not {type(statement).__name__}")
        if parameters is not None and (
            isinstance(parameters, str | bytes | bytearray | memoryview)
            or not isinstance(parameters, Sequence | Mapping)
        ):
            raise QueryError(
                f"parameters are a list or a mapping, not {type(parameters).__name__}",
                hint='sql("… WHERE id = $id", {"id": "…"})',
            )
        return Result(lambda: self._session.sql(statement, parameters), None, About(snapshot=self._told()))

    def events(
        self,
        *,
        workspace: str | None = None,
        since: When | None = None,
        until: When | None = None,
        columns: Sequence[str] | None = None,
        in_order: bool = False,
    ) -> Events:
        """Return the events of a workspace and a time, what supplements tell of them filled in.

        >>> frame = archive.events(workspace="ws_1", since="2026-03-26", columns=["id", "action"]).pl()
        >>> frame.filter(id="f1").collect().rows()
        [('f1', 'auth.login_failed')]

        Args:
            workspace: Only of this one.
            since, until: From this moment on, up to but not including that one.
            columns: Only these, in this order.
            in_order: By time, and by id at equal times. Otherwise in any order: to sort
                everything takes time, and memory for all of it.

        Raises:
            ConfigError: There is no such column, or a time or workspace is none.
        """
        from archiver.query.lazy import EVENT_COLUMNS, Selection  # noqa: PLC0415 - polars takes a while

        now = clock.now_us()
        if workspace is not None and not isinstance(workspace, str):
            raise ConfigError(f"workspace: {workspace!r:.60} is no text")
        from_us = None if since is None else _instant_us("since", since, now)
        to_us = None if until is None else _instant_us("until", until, now)
        if from_us is not None and to_us is not None and from_us >= to_us:
            raise ConfigError(
                f"since {clock.to_text(from_us)} is not before until {clock.to_text(to_us)}",
                hint="`until` itself is left out: a day ends where the next one begins",
            )
        selection = Selection(
            Narrow(None if workspace is None else frozenset((workspace,)), from_us, to_us),
            EVENT_COLUMNS if columns is None else _columns(columns, EVENT_COLUMNS),
            in_order,
        )
        parts = [
            "" if workspace is None else f"of {workspace}",
            "" if from_us is None else f"since {clock.to_text(from_us)}",
            "" if to_us is None else f"until {clock.to_text(to_us)}",
        ]
        told = " ".join(part for part in parts if part)

        def lazy() -> pl.LazyFrame:
            return selection.frame(self._session, self.archive.store)

        return Events(lambda: selection.asked(self._session), lazy, About("Events", told, self._told()))

    def refresh(self) -> Reader:
        """Return a reader of the newest snapshot; this one stays where it is.

        Raises:
            As `archiver.open`.
        """
        return self._reopen()

    def __repr__(self) -> str:
        return f"<Reader of {shown(self.archive.store.location)}, {self._told()}>"

    def _told(self) -> str:
        return f"commit {self.sequence:,} of {self.as_of:%Y-%m-%d %H:%M:%S} UTC"


def open(  # noqa: A001 - `archiver.open` is what it is called
    location: str | os.PathLike[str],
    *,
    as_of: int | When | None = None,
    queries: str | Path | Sequence[str | Path] = (),
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
        queries: A folder, or folders, with `*.sql` files of your own.
        memory_limit: What DuckDB may take for each statement. It does not count the long
            strings and lists that functions such as `repeat` and `range` build: a program that
            lets anybody ask anything limits its own memory, too
            (`archiver.query.session.limited_memory`).
        timeout_seconds: For each statement, its answer read to the end.
        endpoint_url, region, addressing_style: Of an S3-compatible server other than AWS.

    Raises:
        ArchiveNotFoundError: None is there.
        ConfigError: The location means nothing, or `as_of` cannot be read any more.
        QueryError: The memory limit is no size.
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
    if isinstance(as_of, int) and not isinstance(as_of, bool):
        wanted = AsOf(sequence=as_of)
    elif as_of is not None:
        wanted = AsOf(time_us=_instant_us("as_of", as_of, clock.now_us()))
    if timeout_seconds is not None and not (isinstance(timeout_seconds, int | float) and timeout_seconds > 0):
        raise ConfigError(f"timeout_seconds: {timeout_seconds!r:.60} is not more than nothing")
    try:
        place = os.fsdecode(location)
    except TypeError:
        raise ConfigError(
            f"a location is a text or a path, not {type(location).__name__}",
            hint='archiver.open("./archive") or archiver.open("s3://bucket/prefix")',
        ) from None
    folders = (queries,) if isinstance(queries, str | Path) else tuple(queries or ())
    prepare()
    archive = open_archive(open_store(place, options), as_of=wanted)
    now = archive.ledger.snapshot
    reopen = partial(
        open,
        place,
        queries=folders,
        memory_limit=memory_limit,
        timeout_seconds=timeout_seconds,
        **given,
    )
    session = open_session(archive, memory_limit=memory_limit, timeout_seconds=timeout_seconds)
    return Reader(archive, Catalog.of(folders), now.digest, clock.from_us(now.committed_us), session, reopen)


def _instant_us(name: str, when: object, now_us: int) -> int:
    when = _day_begun(when)
    if isinstance(when, str):
        return parse_when(when, now_us)
    if isinstance(when, datetime):
        found = clock.to_us(when if when.tzinfo is not None else when.replace(tzinfo=UTC))
        if found == clock.nearest(found):  # and not, in UTC, outside the years 1 to 9999
            return found
    raise ConfigError(
        f"{name}: {when!r:.60} is no point in time",
        hint="a text (2026-03-26, 2026-03-26T10:15:00Z, 7d), a date or a datetime",
    )


def _day_begun(value: object) -> object:
    """Return the first moment of a day; anything else as it is."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time(), UTC)
    return value


def _named(name: object) -> str:
    if not isinstance(name, str):
        raise ConfigError(f"a query is called by a text, not {type(name).__name__}")
    return name


def _columns(wanted: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(wanted, Iterable):
        raise ConfigError(f"columns: {wanted!r:.60} is no list of names")
    names = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    for name in names:
        if name not in known:
            raise ConfigError(f"events have no column {name!r:.60}", hint=nearest(str(name), known))
    if not names or len(set(names)) < len(names):
        raise ConfigError("columns: name each once, and one at least")
    return names
