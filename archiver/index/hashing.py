"""The hash of an identity, and how sorted hashes are held against each other.

The hash is XXH3-64 (specified with xxHash) over the id's UTF-8, with XXH3-64 of the
workspace's UTF-8 as its seed. It stands in objects of the index, so it never changes:
another one would be another format.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import repeat
from typing import Final

import numpy as np
import polars as pl
from xxhash import xxh3_64_intdigest

_ROWS_AT_ONCE: Final = 65_536  # ids as Python objects take 70 bytes and more each


def hash_ids(ids: pl.Series, workspaces: str | pl.Series) -> np.ndarray:
    """Return the 64-bit hash of each id.

    Args:
        ids: Texts.
        workspaces: The workspace of each id, or one that all have.
    """
    hashes = np.empty(len(ids), dtype=np.uint64)
    seeds: dict[str, int] = {}
    if not isinstance(workspaces, str):
        seeds = {name: seed_of(name) for name in workspaces.unique().to_list()}
        if len(seeds) == 1:
            workspaces = next(iter(seeds))
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        part = ids.slice(start, _ROWS_AT_ONCE).cast(pl.Binary).to_list()
        each: Iterable[int]
        if isinstance(workspaces, str):
            each = repeat(seed_of(workspaces))
        else:
            each = map(seeds.__getitem__, workspaces.slice(start, _ROWS_AT_ONCE).to_list())
        found = np.fromiter(map(xxh3_64_intdigest, part, each), dtype=np.uint64, count=len(part))
        hashes[start : start + len(part)] = found
    return hashes


@lru_cache(maxsize=10_000)
def seed_of(workspace: str) -> int:
    """Return the seed of a workspace's hashes."""
    return xxh3_64_intdigest(workspace.encode())


def matches(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of positions at which two ascending arrays hold the same value."""
    if len(left) > len(right):
        there, here = matches(right, left)
        return here, there
    if not len(left):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    first = np.searchsorted(right, left, side="left")
    here = np.flatnonzero(right[np.minimum(first, len(right) - 1)] == left)
    if not len(here):
        return here, here
    first = first[here]
    counts = np.searchsorted(right, left[here], side="right") - first
    if int(counts.max()) == 1:
        return here, first
    behind = np.cumsum(counts)
    there = np.arange(int(behind[-1])) + np.repeat(first - (behind - counts), counts)
    return np.repeat(here, counts), there


def group_rows(files: np.ndarray, rows: np.ndarray) -> dict[int, np.ndarray]:
    """Return, by file number, the rows that were found in it: each once, ascending."""
    if not len(files):
        return {}
    order = np.lexsort((rows, files))
    files, rows = files[order], rows[order]
    cuts = np.flatnonzero(np.diff(files)) + 1
    parts = np.split(rows, cuts)
    return {int(files[start]): np.unique(part) for start, part in zip([0, *cuts], parts, strict=True)}
