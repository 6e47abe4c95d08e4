"""Answers for whoever works in Python: asked when they are needed, then kept."""

from __future__ import annotations

import io
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import pyarrow as pa

from archiver.errors import ConfigError, QueryError
from archiver.query.catalog import Query
from archiver.query.escaping import shown
from archiver.query.session import Answer

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

_BATCH_ROWS: Final = 50_000
_LOOKED_AT_ROWS: Final = 10_000  # to show a few, and to know whether these are all
_LOOKED_AT_BYTES: Final = 1 << 26
_WIDTH: Final = 120  # where no terminal tells its own
_CAST: Final = "cast the column in SQL: column::VARCHAR, or ::BIGINT, ::DOUBLE"


@dataclass(frozen=True, slots=True)
class About:
    """What is told of an answer beside its rows.

    Attributes:
        title: What it is called; empty for SQL.
        told: What it answers.
        snapshot: What it is about: `commit 12`.
    """

    title: str = ""
    told: str = ""
    snapshot: str = ""


class Found:
    """What a question found. The first call that needs rows asks; later ones use the same rows.

    All rows stay in memory as long as this object does, once `arrow`, `df` or `pl` (of a
    `Result`) has read them: for an answer that does not fit, there is `batches`. To be
    looked at, no more than the first ten thousand rows or so are read.

    May be used from several threads: the question is asked once. Ctrl-C stops it.
    """

    def __init__(self, ask: Callable[[], Answer], about: About | None = None) -> None:
        self._ask = ask
        self._about = about if about is not None else About()
        self._lock = threading.RLock()
        self._table: pa.Table | None = None
        self._seen: pa.Table | None = None  # the first rows, where there are more

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in batches of bounded size; nothing is kept.

        Asks each time, unless the rows are in memory already.

        Raises:
            QueryError: The statement failed, took too long or may not run.
            IntegrityError, StoreError: Something in the archive could not be read.
        """
        if self._table is not None:
            yield from self._table.to_batches(_BATCH_ROWS)
            return
        with self._ask() as answer:
            yield from answer.batches()

    def arrow(self) -> pa.Table:
        """Return all rows as an Arrow table. Times are `timestamp[us, UTC]`.

        Raises:
            QueryError: The statement failed, took too long or may not run.
            IntegrityError, StoreError: Something in the archive could not be read.
        """
        with self._lock:
            if self._table is None:
                with self._ask() as answer:
                    self._table = answer.arrow()
                self._seen = None
            return self._table

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Hand all rows to whatever takes Arrow: `pl.DataFrame(found)`, `pa.table(found)`."""
        return self.arrow().__arrow_c_stream__(requested_schema)

    def df(self) -> pd.DataFrame:
        """Return all rows as a pandas frame, exact: times in UTC, decimals as `Decimal`.

        Whole numbers are `int64`, or the nullable `Int64` in a column with a null.

        Raises:
            ConfigError: pandas is not installed.
            QueryError: As `arrow`; or pandas has no such type.
        """
        try:
            import pandas as pd  # noqa: PLC0415 - an extra
        except ImportError:
            raise ConfigError("pandas is not installed", hint="pip install pandas") from None
        table = self.arrow()
        try:
            frame: pd.DataFrame = table.to_pandas()
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise QueryError(f"pandas cannot hold this: {shown(str(error))}", hint=_CAST) from error
        for name, column in zip(table.column_names, table.columns, strict=True):
            if pa.types.is_integer(column.type) and column.null_count:
                # Else it would be a float, and digits beyond the fifteenth lost.
                frame[name] = pd.array(column.to_pylist(), dtype="Int64")
        return frame

    def show(self, rows: int | None = 50, *, width: int | None = None) -> None:
        """Print the first rows as a table, and how many there are more.

        Args:
            rows: At most so many; None for all, which stay in memory then.
            width: In cells; None is the terminal's, or 120 where there is none. What is
                too wide is cut; what has too many columns is printed one value a line.
        """
        if width is None:
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH
        text = self._text(rows, width)
        # As text: in a notebook there is nothing beneath stdout that takes bytes.
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def __repr__(self) -> str:
        told = shown(self._about.title) or "SQL"
        if self._table is not None:
            told += f": {_counted(self._table.num_rows)}"
        return f"<{type(self).__name__} of {told}>"

    def _repr_pretty_(self, printer: _Printer, cycle: bool) -> None:
        printer.text(repr(self) if cycle else self._text(20, _WIDTH))

    def _repr_html_(self) -> str:
        from archiver.query.html import MOST_ROWS, table_html  # noqa: PLC0415 - only for notebooks

        table, rest = self._first(MOST_ROWS)
        about = self._about
        counted = rest or _counted(table.num_rows)
        below = f"{counted} · {about.snapshot}" if about.snapshot else counted
        return table_html(table, title=about.title, told=about.told, below=[below])

    def _text(self, rows: int | None, width: int) -> str:
        from archiver.query.output import write_table  # noqa: PLC0415

        table, rest = (self.arrow(), "") if rows is None else self._first(max(rows, 0))
        text = io.BytesIO()
        write_table(_Part(table.schema, table), text, width)
        return text.getvalue().decode() + (f"({rest})\n" if rest else "")

    def _first(self, rows: int) -> tuple[pa.Table, str]:
        """Return the first rows, and what there is to say of the rest; asks at most once."""
        with self._lock:
            if self._table is None and (self._seen is None or self._seen.num_rows < rows):
                self._look(rows)
            table = self._table
            if table is not None:
                counted = _counted(table.num_rows)
                rest = f"the first {rows:,} of {counted}" if table.num_rows > rows else ""
                return table.slice(0, rows), rest
            assert self._seen is not None  # noqa: S101  (for the type checker)
            return self._seen.slice(0, rows), f"the first {rows:,} of at least {self._seen.num_rows:,} rows"

    def _look(self, rows: int) -> None:
        found: list[pa.RecordBatch] = []
        count = size = 0
        with self._ask() as answer:
            for batch in answer.batches():
                found.append(batch)
                count, size = count + batch.num_rows, size + batch.nbytes
                if count > rows and (count > _LOOKED_AT_ROWS or size > _LOOKED_AT_BYTES):
                    self._seen = pa.Table.from_batches(found, answer.schema)
                    return
            self._table = pa.Table.from_batches(found, answer.schema)


