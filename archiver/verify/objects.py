"""Every object's bytes: read in a few threads, some hundred megabytes at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import Final, TypeVar

import numpy as np

from archiver import layout
from archiver.errors import ObjectNotFoundError, StoreError
from archiver.ledger.entry import ListedObject
from archiver.progress import Progress
from archiver.store.base import Store
from archiver.verify.content import Checked, check_data_file, check_quarantine_file
from archiver.verify.fold import Named, State
from archiver.verify.identities import Workspace
from archiver.verify.origins import Origins
from archiver.verify.report import Findings

BYTES_IN_FLIGHT: Final = 192 << 20

T = TypeVar("T")


def check_objects(
    store: Store, state: State, here: set[str], *, findings: Findings, progress: Progress, threads: int
) -> None:
    """Read and check the data and quarantine files in `here`; others are known to be damaged."""
    quarantined = [(sequence, one) for sequence, one in state.quarantine if one.key in here]
    data = sorted(
        (one for key, one in state.files.items() if key in here),
        key=lambda one: (_workspace(one), one.file.key),
    )
    total = sum(one.bytes for _, one in quarantined) + sum(one.file.bytes for one in data)
    progress.start("reading the objects", total)
    try:
        with ThreadPoolExecutor(threads, thread_name_prefix="verify") as readers:
            objects = _Objects(
                store, state, findings=findings, progress=progress, readers=readers, threads=threads
            )
            objects.check_quarantine(quarantined)
            objects.check_data(data)
    finally:
        progress.finish()


def _workspace(named: Named) -> str:
    return named.file.partition.workspace


class _Objects:
    def __init__(
        self,
        store: Store,
        state: State,
        *,
        findings: Findings,
        progress: Progress,
        readers: ThreadPoolExecutor,
        threads: int,
    ) -> None:
        self._store = store
        self._state = state
        self._findings = findings
        self._progress = progress
        self._readers = readers
        self._most_jobs = threads * 2

    def check_quarantine(self, quarantined: list[tuple[int, ListedObject]]) -> None:
        """Check quarantine files, and that what was moved out of them was in them."""
        known: dict[int, list[np.ndarray]] = {}
        unknown = {sequence for sequence, _ in self._state.quarantine}
        unknown -= {sequence for sequence, _ in quarantined}
        jobs = ((one.bytes, partial(self._read_quarantine, one, sequence)) for sequence, one in quarantined)
        for (sequence, _), ordinals in zip(quarantined, self._in_order(jobs), strict=True):
            if ordinals is None:
                unknown.add(sequence)
            else:
                known.setdefault(sequence, []).append(ordinals)
        unknown.update(
            sequence
            for sequence, count in _per_commit(self._state.quarantine).items()
            if len(known.get(sequence, ())) < count
        )
        entries = {sequence: np.concatenate(parts) for sequence, parts in known.items()}
        for sequence, ordinals in entries.items():
            again = len(ordinals) - len(np.unique(ordinals))
            if again:
                expected = "every quarantined ordinal once"
                self._findings.damage("duplicated", layout.commit(sequence), expected, f"{again} again")
        for (sequence, ordinal), moved_by in self._state.moved.items():
            there = sequence in entries and bool((entries[sequence] == ordinal).any())
            if not there and sequence not in unknown and self._state.complete:
                expected = f"quarantined entry {sequence}:{ordinal}, which it moved"
                self._findings.damage("missing", layout.commit(moved_by), expected, "there never was one")

    def _read_quarantine(self, listed: ListedObject, sequence: int) -> np.ndarray | None:
        content = self._get(listed.key)
        return None if content is None else check_quarantine_file(content, listed, sequence, self._findings)

    def check_data(self, data: list[Named]) -> None:
        """Check data files, and the identities of the live ones, workspace by workspace."""
        live_anywhere: dict[str, int] = {}
        for one in self._state.files.values():
            if one.removed_by is None:
                live_anywhere[_workspace(one)] = live_anywhere.get(_workspace(one), 0) + 1
        expired = self._state.operations["expire"] > 0
        beyond = unread = 0
        results = self._in_order((one.file.bytes, partial(self._read_data, one)) for one in data)
        for workspace, group in groupby(data, key=_workspace):
            files = list(group)
            live = [one for one in files if one.removed_by is None]
            identities = Workspace(self._findings, self._state.window_days)
            number = 0
            all_read = len(live) == live_anywhere.get(workspace, 0)
            for one, checked in zip(files, results, strict=False):
                self._findings.report.rows += checked.rows
                if one.removed_by is not None:
                    continue
                if checked.identities is None:
                    all_read = False
                else:
                    checked.identities["file"] = number
                    identities.add(checked.identities)
                number += 1
            unread += not all_read
            identities.check(
                [one.file for one in live],
                [one.added_by for one in live],
                self._store.get,
                all_read=all_read and not expired,
            )
            beyond += identities.beyond
        self._note(beyond, unread)

    def _note(self, beyond: int, unread: int) -> None:
        if beyond:
            self._findings.note(
                f"{beyond:,} rows repeat an id of their workspace beyond the identity window of "
                f"{self._state.window_days} days: taken for different events"
            )
        if unread:
            self._findings.note(
                f"in {unread:,} workspaces not all files could be read: repeats may be among their rows"
            )

    def _read_data(self, named: Named) -> Checked:
        content = self._get(named.file.key)
        if content is None:
            return Checked(0, None)
        key, state = named.file.key, self._state
        is_first = key not in state.originals
        originals = {} if is_first else state.originals_of(key)
        origins = Origins(key, originals, self._findings, is_first=is_first)
        return check_data_file(content, named.file, origins, self._findings)

    def _get(self, key: str) -> bytes | None:
        """Return an object's bytes; None, and reported, if the store does not give them."""
        try:
            return self._store.get(key)
        except ObjectNotFoundError:
            self._findings.damage("missing", key, "an object", "it vanished during this check")
        except StoreError as error:
            self._findings.cannot_read(key, error)
        return None

    def _in_order(self, jobs: Iterable[tuple[int, Callable[[], T]]]) -> Iterator[T]:
        """Run jobs that read so many bytes each in the threads; yield their results in order."""
        waiting: deque[tuple[int, Future[T]]] = deque()
        in_flight = 0

        def take() -> T:
            nonlocal in_flight
            size, future = waiting.popleft()
            result = future.result()
            in_flight -= size
            self._progress.advance(bytes_done=size)
            return result

        for size, job in jobs:
            while waiting and (in_flight + size > BYTES_IN_FLIGHT or len(waiting) >= self._most_jobs):
                yield take()
            waiting.append((size, self._readers.submit(job)))
            in_flight += size
        while waiting:
            yield take()


def _per_commit(quarantined: list[tuple[int, ListedObject]]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for sequence, _ in quarantined:
        counts[sequence] = counts.get(sequence, 0) + 1
    return counts
