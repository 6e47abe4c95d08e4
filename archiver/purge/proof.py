"""Which rows of a page the archive holds, every member of them; and of the others, why they stay.

A row is proven if a verified file holds its very body, or if the archived event and its
supplements, all out of verified files, say everything that it says. Files count only where a
commit vouches for them: neither the index nor a checkpoint has a word in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa

from archiver import clock, compare
from archiver.archive import Archive
from archiver.block import RowBlock
from archiver.database.base import KEY
from archiver.database.fetched import Layout
from archiver.database.old import VERSION
from archiver.identity import Known, twin_of
from archiver.index.known import Background
from archiver.ledger.entry import DataFile
from archiver.purge.report import Reason, Stayed
from archiver.purge.verified import VerifiedFiles
from archiver.validate import Rules, Validator

_MOST_MISSING: Final = 10
_LONGEST_DETAIL: Final = 1_000


@dataclass(slots=True)
class Row:
    """A row of a page, and what is known of it.

    Attributes:
        key, version: As the page holds them.
        day: UTC day of its time, `2026-03-26`; empty for what is no event.
        reason: Why it stays; None if it may be deleted.
        detail: What exactly, for people. May quote the row, so it is data.
        files: Keys of the data files that prove it.
    """

    key: tuple[str, ...]
    version: str
    workspace: str = ""
    id: str = ""
    day: str = ""
    reason: Reason | None = None
    detail: str = ""
    files: tuple[str, ...] = ()

    @property
    def example(self) -> Stayed:
        return Stayed(self.key, self.workspace, self.id, self.detail)


class Proof:
    """Proves pages of rows against the head that the archive's ledger is at.

    Args:
        rules: By which rows of this source are judged; what they refuse is in quarantine.
        before_us: Rows of this time or later stay.
        layout, keys: Of the pages.
    """

    def __init__(
        self,
        archive: Archive,
        verified: VerifiedFiles,
        rules: Rules,
        *,
        before_us: int,
        layout: Layout,
        keys: int,
    ) -> None:
        self._archive = archive
        self._verified = verified
        self._before_us = before_us
        self._layout = layout
        self._keys = keys
        # By our own schemas alone: a user's may be stricter now than when a row was archived.
        self._validator = Validator(Rules(source=rules.source))
        self._users = Validator(rules) if rules.schemas else None

    def prove(self, page: pa.RecordBatch) -> list[Row]:
        """Return what is known of each row of `page`, in its order.

        Raises:
            FileVanishedError: A file of the head is not there any more: begin anew, with a newer head.
            IntegrityError: A file is not what the ledger says, or no commit vouches for it.
        """
        keys = zip(*(page[f"{KEY}{number}"].to_pylist() for number in range(self._keys)), strict=True)
        rows = [Row(key, version) for key, version in zip(keys, page[VERSION].to_pylist(), strict=True)]
        verdict = self._validator.validate_rows(RowBlock(0, page, self._layout, 0, clock.now_us()))
        for rejection in verdict.rejections:
            row = rows[rejection.ordinal]
            row.reason, row.detail = "in_quarantine", f"{rejection.reason}: {rejection.detail}"
            row.workspace, row.id = rejection.workspace_id or "", rejection.event_id or ""
        events = verdict.tables.get("events")
        if events is not None:
            self._prove_events(pa.Table.from_batches([events]), rows)
            self._blame_users_rules(page, rows)
        return rows

    def _prove_events(self, events: pa.Table, rows: list[Row]) -> None:
        times = events["event_time"].cast(pa.int64()).to_numpy()
        days = np.datetime_as_string(times.astype("datetime64[us]"), unit="D").tolist()
        named = (events[name].to_pylist() for name in ("ordinal", "workspace_id", "id"))
        told = zip(*named, days, (times >= self._before_us).tolist(), strict=True)
        for number, workspace, event_id, day, is_new in told:
            row = rows[number]
            row.workspace, row.id, row.day = workspace, event_id, day
            row.reason = "too_new" if is_new else "not_archived"
        old = events.filter(pa.array(times < self._before_us))
        if old.num_rows:
            _OldEvents(
                self._archive, self._verified, old, [rows[n] for n in old["ordinal"].to_pylist()]
            ).prove()

    def _blame_users_rules(self, page: pa.RecordBatch, rows: list[Row]) -> None:
        """Say of rows that are not archived if the user's own schema refuses them."""
        missing = [number for number, row in enumerate(rows) if row.reason == "not_archived"]
        if self._users is None or not missing:
            return
        block = RowBlock(0, page.take(pa.array(missing)), self._layout, 0, clock.now_us())
        for rejection in self._users.validate_rows(block).rejections:
            row = rows[missing[rejection.ordinal]]
            row.reason, row.detail = "in_quarantine", f"{rejection.reason}: {rejection.detail}"


