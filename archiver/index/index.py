"""Looking ids up in the index as one manifest describes it."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Final, TypeVar

import numpy as np

from archiver.index.hashing import group_rows
from archiver.index.manifest import Manifest
from archiver.index.part import IndexDamagedError, Part
from archiver.store.base import Store

log = logging.getLogger(__name__)

_READERS: Final = 16
_Job = tuple[Part, tuple[int, int]]
_Found = tuple[Part, np.ndarray, np.ndarray]
_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Index:
    """The parts that a manifest names, read as far as they are asked.

    Attributes:
        manifest: What it was opened with.
        damaged: Months of which a part is missing or damaged: nothing is told of them.
    """

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self.manifest = manifest
        self.damaged: set[str] = set()
        self._store = store
        self._parts = {
            month: [Part(store, entry) for entry in entries]
            for month, entries in groupby(sorted(manifest.parts, key=_month), key=_month)
        }

    @property
    def months(self) -> set[str]:
        """The months of which it tells something."""
        return set(self._parts)

    def probe(self, wanted: Mapping[str, np.ndarray]) -> dict[str, list[tuple[str, np.ndarray]]]:
        """Return, by month, file keys and the positions in the month's hashes that may lie in each.

        A month that turns out to be damaged is missing in the answer, and in `damaged` afterwards.

        Args:
            wanted: Month -> hashes to look for in it, in ascending order.
        """
        asked = {month: hashes for month, hashes in wanted.items() if month not in self.damaged}
        parts = [part for month in asked for part in self._parts.get(month, [])]
        planned = self._each(lambda part: part.extents(asked[part.entry.month]), parts)
        jobs = [(part, extent) for part, extents in planned for extent in extents]
        found = self._each(lambda job: job[0].look(job[1], asked[job[0].entry.month]), jobs, _part_of)
        by_part: dict[int, list[_Found]] = defaultdict(list)
        for (part, _), (positions, files) in found:
            if len(files):
                by_part[id(part)].append((part, positions, files))
        named = self._each(_named, by_part.values(), lambda hits: hits[0][0])
        told: dict[str, list[tuple[str, np.ndarray]]] = {
            month: [] for month in asked if month not in self.damaged
        }
        for hits, keys in named:
            month = hits[0][0].entry.month
            if month in told:
                told[month].extend(keys)
        return told

    def _each(
        self,
        work: Callable[[_In], _Out],
        things: Iterable[_In],
        part_of: Callable[[_In], Part] = lambda thing: thing,  # type: ignore[assignment,return-value]
    ) -> list[tuple[_In, _Out]]:
        """Do `work` for each, where the store is far away in several threads. Damage ends a month."""
        things = [thing for thing in things if part_of(thing).entry.month not in self.damaged]

        def guarded(thing: _In) -> _Out | IndexDamagedError:
            try:
                return work(thing)
            except IndexDamagedError as error:
                return error

        if len(things) > 1 and self._store.local_path("x") is None:
            with ThreadPoolExecutor(min(_READERS, len(things))) as readers:
                results = list(readers.map(guarded, things))
        else:
            results = [guarded(thing) for thing in things]
        done = []
        for thing, result in zip(things, results, strict=True):
            if not isinstance(result, IndexDamagedError):
                done.append((thing, result))
            elif result.month not in self.damaged:
                log.warning("%s; deciding without it", result.message)
                self.damaged.add(result.month)
        return done


def _month(entry: object) -> str:
    return str(entry.month)  # type: ignore[attr-defined]


def _part_of(job: _Job) -> Part:
    return job[0]


def _named(hits: list[_Found]) -> list[tuple[str, np.ndarray]]:
    """Return by file key what was found in one part."""
    part = hits[0][0]
    files = np.concatenate([each[2] for each in hits])
    rows = group_rows(files, np.concatenate([each[1] for each in hits]))
    return list(zip(part.keys(np.array(list(rows))), rows.values(), strict=True))
