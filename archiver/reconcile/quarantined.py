"""Rows of one source that are in quarantine: not archived, and not lost."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from xxhash import xxh3_64_intdigest, xxh3_128_intdigest

from archiver.archive import Archive
from archiver.database.mapping import TIMES
from archiver.event import parse_instant
from archiver.index import hashing
from archiver.partition import DAY_US
from archiver.quarantine import QuarantineEntry
from archiver.requeue import entries


@dataclass(slots=True)
class QuarantinedRows:
    """What of a source lies in quarantine, by identity, by body, and by day.

    Attributes:
        counts: (workspace, day) -> how many rows; conflicts apart, since their ids are archived.
        identities: Hashes of (workspace, id), of rows whose identity could be read.
        bodies: Hashes of the bodies of the others.
    """

    counts: Counter[tuple[str | None, int]] = field(default_factory=Counter)
    identities: set[int] = field(default_factory=set)
    bodies: set[int] = field(default_factory=set)

    def add(self, entry: QuarantineEntry) -> None:
        """Count a row in; one that was rejected twice counts once."""
        found = entry.rejection
        if found.event_id is not None and found.workspace_id is not None:
            seed = hashing.seed_of(found.workspace_id)
            known, name = self.identities, xxh3_64_intdigest(found.event_id.encode(), seed)
        else:
            known, name = self.bodies, xxh3_128_intdigest(found.body)
        if name in known:
            return
        known.add(name)
        day = _day_of(found.body)
        if day is not None and found.reason != "conflict":
            self.counts[found.workspace_id, day] += 1

    def holds(self, rows: pl.DataFrame) -> np.ndarray:
        """Return for each row, with its `workspace` and `id`, whether its identity is in quarantine."""
        held = np.zeros(rows.height, dtype=bool)
        named = np.flatnonzero(rows["workspace"].is_not_null() & rows["id"].is_not_null())
        if self.identities and len(named):
            known = np.fromiter(self.identities, dtype=np.uint64, count=len(self.identities))
            some = rows[named]
            held[named] = np.isin(hashing.hash_ids(some["id"], some["workspace"]), known)
        return held

    def holds_body(self, body: bytes) -> bool:
        return xxh3_128_intdigest(body) in self.bodies


def quarantined_rows(archive: Archive, source: str) -> QuarantinedRows:
    """Read what of `source` is in quarantine now."""
    found = QuarantinedRows()
    for entry in entries(archive, lambda one: one.source == source and one.rejection.shape == "row"):
        found.add(entry)
    return found


def _day_of(body: bytes) -> int | None:
    """Return the day on which a row's time lies, as far as its body can be read."""
    try:
        tree: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(tree, dict):
        return None
    told = next((tree[name] for name in TIMES if tree.get(name) is not None), None)
    instant = parse_instant(told) if isinstance(told, str) else None
    return None if instant is None else instant.microseconds // DAY_US
