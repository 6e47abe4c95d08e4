"""The commit protocol, steps 3 and 4. See docs/design.md; a search of it is among the tests.

The order of the checks, the slot and the repeated put are what makes an event archived
once. Change nothing here without `tests/properties/commit_model`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from archiver import clock, layout
from archiver.errors import (
    CommitConflictError,
    CommitStateUnknownError,
    ObjectNotFoundError,
    PreconditionFailedError,
    StoreError,
    WriteOutcomeUnknownError,
)
from archiver.ledger.entry import Commit, Content, digest_of
from archiver.ledger.ledger import Ledger
from archiver.ledger.snapshot import Snapshot
from archiver.store.base import Store

SLOTS_TRIED = 50
PUTS_TRIED = 12
_LONGEST_PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Committed:
    """Our content is in the ledger, by us, just now."""

    commit: Commit


@dataclass(frozen=True, slots=True)
class AlreadyCommitted:
    """Our batch is in the ledger, by this or another attempt: acknowledge, nothing else."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Fenced:
    """Somebody declared our attempt dead: stop. Its files will be collected."""


@dataclass(frozen=True, slots=True)
class PlanAgain:
    """The state at the head no longer fits what we planned."""

    why: str


Outcome = Committed | AlreadyCommitted | Fenced | PlanAgain


def commit(
    ledger: Ledger,
    content: Content,
    *,
    seen: int,
    collides: Callable[[Sequence[Commit]], bool] = lambda _: False,
    refit: Callable[[Snapshot, Content], Content | None] | None = None,
    oldest_readable: int = 0,
    pause: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Validate `content` against the head and put it at the next slot, until one of us has it.

    Args:
        ledger: Is refreshed, and holds our commit afterwards.
        seen: The head's sequence against which identities were decided.
        collides: Says whether these commits, all behind `seen`, added or supplemented
            an identity that `content` adds or supplements.
        refit: Fits the content to a newer head, where it may shrink; None is nothing left to say.
        oldest_readable: The new value, if this commit raises it; it never falls.

    Raises:
        CommitConflictError: Others won every slot we tried; nothing of ours is in the ledger.
        CommitStateUnknownError: The store answered neither way; it may have landed. Nothing
            was deleted, and running again is safe.
        StoreError: The store refused the first put; nothing was written.
    """
    for _ in range(SLOTS_TRIED):
        # (3) validate up to the head; the folded state holds every batch and fence since the first commit
        head = ledger.refresh()
        if content.batch in head.batches:
            return AlreadyCommitted(head.batches[content.batch])
        if content.attempt in head.fenced:
            return Fenced()
        if refit is not None:
            fitted = refit(head, content)
            if fitted is None:
                return PlanAgain("nothing is left to commit")
            content = fitted
        if why := _misfit(head, content):
            return PlanAgain(why)
        behind_seen = [entry for entry in ledger.since(seen) if entry.content.added]
        if behind_seen and collides(behind_seen):
            return PlanAgain("another commit added an identity of this batch meanwhile")
        seen = head.sequence
        # (4) commit at exactly (last commit validated) + 1
        entry = Commit(
            sequence=head.sequence + 1,
            previous=head.digest,
            committed_us=max(clock.now_us(), head.committed_us),
            oldest_readable=max(head.oldest_readable, oldest_readable),
            content=content,
        )
        if put_in_slot(ledger.store, entry, pause=pause):
            written = replace(entry, digest=digest_of(entry.encode()))
            ledger.follow(written)
            return Committed(written)
    raise CommitConflictError(
        f"{SLOTS_TRIED} commits of others came first; nothing was written",
        hint="run again; if it happens often, run fewer writers at once",
    )


def _misfit(head: Snapshot, content: Content) -> str | None:
    """Return why `content` cannot be committed upon `head`, or None."""
    source = content.source
    if source.get("after") is not None and head.cursors.get(source["name"]) != source.get("before"):
        return f"the cursor of {source['name']} has moved"
    going = head.files.find(content.removed)
    if len(going) < len(content.removed):
        return "a file that would be removed is no longer live"
    if content.operation == "expire":
        for hold in head.holds.values():
            if any(hold.covers(file) for file in going.values()):
                return f"the hold {hold.name} covers a file that would expire"
    if not head.moved.isdisjoint(content.moved):
        return "a quarantined entry was moved already"
    return None


def put_in_slot(store: Store, entry: Commit, *, pause: Callable[[float], None] = time.sleep) -> bool:
    """Put a commit at its slot; return True if our bytes hold it, False if another's do.

    Whatever the answer to a put was, the slot itself is asked. Absent is unknown: the same
    bytes are put again, since an earlier put may yet land.

    Raises:
        CommitStateUnknownError: Neither a put nor a read gave an answer.
        StoreError: The first put was refused (a permission, a full disk); nothing was written.
    """
    key, content = layout.commit(entry.sequence), entry.encode()
    for attempt in range(PUTS_TRIED):
        try:
            store.put_once(key, content)
        except (PreconditionFailedError, WriteOutcomeUnknownError):
            pass  # either may be our own bytes: the slot says
        except StoreError:
            if attempt == 0:
                raise  # refused, or a full disk: surely not written, and nothing of ours is on its way
        else:
            return True
        try:
            found = store.get(key)
        except ObjectNotFoundError:
            pass
        except StoreError:
            pass  # cannot read now: unknown, put again
        else:
            if found == content:
                store.settle()
            return found == content
        pause(min(_LONGEST_PAUSE_SECONDS, 0.05 * 2**attempt) * (0.5 + random.random() / 2))  # noqa: S311 - jitter
    raise CommitStateUnknownError(
        f"{key}: no answer from the store after {PUTS_TRIED} tries; the commit may have landed",
        hint="run again: the next run finds out, and nothing is archived twice",
    )
