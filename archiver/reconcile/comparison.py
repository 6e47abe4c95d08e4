"""Ids of the database held against ids of the archive, a portion at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from archiver.database.base import KEY, POSITION, Rows
from archiver.database.bodies import bodies
from archiver.database.cursor import Cursor
from archiver.index import hashing
from archiver.partition import DAY_US
from archiver.progress import Progress
from archiver.reconcile.archived import ArchivedEvents, Ids, place_of
from archiver.reconcile.portions import Portion
from archiver.reconcile.quarantined import QuarantinedRows
from archiver.reconcile.report import Place, ReconcileReport, Row

MOST_REPAIRED: Final = 1_000_000
_ASKED_AT_ONCE: Final = 10_000
_NAMES: Final = {"workspace": pl.String, "id": pl.String}


@dataclass(slots=True)
class Comparison:
    """Compares what it is told to, and counts into the report.

    Attributes:
        limit: How many missing rows, and how many events that only the archive has, are told in full.
        passed_over: Where the missing rows are (position and key), as many as one call repairs.
    """

    rows: Rows
    cursor: Cursor
    events: ArchivedEvents
    quarantined: QuarantinedRows
    report: ReconcileReport
    progress: Progress
    limit: int
    passed_over: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def _place(self) -> list[str]:
        """Return the columns that say where a row is."""
        return [POSITION, *(f"{KEY}{number}" for number in range(self.rows.keys))]

    def compare(self, portion: Portion) -> None:
        """Find out of the rows and events of these places which have no counterpart.

        Raises:
            FileVanishedError: A data file is not there any more.
            SourceError: The database cannot be read.
        """
        ids = self.events.ids([(one.workspace, one.day) for one in portion.places])
        for place in portion.places:
            place.quarantined = 0  # so far by the days in the bodies; from here on by what is found
        numbered = pl.DataFrame(
            {
                "workspace": [one.workspace for one in portion.places],
                "day": [one.day for one in portion.places],
                "place": range(len(portion.places)),
            },
            schema={"workspace": pl.String, "day": pl.Int64, "place": pl.Int64},
        )
        for since_us, until_us in portion.slices():
            self._missing(self._not_there(portion, numbered, ids, since_us, until_us), portion.places)
        by_place = {(one.workspace, one.day): one for one in portion.places}
        for file, hashes in ids.unseen():
            for chunk in _chunks(self.events.events(file, hashes)):
                left = chunk.filter(pl.Series(~self._has_rows(chunk)))
                self._only_archived(by_place[place_of(file)], left)

    def count_only(self, place: Place) -> None:
        """Take it that the database has nothing of the events of a place, since it has no rows near it."""
        left = self.limit - len(self.report.only_archived_events)
        for file in self.events.files.get((place.workspace, place.day), ()):
            if left <= 0:
                break
            found = self.events.events(file).head(left)
            left -= found.height
            self.report.only_archived_events += _told(found)
        place.only_archived += place.archived

    def _not_there(
        self, portion: Portion, numbered: pl.DataFrame, ids: Ids, since_us: int, until_us: int
    ) -> pl.DataFrame:
        """Return the rows of a span of time whose ids do not lie under the portion's workspaces and days.

        With `workspace`, `id`, `at`, `place` (a number in the portion), and where each row is.
        """
        names = {one.workspace for one in portion.places}
        some = names if portion.is_part or len(names) <= _ASKED_AT_ONCE else None
        found = []
        with self.rows.by_time().listed(some, since_us, until_us, self.cursor) as batches:
            for batch in batches:
                frame = _frame(batch).with_columns(day=pl.col("at") // DAY_US)
                frame = frame.join(numbered, on=["workspace", "day"], how="inner", nulls_equal=True)
                named = frame["workspace"].is_not_null() & frame["id"].is_not_null()
                certain = frame.filter(named)
                there, repeated = ids.find(hashing.hash_ids(certain["id"], certain["workspace"]))
                self.report.repeated += repeated
                elsewhere = (there >= 0) & (there != certain["place"].to_numpy())
                self.report.elsewhere += int(np.count_nonzero(elsewhere))
                self.progress.advance(rows=batch.num_rows)
                found += [
                    one for one in (certain.filter(pl.Series(there < 0)), frame.filter(~named)) if one.height
                ]
        if not found:
            place = dict.fromkeys(self._place, pl.String)
            return pl.DataFrame(schema={**_NAMES, "at": pl.Int64, "place": pl.Int64, **place})
        return pl.concat(found)

    def _missing(self, rows: pl.DataFrame, places: Sequence[Place]) -> None:
        """Count the rows that are archived elsewhere or in quarantine, and tell those that are not."""
        named = rows["workspace"].is_not_null() & rows["id"].is_not_null()
        certain = rows.filter(named)
        here = self.events.near(certain)
        self.report.elsewhere += int(np.count_nonzero(here))
        rows = pl.concat([certain.filter(pl.Series(~here)), rows.filter(~named)])
        rows = self._without_quarantined(rows, self.quarantined.holds(rows), places)
        if rows.height and self.quarantined.bodies:
            rows = self._without_quarantined(rows, self._bodies_held(rows), places)
        for number, count in rows["place"].value_counts().iter_rows():
            places[number].missing += count
        told = rows.head(MOST_REPAIRED - len(self.passed_over)).select(self._place)
        self.passed_over += told.iter_rows()
        left = self.limit - len(self.report.missing_rows)
        self.report.missing_rows += _told(rows.sort("at").head(max(0, left)), self._place[1:])

    def _without_quarantined(
        self, rows: pl.DataFrame, held: np.ndarray, places: Sequence[Place]
    ) -> pl.DataFrame:
        for number, count in rows.filter(pl.Series(held))["place"].value_counts().iter_rows():
            places[number].quarantined += count
        return rows.filter(pl.Series(~held))

    def _bodies_held(self, rows: pl.DataFrame) -> np.ndarray:
        """Say of rows whose identity tells nothing whether their bodies are in quarantine."""
        held: set[tuple[str, ...]] = set()
        for chunk in _chunks(rows):
            with self.rows.by_time().by_place(list(chunk.select(self._place).iter_rows())) as pages:
                for page in pages:
                    texts = bodies(page, self.rows.layout).cast(pa.binary()).to_pylist()
                    places = zip(*(page[name].to_pylist() for name in self._place), strict=True)
                    held.update(
                        place
                        for place, body in zip(places, texts, strict=True)
                        if self.quarantined.holds_body(body)
                    )
        return np.array([place in held for place in rows.select(self._place).iter_rows()], dtype=bool)

    def _has_rows(self, events: pl.DataFrame) -> np.ndarray:
        """Say of each event whether the database has a row of it, on any day, due or not."""
        numbered = events.with_row_index("event")
        found = np.zeros(events.height, dtype=bool)
        for batch in self.rows.by_time().known(events["id"].to_list(), self.cursor):
            rows = _frame(batch).rename({"at": "then"})
            joined = numbered.join(rows, on=["workspace", "id"], how="inner")
            near = (pl.col("at") - pl.col("then")).abs() <= self.events.window_us
            found[joined.filter(near | pl.col("then").is_null())["event"].to_numpy()] = True
        return found

    def _only_archived(self, place: Place, events: pl.DataFrame) -> None:
        place.only_archived += events.height
        left = self.limit - len(self.report.only_archived_events)
        self.report.only_archived_events += _told(events.head(max(0, left)))


def _frame(batch: pa.RecordBatch) -> pl.DataFrame:
    at = batch["at"].cast(pa.int64())
    columns = {name: pl.Series(batch[name]) for name in batch.schema.names if name != "at"}
    return pl.DataFrame({**columns, "at": pl.Series(at)})


def _chunks(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    for start in range(0, frame.height, _ASKED_AT_ONCE):
        yield frame.slice(start, _ASKED_AT_ONCE)


def _told(frame: pl.DataFrame, keys: list[str] | None = None) -> list[Row]:
    names = ["workspace", "id", "at", *(keys or [])]
    return [Row(one[0], one[1], one[2], tuple(one[3:])) for one in frame.select(names).iter_rows()]
