"""What a snapshot begins with: a state that was folded before, and stays.

Normally that is a checkpoint, which is a cache: parts of it may vanish or be damaged at any
time. Then the state is made anew from other checkpoints or from the commits, and whoever
asked does not notice.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

from archiver import layout
from archiver.ledger.checkpoint_parts import CacheDamagedError
from archiver.ledger.entry import DataFile, ListedObject
from archiver.ledger.files import Entry, PartitionSize, StoredFiles, Volume

log = logging.getLogger(__name__)
_T = TypeVar("_T")


class State(Protocol):
    """What must be known of the commits up to one; names as in `archiver.ledger.snapshot.Snapshot`."""

    @property
    def files(self) -> StoredFiles: ...
    @property
    def batches(self) -> Mapping[str, int]: ...
    @property
    def attempts(self) -> Mapping[str, int]: ...
    @property
    def fenced(self) -> Iterable[str]: ...
    @property
    def moved(self) -> Iterable[tuple[int, int]]: ...
    @property
    def quarantine(self) -> Iterable[tuple[int, ListedObject]]: ...
    @property
    def lists(self) -> Iterable[str]: ...


class Base:
    """A state that can be made again if it turns out to be damaged.

    Args:
        state: As it was found.
        again: Makes it anew without what was damaged. Called each time that something is.
    """

    def __init__(self, state: State, again: Callable[[], State]) -> None:
        self._state = state
        self._again = again
        self._lock = threading.Lock()

    def ask(self, question: Callable[[State], _T]) -> _T:
        """Return the answer of a state that is whole. The question must read to its end."""
        while True:
            state = self._state
            try:
                return question(state)
            except CacheDamagedError as error:
                with self._lock:
                    if self._state is state:  # nobody else noticed first
                        log.warning("a checkpoint of the ledger is left aside: %s", error.message)
                        self._state = self._again()

    @property
    def files(self) -> StoredFiles:
        return _FilesOf(self)


class _FilesOf:
    """The files of a base, whatever becomes of its state."""

    def __init__(self, base: Base) -> None:
        self._base = base

    def __len__(self) -> int:
        return self._base.ask(lambda state: len(state.files))

    def select(
        self,
        dataset: str | None = None,
        *,
        workspaces: Collection[str] | None = None,
        since_us: int | None = None,
        until_us: int | None = None,
        digests: bool = True,
    ) -> list[DataFile]:
        return self._base.ask(
            lambda state: state.files.select(
                dataset, workspaces=workspaces, since_us=since_us, until_us=until_us, digests=digests
            )
        )

    def find(self, keys: Iterable[str]) -> dict[str, DataFile]:
        wanted = list(keys)
        return self._base.ask(lambda state: state.files.find(wanted))

    def entries(self, partitions: Collection[layout.Partition] | None = None) -> Iterator[Entry]:
        # All at once: what was handed out could not be taken back if the rest were damaged.
        return iter(self._base.ask(lambda state: list(state.files.entries(partitions))))

    def superseded(self) -> dict[str, int]:
        return self._base.ask(lambda state: state.files.superseded())

    def volumes(self, gone: Collection[str] = ()) -> dict[tuple[str, str], Volume]:
        return self._base.ask(lambda state: state.files.volumes(gone))

    def partition_sizes(
        self,
        *,
        smaller_than: int,
        least: int = 1,
        gone: Collection[str] = (),
        besides: Collection[layout.Partition] = (),
    ) -> list[PartitionSize]:
        return self._base.ask(
            lambda state: state.files.partition_sizes(
                smaller_than=smaller_than, least=least, gone=gone, besides=besides
            )
        )
