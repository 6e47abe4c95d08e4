"""What the archive asks of the place it lies in.

A store is flat: keys (built by `archiver.layout`) name whole objects. It must create
objects atomically and conditionally, list them consistently, and give back what it was
given. Everything else (retries, paths, credentials) is its own affair. One suite,
`tests/contract/test_store.py`, holds every implementation to this text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from pyarrow import fs

from archiver.spans import Span

PutMode = Literal["create", "overwrite"]


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as a listing shows it.

    Attributes:
        key: Relative to the archive's prefix.
        bytes: Size of the whole object.
        modified_at: When it was written, by the store's clock, with time zone.
    """

    key: str
    bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Deleted:
    """What became of the keys of a deletion.

    Attributes:
        deleted: How many name nothing any more, whether or not they did before.
        hidden: Keys that name nothing any more, while the store keeps what they named: a
            versioned bucket, and no right to delete versions.
        kept: (key, why) of what the store does not let go: Object Lock, a legal hold of the store.
    """

    deleted: int = 0
    hidden: tuple[str, ...] = ()
    kept: tuple[tuple[str, str], ...] = ()


class Store(Protocol):
    """See the module's docstring. Safe to use from several threads."""

    @property
    def location(self) -> str:
        """Where this is, as a user would write it (a path or `s3://bucket/prefix`); no secrets."""
        ...

    def put(self, key: str, content: bytes, *, mode: PutMode = "create") -> None:
        """Store `content` under `key`, whole or not at all.

        When this returns, the object is durable: a reader in another process sees all
        of it, and a crash does not lose it. Failures that pass are retried. A create
        that finds our own bytes already there (an earlier try whose reply was lost)
        is a success.

        Raises:
            PreconditionFailedError: mode is `create` and other bytes are there; untouched.
            PermissionDeniedError: The store refused; names bucket, key and permission.
            StoreError: It failed after retries; the object may or may not be there.
        """
        ...

    def put_once(self, key: str, content: bytes) -> None:
        """Try once to create `key`; for commits, where a repeat must be a decision.

        Neither this nor the client below it tries again, and nothing is read back.

        Raises:
            PreconditionFailedError: Something is there: our bytes or another's.
            WriteOutcomeUnknownError: No answer, or one that does not say (409, 5xx).
            PermissionDeniedError: The store refused.
        """
        ...

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Read an object, or `length` bytes of it from `start` (fewer where it ends).

        Raises:
            ObjectNotFoundError: There is none.
        """
        ...

    def info(self, key: str) -> ObjectInfo:
        """Size and time of one object.

        Raises:
            ObjectNotFoundError: There is none.
        """
        ...

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield all objects whose key begins with `prefix`, in byte order of their keys.

        Args:
            prefix: Empty for all, else a key's beginning.
            start_after: Yield only keys behind this one.
        """
        ...

    def delete(self, keys: Iterable[str]) -> Deleted:
        """Delete objects, with all versions that the store has of them. One that is not there is no error.

        Raises:
            PermissionDeniedError: It may not be deleted by us at all; others of `keys` may be gone.
        """
        ...

    @property
    def lock_keep(self) -> Span | None:
        """For how long what a commit names is to be locked, from the day of the commit; None: not at all."""
        ...

    def lock(self, keys: Iterable[str], until: datetime) -> int:
        """Have the store refuse to delete objects before `until`, and return how many locks were set.

        A lock that lasts as long already stays as it is: none is ever weakened. A store
        without such locks does nothing and returns 0.

        Raises:
            ConfigError: The bucket has no Object Lock.
            StoreError: Some could not be locked; the others are.
        """
        ...

    def locked_until(self, key: str) -> datetime | None:
        """Return when the object's lock ends, with time zone; None where it has none.

        Raises:
            ObjectNotFoundError: There is no such object.
        """
        ...

    def delete_temporaries(self, *, older_than_seconds: float) -> int:
        """Remove what killed writers left that no listing shows, and return how many there were.

        Locally those are half-written files; an object store leaves none.
        """
        ...

    def settle(self) -> None:
        """Make durable what other processes created here and this one has acted upon.

        Locally that is an fsync of the ledger's folder; an object store needs nothing.
        """
        ...

    def arrow(self) -> tuple[fs.FileSystem, str]:
        """A pyarrow file system for reading, and the path in it that keys are relative to (ends in `/`)."""
        ...

    def local_path(self, key: str) -> str | None:
        """The file a key lies in, where the store is a local folder; else None."""
        ...