class _OldEvents:
    """Rows that are events and old enough; `rows` takes up what is found out."""

    def __init__(self, archive: Archive, verified: VerifiedFiles, events: pa.Table, rows: list[Row]) -> None:
        self._identities = archive.identities
        self._verified = verified
        self._background = Background(archive.ledger.snapshot)
        self._rows = rows
        self._bodies: list[bytes] = events["body"].cast(pa.binary()).to_pylist()
        self._times: list[int] = events["event_time"].cast(pa.int64()).to_pylist()
        frame = pl.DataFrame(
            {
                "workspace": [row.workspace for row in rows],
                "id": [row.id for row in rows],
                "at": self._times,
            },
            schema={"workspace": pl.String, "id": pl.String, "at": pl.Int64},
        )
        hits = self._identities.hits(frame, self._background)
        files = self._background.find(hits)
        self._hits: list[tuple[DataFile, np.ndarray]] = [
            (files[key], hits[key])
            for key in sorted(hits)
            if files[key].partition.dataset in ("events", "supplements")
        ]

    def prove(self) -> None:
        self._by_bodies()
        self._by_trees()
        used = {key for row in self._rows for key in row.files}
        self._identities.vouch([file for file, _ in self._hits if file.key in used], self._background)

    def _by_bodies(self) -> None:
        """The quick way: a file holds the row's own body, byte for byte."""
        digests = self._verified.digests(self._bodies)
        is_open = np.ones(len(self._rows), dtype=bool)
        for file, numbers in self._hits:
            asked = numbers[is_open[numbers]]
            if not len(asked):
                continue
            for number in asked[self._verified.holds(file, digests[asked])].tolist():
                is_open[number] = False
                self._rows[number].reason, self._rows[number].files = None, (file.key,)

    def _by_trees(self) -> None:
        """The other rows: all that the archive says of the event, member by member."""
        archived: dict[tuple[str, str], Known] = defaultdict(Known)
        window_us = self._identities.window_us
        for file, numbers in self._hits:
            ids = {self._rows[n].id for n in numbers.tolist() if self._rows[n].reason is not None}
            if ids:
                for one in self._verified.rows(file, ids).to_pylist():
                    archived[file.partition.workspace, one["id"]].twins.append(twin_of(one, file))
        for number, row in enumerate(self._rows):
            if row.reason is None:
                continue
            known = archived.get((row.workspace, row.id))
            base = None if known is None else known.base_of(self._times[number], window_us)
            if known is None or base is None:
                continue
            before = known.tree(base, window_us)
            tree = compare.canonical_tree(self._bodies[number], "row")
            match compare.compare(before, tree):
                case "duplicate":
                    proof = (base, *known.supplements(base, window_us))
                    row.reason, row.files = None, tuple({one.where for one in proof})
                case "supplement":
                    names = list(_missing(before, tree))
                    told = ", ".join(names[:_MOST_MISSING]) + (" and more" if names[_MOST_MISSING:] else "")
                    row.reason, row.detail = "differs", f"not in the archive: {told}"[:_LONGEST_DETAIL]
                case "conflict":
                    told = "; ".join(compare.difference(before, tree)).replace(", delivered ", ", now ")
                    row.reason, row.detail = "differs", told[:_LONGEST_DETAIL]


def _missing(known: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield the members of `new` that `known` does not have."""
    for name, value in new.items():
        if name not in known:
            yield path + name
        elif isinstance(value, dict) and isinstance(known[name], dict):
            yield from _missing(known[name], value, f"{path}{name}.")
