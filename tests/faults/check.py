"""The one check after every fault: nothing lost, nothing twice, nothing unreachable, and `verify` agrees."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

from archiver import layout
from archiver.archive import Archive, open_archive
from archiver.collect import collect
from archiver.live import CONSUMERS
from archiver.requeue import entries
from archiver.store.base import Store
from archiver.verify import verify
from tests.support import ids_of


def check_archive(
    store: Store,
    *,
    events: Counter[str] | set[str],
    rejected: Counter[bytes] | None = None,
    expiring: frozenset[str] | set[str] = frozenset(),
) -> Archive:
    """Hold an archive against what was delivered to it.

    Args:
        events: The ids of all valid events that were delivered (however often).
        rejected: The bodies that must be in quarantine, and how often; None leaves them out.
        expiring: Ids among `events` that may be gone: an expiry of them was begun.
    """
    archive = open_archive(store)
    totals = archive.ledger.snapshot.totals
    assert totals.adds_up(), totals
    found = ids_of(archive)
    gone = set(events) - set(found)
    assert gone <= expiring, _difference(found, events)
    assert found == sorted(set(events) - gone), _difference(found, events)
    if rejected is not None:
        kept = Counter(entry.rejection.body for entry in entries(archive))
        assert kept == rejected, (kept - rejected, rejected - kept)
    collect(archive, grace=timedelta(0), force=True)
    head = archive.ledger.refresh()
    reachable = head.reachable()
    unreachable = [
        info.key
        for info in store.list()
        if info.key not in reachable
        and layout.sequence_of(info.key) is None
        and not info.key.startswith((layout.CHECKPOINTS, layout.INDEX, layout.DELTA_LOG, layout.PROBES))
    ]
    assert not unreachable, unreachable
    report = verify(store)
    assert not report.damages, report.damages
    return archive


def _difference(found: list[str], events: Counter[str] | set[str]) -> str:
    there, wanted = Counter(found), set(events)
    lost = sorted(wanted - there.keys())
    strange = sorted(there.keys() - wanted)
    twice = sorted(one for one, count in there.items() if count > 1)
    told = {"lost": lost, "twice": twice, "strange": strange}
    return ", ".join(f"{name} {ids[:5]} ({len(ids)})" for name, ids in told.items())


def spool_is_empty(folder: Path) -> bool:
    """Say whether nothing is left to be archived, and no claim is held."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return not [path for path in paths if path.parts[0] != CONSUMERS and not _is_hidden(path)]


def _is_hidden(path: Path) -> bool:
    return path.parts[0].startswith(".") or path.name.startswith(".")