class Result(Found):
    """What a named query or a statement found; see `Found`.

    Attributes:
        query: The named query that was asked; None for SQL.
    """

    def __init__(
        self, ask: Callable[[], Answer], query: Query | None = None, about: About | None = None
    ) -> None:
        super().__init__(ask, about)
        self.query = query

    def pl(self) -> pl.DataFrame:
        """Return all rows as a polars frame.

        Raises:
            QueryError: As `arrow`; or polars has no such type.
        """
        import polars as pl  # noqa: PLC0415 - only who asks for it waits for it

        try:
            frame = pl.from_arrow(self.arrow())
        except pl.exceptions.PolarsError as error:
            raise QueryError(f"polars cannot hold this: {shown(str(error))}", hint=_CAST) from error
        assert isinstance(frame, pl.DataFrame)  # noqa: S101  (for the type checker: it came of a table)
        return frame


class Events(Found):
    """Events of an archive; see `Found`. As polars they are a lazy frame."""

    def __init__(
        self, ask: Callable[[], Answer], lazy: Callable[[], pl.LazyFrame], about: About | None = None
    ) -> None:
        super().__init__(ask, about)
        self._lazy = lazy

    def pl(self) -> pl.LazyFrame:
        """Return the events as a polars lazy frame; nothing is read before it is collected.

        Only the columns and rows that the frame comes to need are read: selections,
        comparisons with constants and `head` reach the files. Errors of ours come out of
        its `collect` as they are.
        """
        return self._lazy()


@dataclass(frozen=True, slots=True)
class _Part:
    """A table as what writes answers takes them."""

    schema: pa.Schema
    table: pa.Table

    def batches(self) -> Iterator[pa.RecordBatch]:
        return iter(self.table.to_batches(_BATCH_ROWS))


class _Printer(Protocol):
    """What IPython gives to `_repr_pretty_`."""

    def text(self, text: str) -> None: ...


def _counted(rows: int) -> str:
    return f"{rows:,} row{'' if rows == 1 else 's'}"
