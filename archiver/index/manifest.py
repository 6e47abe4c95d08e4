"""Which objects the index is made of, up to which commit: one manifest, found by one listing.

A manifest is canonical JSON and is named by its own digest, so a damaged one is noticed. It
names the digest of the commit that it goes up to: an index of another chain is left aside.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final

import rfc8785

from archiver import layout
from archiver.errors import ObjectNotFoundError
from archiver.index.part import PartEntry
from archiver.ledger import shape
from archiver.ledger.ledger import Ledger
from archiver.store.base import ObjectInfo, Store

log = logging.getLogger(__name__)

FORMAT: Final = 1
HASH: Final = "xxh3-64"
_LOOKED_AT: Final = 32
_KEPT: Final = 2


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is indexed.

    Attributes:
        sequence: Everything is, up to this commit.
        commit: That commit's digest.
        parts: The objects.
        key: Its own; empty before it is written.
    """

    sequence: int
    commit: str
    parts: tuple[PartEntry, ...]
    key: str = ""

    def encode(self) -> bytes:
        return rfc8785.dumps(
            {
                "format": FORMAT,
                "hash": HASH,
                "sequence": self.sequence,
                "commit": self.commit,
                "parts": [part.to_json() for part in self.parts],
            }
        )


def put(store: Store, sequence: int, commit: str, parts: tuple[PartEntry, ...]) -> Manifest:
    """Write a manifest; its parts are there already."""
    content = Manifest(sequence, commit, parts).encode()
    key = layout.index_head(sequence, time.time_ns() // 1_000_000, _check(content))
    store.put(key, content)
    return Manifest(sequence, commit, parts, key)


def newest(ledger: Ledger, *, up_to: int) -> Manifest | None:
    """Return the newest manifest of this chain that goes no further than the commit `up_to`.

    One that goes further does not fit a snapshot at `up_to`: what a later commit removed may
    have been dropped from it. A manifest that cannot be used is told in the log and left aside.
    """
    listed = ledger.store.list(layout.INDEX_HEADS, start_after=layout.before_index_heads(up_to))
    for info in islice(listed, _LOOKED_AT):
        named = layout.index_head_of(info.key)
        if named is None or named[0] > up_to:
            continue
        found = _read(ledger.store, info.key, *named)
        if found is None:
            continue
        if _digest_at(ledger, found.sequence) == found.commit:
            return found
        log.warning("%s: an index of another chain; left aside", info.key)
    return None


def _digest_at(ledger: Ledger, sequence: int) -> str:
    head = ledger.snapshot
    if sequence == head.sequence:
        return head.digest
    return next(iter(ledger.since(sequence - 1))).digest


def _read(store: Store, key: str, sequence: int, check: str) -> Manifest | None:
    try:
        content = store.get(key)
    except ObjectNotFoundError:
        return None  # collected since it was listed
    try:
        if _check(content) != check:
            raise ValueError("its digest is not the one in its name")
        tree = shape.parse(content)
        if shape.count(tree, "format") != FORMAT or tree["hash"] != HASH:
            raise ValueError("another format")
        if shape.count(tree, "sequence") != sequence:
            raise ValueError("it goes up to another commit than its name says")
        parts = tuple(PartEntry.from_json(part) for part in shape.array(tree, "parts", dict))
        return Manifest(sequence, shape.digest(tree, "commit"), parts, key)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        log.warning("%s: no manifest of the index (%s); left aside", key, error)
        return None


def _check(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def garbage(store: Store, *, before: Callable[[], datetime]) -> list[ObjectInfo]:
    """Return the objects that no reader needs: old manifests, and parts that the newest two do not name.

    Args:
        before: What is younger is left alone: its manifest may be about to be written. Asked
            only if there is something.
    """
    heads = list(store.list(layout.INDEX_HEADS))
    kept: set[str] = set()
    readable = 0
    for info in heads:
        named = layout.index_head_of(info.key)
        found = _read(store, info.key, *named) if named is not None and readable < _KEPT else None
        if found is not None:
            readable += 1
            kept.update((info.key, *(part.key for part in found.parts)))
    loose = [info for info in (*heads, *store.list(layout.INDEX_RUNS)) if info.key not in kept]
    if not loose:
        return []
    limit = before()
    return [info for info in loose if info.modified_at <= limit]
