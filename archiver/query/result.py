"""An answer for whoever works in Python: asked when it is needed, then kept."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from archiver.errors import ConfigError
from archiver.query.catalog import Query
from archiver.query.session import Answer

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


class Result:
    """What a question found. The first call that needs rows asks; later ones use the same rows.

    Attributes:
        query: The named query that was asked; None for SQL.
    """

    def __init__(self, ask: Callable[[], Answer], query: Query | None = None) -> None:
        self._ask = ask
        self._table: pa.Table | None = None
        self.query = query

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in batches of bounded size; nothing is kept. Asks each time."""
        with self._ask() as answer:
            yield from answer.batches()

    def arrow(self) -> pa.Table:
        """Return all rows as an Arrow table. Times are `timestamp[us, UTC]`."""
        if self._table is None:
            with self._ask() as answer:
                self._table = answer.arrow()
        return self._table

    def pl(self) -> pl.DataFrame:
        """Return all rows as a polars frame."""
        import polars as pl  # noqa: PLC0415 - only who asks for it waits for it

        frame = pl.from_arrow(self.arrow())
        assert isinstance(frame, pl.DataFrame)  # noqa: S101  (for the type checker: it came of a table)
        return frame

    def df(self) -> pd.DataFrame:
        """Return all rows as a pandas frame.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            import pandas  # noqa: PLC0415, F401 - an extra
        except ImportError:
            raise ConfigError("pandas is not installed", hint="pip install 'archiver[notebook]'") from None
        frame: pd.DataFrame = self.arrow().to_pandas()
        return frame

    def show(self) -> None:
        """Print the rows as a table."""
        from archiver.query.output import write_answer  # noqa: PLC0415

        write_answer(self._ask(), "table", sys.stdout.buffer)
