"""What lies in the store, held against what the ledger names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from archiver import layout
from archiver.store.base import ObjectInfo, Store
from archiver.verify.chain import is_data_key
from archiver.verify.fold import State
from archiver.verify.report import Findings

CACHES: Final = (layout.CHECKPOINTS, layout.INDEX, layout.DELTA_LOG, layout.PROBES)


@dataclass(slots=True)
class _Pile:
    """Objects that are counted and no more."""

    objects: int = 0
    bytes: int = 0

    def add(self, info: ObjectInfo) -> None:
        self.objects += 1
        self.bytes += info.bytes

    def __str__(self) -> str:
        return f"{self.objects:,} object{'' if self.objects == 1 else 's'}, {self.bytes:,} bytes"


def check_listing(
    store: Store, state: State, findings: Findings, *, removed_since: Callable[[], set[str]]
) -> set[str]:
    """Report what is absent, of another size, or there without a reason.

    Args:
        removed_since: Asked only if something is absent: keys that may be, since commits
            made after the ledger was read removed them.

    Returns:
        The keys of all objects, commits apart, that are there with the right size.

    Raises:
        StoreError: The store cannot be listed.
    """
    named = _sizes(state)
    optional = {key for key, one in state.files.items() if state.may_be_absent(one)}
    listing = _Listing(state, findings)
    here: set[str] = set()
    seen: set[str] = set()
    for info in store.list():
        if info.key not in named:
            listing.unnamed(info)
            continue
        seen.add(info.key)
        if info.key in optional:
            listing.waiting.add(info)
        if info.bytes == named[info.key]:
            here.add(info.key)
            findings.report.objects += 1
            findings.report.bytes += info.bytes
        else:
            findings.damage("altered", info.key, f"{named[info.key]} bytes", f"{info.bytes} bytes")
    absent = named.keys() - seen - optional
    if absent:
        absent -= removed_since()
    for key in sorted(absent):
        findings.damage("missing", key, f"an object of {named[key]} bytes", "it is not there")
    listing.tell()
    return here


def _sizes(state: State) -> dict[str, int]:
    sizes = {key: named.file.bytes for key, named in state.files.items()}
    sizes.update((listed.key, listed.bytes) for _, listed in state.quarantine)
    sizes.update((listed.key, listed.bytes) for listed in state.lists.values())
    return sizes


class _Listing:
    """Sorts the objects that no commit names."""

    def __init__(self, state: State, findings: Findings) -> None:
        self._state = state
        self._findings = findings
        self._committed = {origin.attempt for origin in state.attempts}
        self.waiting = _Pile()
        self._unjudged = _Pile()
        self._caches = _Pile()
        self._later = _Pile()

    def unnamed(self, info: ObjectInfo) -> None:
        """Decide what an object is that the ledger does not name."""
        key = info.key
        sequence = layout.sequence_of(key)
        if sequence is not None:
            if sequence > self._state.sequence:
                self._later.add(info)  # committed since the ledger was read
            return
        if key.startswith(CACHES):
            self._caches.add(info)
            return
        origin = layout.origin_of(key)
        if origin is None or not (key.startswith((layout.QUARANTINE, layout.LISTS)) or is_data_key(key)):
            found = f"{info.bytes} bytes of another kind"
            self._findings.damage("foreign", key, "objects of an archive alone", found)
        elif origin in self._state.untold:
            self._unjudged.add(info)
        elif origin.attempt in self._committed:
            found = f"{info.bytes} bytes under the name of committed attempt {origin.attempt}"
            self._findings.damage("inserted", key, "to be named by a commit", found)
        else:
            self.waiting.add(info)

    def tell(self) -> None:
        """Note what was counted."""
        piles = (
            (self.waiting, "waiting for collect: {} of interrupted runs, or no longer needed"),
            (self._unjudged, "not judged: {} of commits whose file lists are damaged"),
            (self._caches, "not checked: {} of caches and probes, which can be rebuilt"),
            (self._later, "not checked: {} of commits made since this check began"),
        )
        for pile, text in piles:
            if pile.objects:
                self._findings.note(text.format(pile))
