"""Checkpoints: the ledger up to one commit, folded, in objects that anyone may delete.

    _ledger/checkpoints/<inverted>-<sequence>-<time>-<16 hex>.json     the manifest: small state, and parts
    _ledger/checkpoints/parts/<first>-<last>-<16 hex>-<kind>.parquet   files, removals or commits

A manifest is canonical JSON, and its name begins its digest. It names one commit of the
chain by sequence and digest: one that does not fit is left aside. `docs/format.md`,
"Checkpoints", says all of it.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import Any, Final

import rfc8785

from archiver import clock, layout
from archiver.errors import ArchiverError, ObjectNotFoundError
from archiver.ledger.checkpoint_commits import StoredCommits
from archiver.ledger.checkpoint_files import CheckpointFiles
from archiver.ledger.checkpoint_parts import CacheDamagedError, Part, PartObject
from archiver.ledger.entry import Commit, Counts, Hold, ListedObject, decode, digest_of
from archiver.store.base import ObjectInfo, Store

log = logging.getLogger(__name__)

FORMAT: Final = 1
_KEPT: Final = 2  # manifests that `collect` leaves
_TRIED: Final = 8  # manifests looked at, the newest first


@dataclass(frozen=True, slots=True)
class PartSet:
    """The parts about the commits `first` to `last`.

    Attributes:
        files: What these commits added.
        removals: What they removed of files that earlier parts hold; None where that is nothing.
        commits: One row for each.
    """

    first: int
    last: int
    files: PartObject
    removals: PartObject | None
    commits: PartObject

    def objects(self) -> list[PartObject]:
        return [self.files, self.commits, *([self.removals] if self.removals else [])]

    def to_json(self) -> dict[str, Any]:
        return {
            "first": self.first,
            "last": self.last,
            "files": self.files.to_json(),
            "removals": self.removals.to_json() if self.removals else None,
            "commits": self.commits.to_json(),
        }

    @staticmethod
    def from_json(tree: dict[str, Any]) -> PartSet:
        return PartSet(
            tree["first"],
            tree["last"],
            PartObject.from_json(tree["files"]),
            PartObject.from_json(tree["removals"]) if tree["removals"] is not None else None,
            PartObject.from_json(tree["commits"]),
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """One checkpoint: the state after the commit `sequence`. Names as in `Snapshot`."""

    sequence: int
    digest: str
    committed_us: int
    oldest_readable: int
    archive: dict[str, Any]
    cursors: dict[str, Any]
    holds: dict[str, Hold]
    totals: Counts
    live_files: int
    parts: tuple[PartSet, ...]

    def encode(self) -> bytes:
        """Return its bytes."""
        return rfc8785.dumps(
            {
                "format": FORMAT,
                "sequence": self.sequence,
                "digest": self.digest,
                "committed_at": clock.to_text(self.committed_us),
                "oldest_readable": self.oldest_readable,
                "archive": self.archive,
                "cursors": self.cursors,
                "holds": [hold.to_json() for hold in self.holds.values()],
                "totals": self.totals.to_json(),
                "live_files": self.live_files,
                "parts": [part.to_json() for part in self.parts],
            }
        )

    @staticmethod
    def decode(content: bytes, key: str) -> Manifest:
        """Read a manifest's bytes.

        Raises:
            CacheDamagedError: They are not what its name says, or of another format.
        """
        try:
            told = layout.checkpoint_of(key)
            if told is None or digest_of(content)[7:23] != told[1]:
                raise CacheDamagedError(f"{key}: its digest is another than its name says")
            tree = json.loads(content)
            if tree["format"] != FORMAT:
                raise CacheDamagedError(f"{key}: its format is not {FORMAT}")
            holds = [Hold.from_json(one) for one in tree["holds"]]
            found = Manifest(
                sequence=tree["sequence"],
                digest=tree["digest"],
                committed_us=clock.from_text(tree["committed_at"]),
                oldest_readable=tree["oldest_readable"],
                archive=tree["archive"],
                cursors=tree["cursors"],
                holds={hold.name: hold for hold in holds},
                totals=Counts(**tree["totals"]),
                live_files=tree["live_files"],
                parts=tuple(PartSet.from_json(one) for one in tree["parts"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CacheDamagedError(f"{key}: it is no checkpoint ({type(error).__name__})") from error
        ends = [-1, *(part.last for part in found.parts)]
        follow = all(part.first == end + 1 for part, end in zip(found.parts, ends, strict=False))
        if not follow or not ends[-1] == found.sequence == told[0]:
            raise CacheDamagedError(f"{key}: its parts do not hold the commits 0 to {found.sequence}")
        return found


class StoredState:
    """A checkpoint as `archiver.ledger.base.State`, or an earlier snapshot that it still holds.

    Args:
        at: The commit whose snapshot is shown, if it is not the checkpoint's own.
    """

    def __init__(self, store: Store, manifest: Manifest, at: Commit | None = None) -> None:
        self.manifest = manifest
        earlier = at is not None and at.sequence < manifest.sequence
        self.sequence = at.sequence if earlier and at is not None else manifest.sequence
        parts = [
            (
                Part(store, "files", one.files),
                Part(store, "removals", one.removals) if one.removals is not None else None,
            )
            for one in manifest.parts
            if one.first <= self.sequence
        ]
        commits = [
            (one.first, Part(store, "commits", one.commits))
            for one in manifest.parts
            if one.first <= self.sequence
        ]
        self.commits = StoredCommits(commits, self.sequence)
        self.files = CheckpointFiles(
            parts,
            self.commits,
            as_of=self.sequence if earlier else None,
            live=None if earlier else manifest.live_files,
        )
        self.archive = manifest.archive
        if earlier and at is not None:
            if self.commits.digest(at.sequence) != at.digest:
                raise CacheDamagedError(f"it knows another commit {at.sequence}")
            self.digest, self.committed_us = at.digest, at.committed_us
            self.oldest_readable = at.oldest_readable
        else:
            self.digest, self.committed_us = manifest.digest, manifest.committed_us
            self.oldest_readable = manifest.oldest_readable
        self._earlier = earlier

    @cached_property
    def small(self) -> tuple[dict[str, Any], dict[str, Hold], Counts]:
        """Cursors, holds and totals."""
        if self._earlier:
            return self.commits.cursors(), self.commits.holds(), self.commits.totals()
        return dict(self.manifest.cursors), dict(self.manifest.holds), self.manifest.totals

    @property
    def batches(self) -> Mapping[str, int]:
        return self.commits.batches

    @property
    def attempts(self) -> Mapping[str, int]:
        return self.commits.attempts

    @property
    def fenced(self) -> Iterator[str]:
        return self.commits.fenced

    @property
    def moved(self) -> Iterator[tuple[int, int]]:
        return self.commits.moved

    @property
    def quarantine(self) -> Iterator[tuple[int, ListedObject]]:
        return self.commits.quarantine

    @property
    def lists(self) -> Iterator[str]:
        return self.commits.lists


def manifests(store: Store) -> Iterator[str]:
    """Yield the keys of all manifests, the newest first."""
    for info in store.list(layout.CHECKPOINTS):
        if info.key.startswith(layout.CHECKPOINT_PARTS):
            return
        if layout.checkpoint_of(info.key) is not None:
            yield info.key


def garbage(store: Store, *, before: Callable[[], datetime]) -> list[ObjectInfo]:
    """Return what no reader needs: manifests but the newest two, and parts that those do not name.

    Args:
        before: What is younger is left alone: its manifest may be about to be written. Asked
            only if there is something.
    """
    there = list(store.list(layout.CHECKPOINTS))
    kept: set[str] = set()
    readable = 0
    for info in there:
        if layout.checkpoint_of(info.key) is None or readable == _KEPT:
            continue
        with contextlib.suppress(CacheDamagedError, ObjectNotFoundError):
            manifest = Manifest.decode(store.get(info.key), info.key)
            kept.update((info.key, *(one.key for part in manifest.parts for one in part.objects())))
            readable += 1
    loose = [info for info in there if info.key not in kept]
    if not loose:
        return []
    limit = before()
    return [info for info in loose if info.modified_at <= limit]


def newest(
    store: Store, *, at: Commit | None = None, left_aside: Collection[str] = ()
) -> tuple[str, StoredState] | None:
    """Return the newest checkpoint of this chain that can be used, with its key.

    One that cannot is named in the log, and the next is tried: a checkpoint is a cache, and
    whatever is wrong with one is no error.

    Args:
        at: The commit whose snapshot is asked for: checkpoints that hold it, or end before it.
        left_aside: Keys not to be tried.
    """
    return next(_usable(store, at, left_aside, _first_keys(store)), None)


def _first_keys(store: Store) -> Iterable[str]:
    try:
        yield from islice(manifests(store), _TRIED)
    except ArchiverError as error:
        log.warning("checkpoints of the ledger cannot be listed: %s", error.message)


def _usable(
    store: Store, at: Commit | None, left_aside: Collection[str], keys: Iterable[str]
) -> Iterator[tuple[str, StoredState]]:
    for key in keys:
        if key in left_aside:
            continue
        try:
            manifest = Manifest.decode(store.get(key), key)
            if at is not None and manifest.oldest_readable > at.sequence:
                continue  # it may have forgotten files that were live then
            own = layout.commit(manifest.sequence)
            if decode(store.get(own), own).digest != manifest.digest:
                raise CacheDamagedError(f"commit {manifest.sequence} is another one")
            yield key, StoredState(store, manifest, at)
        except ObjectNotFoundError as error:
            log.warning("checkpoint %s is left aside: not there: %s", key, error.message)
        except ArchiverError as error:
            log.warning("checkpoint %s is left aside: %s", key, error.message)
