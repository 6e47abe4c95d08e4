"""What `purge` asks of a database: old rows with what tells their versions, and to delete them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final, Literal, Protocol

import pyarrow as pa

from archiver.database.base import Facts
from archiver.database.cursor import Cursor

# A column of a page of old rows: a text that differs as soon as the row is written to.
VERSION: Final = "v"

# What became of a row that was to be deleted. `changed`: it was written to since it was read.
# `gone`: somebody else deleted it. `locked`: another transaction holds it, or one that was to go
# with it. `kept`: it is there as it was read, since a trigger, a rule or a policy passes it over.
Outcome = Literal["deleted", "changed", "gone", "locked", "kept"]


class OldRows(Facts, Protocol):
    """A table of which old rows are deleted.

    Opening it needs no right but to read, and to delete if anything is to be deleted. It refuses
    what cannot be deleted row by row (queries, views), and tables whose rows take rows of other
    tables with them.

    Attributes:
        position: The column of the position.
        left_out: Columns of the table that are in no member of the body: the position, those that
            the settings exclude, and those whose name another column took.
    """

    @property
    def position(self) -> str: ...
    @property
    def left_out(self) -> tuple[str, ...]: ...

    def old_rows(
        self, before_us: int, after: Cursor | None, upto: Cursor, limit: int
    ) -> AbstractContextManager[Iterator[pa.RecordBatch]]:
        """Give rows behind `after`, at or before `upto`, in order of position and key, at most `limit`.

        With the columns of a page and `VERSION`. Rows whose time (`created_at`, else `occurred_at`) is
        `before_us` (microseconds since 1970) or later may be left out; whoever asks looks at the
        times again. Nothing is locked when it is left.
        """
        ...

    def younger(self, before_us: int, upto: Cursor, most: int) -> int:
        """Return how many rows at or before `upto` are of `before_us` or later, at most `most`; 0 if
        `old_rows` gives those, too."""
        ...

    def estimate(self, before_us: int, upto: Cursor) -> int | None:
        """Return about how many rows `old_rows` will give in all; None if nobody knows."""
        ...

    def delete(self, keys: Sequence[tuple[str, ...]], versions: Sequence[str]) -> list[Outcome]:
        """Delete the rows with these keys that still have these versions, in one transaction.

        Keys and versions are texts as a page holds them. When this returns, the transaction is
        committed, and the answer tells of each row in the order of `keys`.

        Raises:
            SourceError: The database refused; nothing of it was deleted. If the connection was
                lost, all or nothing was.
        """
        ...

    def close(self) -> None: ...
