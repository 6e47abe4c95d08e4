"""What a source asks of a database: facts, how far rows are complete, and the rows in their order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import pyarrow as pa

from archiver.database.cursor import Cursor, Origin
from archiver.database.fetched import Layout

# Columns of a page besides those of the layout: where each row is in the order of commits.
POSITION: Final = "p"
KEY: Final = "k"  # k0, k1, …
# What is asked for to delete rows is in `archiver.database.old`.


@dataclass(frozen=True, slots=True)
class Bound:
    """How far all rows are there for good: none can yet appear below it.

    Attributes:
        value: As the database writes it; rows before it may be read. None: nothing may.
        lag_seconds: How old what holds it back is; 0 where nothing does.
        why: What holds it back, in words; empty where nothing does.
    """

    value: str | None
    lag_seconds: float = 0.0
    why: str = ""


class Facts(Protocol):
    """What holds for all rows of a source.

    Attributes:
        layout: The members of a row's body, and their columns in a page.
        strategy: `xid8`, `settled` or `rowid`.
        origin: Which database it is.
        keys: How many key columns there are.
    """

    @property
    def layout(self) -> Layout: ...
    @property
    def strategy(self) -> str: ...
    @property
    def origin(self) -> Origin: ...
    @property
    def keys(self) -> int: ...


class FactsOfRows:
    """The facts of the rows that something stands for: its attribute `rows`."""

    __slots__ = ()
    if TYPE_CHECKING:  # a field of the dataclass that inherits this

        @property
        def rows(self) -> Facts: ...

    @property
    def layout(self) -> Layout:
        return self.rows.layout

    @property
    def strategy(self) -> str:
        return self.rows.strategy

    @property
    def origin(self) -> Origin:
        return self.rows.origin

    @property
    def keys(self) -> int:
        return self.rows.keys


class Rows(Facts, Protocol):
    """A table or query of a database, opened and found fit to be read without losing rows."""

    def bound(self, cursor: Cursor | None) -> Bound:
        """Return how far rows may be read now.

        Raises:
            SourceError: It cannot be told without risking rows; says what to do.
        """
        ...

    def page(
        self, after: Cursor | None, bound: Bound, limit: int
    ) -> AbstractContextManager[Iterator[pa.RecordBatch]]:
        """Give the rows behind `after` and below `bound`, in order of position and key, at most `limit`."""
        ...

    def behind(self, after: Cursor | None, bound: Bound, most: int) -> int:
        """Return how many rows are committed and lie behind `after` and `bound`, at most `most`."""
        ...

    def estimate(self) -> int | None:
        """Return about how many rows there are in all; None if nobody knows."""
        ...

    def by_time(self) -> RowsByTime:
        """Return the same rows, to be asked for by time and identity; it shares the connection."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class DayCount:
    """How many rows of a workspace have their time (`created_at`, else `occurred_at`) in a UTC day.

    Attributes:
        workspace: None where it is null.
        day: Counted from 1970.
        due: How many lie at or before the cursor: these should be archived.
        waiting: How many lie behind it.
    """

    workspace: str | None
    day: int
    due: int
    waiting: int


class RowsByTime(Protocol):
    """The same rows by time and identity: what tells whether one of them was passed over.

    Times are microseconds since 1970. A row without an instant in the years 1 to 9999 has no day: nobody
    finds it by time.
    """

    def counts(self, since_us: int, until_us: int, upto: Cursor) -> Iterator[DayCount]:
        """Yield the counts of the rows at or after `since_us` and before `until_us`, in any order."""
        ...

    def listed(
        self, workspaces: Collection[str | None] | None, since_us: int, until_us: int, upto: Cursor
    ) -> AbstractContextManager[Iterator[pa.RecordBatch]]:
        """Give the rows of these workspaces (None: of all) and times that lie at or before `upto`.

        Columns: `workspace` and `id` (strings), `at` (timestamp[us, UTC]), and each row's place as in a
        page: p, k0, k1, …
        """
        ...

    def known(self, ids: Sequence[str], upto: Cursor) -> Iterator[pa.RecordBatch]:
        """Yield the rows with one of these ids, whatever their time and place.

        Columns: `workspace`, `id`, `at` (null where it has none) and `due`, whether it lies at or before
        `upto`.
        """
        ...

    def by_place(self, places: Sequence[Sequence[str]]) -> AbstractContextManager[Iterator[pa.RecordBatch]]:
        """Give the rows that were listed at these places (of each p, k0, k1, …), with the columns of a page.

        Where the key says which row it is, the position does not matter. Some may be gone.
        """
        ...
