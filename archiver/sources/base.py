"""What the pipeline asks of everything that events come from.

A source gives *batches*: frozen lists of inputs that can be read again and again with
the same outcome, until the archive has them and they are acknowledged. A batch that is
neither acknowledged nor put back is adopted by a later run, under the same name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import rfc8785

from archiver.block import Block, RowBlock
from archiver.errors import SourceError


class InputChangedError(SourceError):
    """An input is no longer what was frozen. Drop the attempt and put the batch back."""

    kind = "input_changed"


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a batch, as the commit lists it.

    Attributes:
        name: Printable and reversible, see `archiver.sources.names`.
        digest: `sha256:` and 64 hex digits, of the bytes as they lie on disk; empty where none do.
        bytes: How many they are; of rows about how many were fetched.
    """

    name: str
    digest: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a source has and the archive may not have yet.

    Attributes:
        files: Deliverable files, claimed ones included.
        bytes: Their size on disk.
        oldest_at: When the oldest of them was last written, in microseconds since 1970.
        claims: Batches begun and not acknowledged, of live and of dead runs.
        unknown_names: Names that the source does not know how to read and leaves alone.
        unreadable: Files that it may not open.
    """

    files: int = 0
    bytes: int = 0
    oldest_at: int | None = None
    claims: int = 0
    unknown_names: int = 0
    unreadable: int = 0


class Batch(Protocol):
    """A frozen list of inputs, held by this process until one of the last three methods is called."""

    @property
    def batch(self) -> str:
        """Its name: 32 hex digits, from `batch_name`."""
        ...

    @property
    def base(self) -> int:
        """The sequence of the archive's head when it was frozen; an adopter keeps it."""
        ...

    @property
    def inputs(self) -> tuple[Input, ...]: ...

    def read(self) -> Iterator[Block | RowBlock]:
        """Yield all elements; every call yields the same ones with the same ordinals, or refuses.

        The attempt may be committed only if the iterator came to its end.

        Raises:
            InputChangedError: An input changed since it was frozen, or can be read only once: `put_back`.
            SourceError: An input cannot be read, or is gone: `release`, and go on with the next batch.
        """
        ...

    def moves(self) -> dict[str, Any]:
        """Return what the commit says of the source's cursor: `before` and `after`, once all is read.

        Nothing for a source that keeps its place itself.
        """
        ...

    def acknowledge(self) -> None:
        """Let the source forget the inputs; only after the commit is durable.

        May be repeated, also by another process after a crash in the middle.

        Raises:
            SourceError: It could not be finished; the next run can resume it.
        """
        ...

    def release(self) -> None:
        """Give the batch up as it is; the next run adopts it."""
        ...

    def put_back(self) -> None:
        """Dissolve the batch: its inputs lie in the source as if never taken.

        Raises:
            SourceError: It could not be finished; nothing is lost, the next run takes what is left.
        """
        ...


class Source(Protocol):
    @property
    def name(self) -> str:
        """Its configured name, as the commit shows it."""
        ...

    def batches(self, base: Callable[[], int]) -> Iterator[Batch]:
        """Yield what dead runs left, then what is ready now.

        Args:
            base: Returns the sequence of the archive's head; called whenever a batch is frozen.

        Raises:
            SourceError: Something could not be taken; raised behind the last batch where possible.
        """
        ...

    def backlog(self) -> Backlog: ...


def batch_name(freeze_id: str, inputs: Sequence[Input]) -> str:
    """Name a batch: the first 32 hex digits of the SHA-256 of its canonical description (RFC 8785)."""
    description: dict[str, Any] = {"freeze_id": freeze_id, "inputs": [asdict(each) for each in inputs]}
    return hashlib.sha256(rfc8785.dumps(description)).hexdigest()[:32]
