"""Every error that leaves the library, grouped by what the caller should do next.

    ArchiverError                  1   failed
    ├── ConfigError                2   fix the configuration
    ├── SourceError                1   could not be read; nothing was acknowledged
    ├── StoreError                 1   failed after retries
    │   ├── ObjectNotFoundError        also a FileNotFoundError
    │   ├── PreconditionFailedError    somebody else wrote first
    │   ├── PermissionDeniedError      the store refused us; names the missing permission
    │   └── WriteOutcomeUnknownError   no reply: it may have landed
    ├── QueryError                 1   a statement that is not allowed, or that failed
    ├── ArchiveNotFoundError      10   a wrong location, or `archiver init`
    ├── CommitConflictError       11   too much contention, nothing written; run again
    ├── CommitStateUnknownError   12   it may have landed; safe to run again, the next run finds out
    └── IntegrityError            20   stored bytes differ from the ledger

Exit code 3 (done, but events are in quarantine) is a result and no error.
"""

from __future__ import annotations

from typing import ClassVar


class ArchiverError(Exception):
    """Base of all errors of this library.

    Args:
        message: Names the object, what was expected and what was found.
        hint: What the reader should do about it, or an empty string.
    """

    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "failed"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(ArchiverError):
    exit_code = 2
    kind = "config"


class SourceError(ArchiverError):
    kind = "source"


class StoreError(ArchiverError):
    kind = "store"


class ObjectNotFoundError(StoreError, FileNotFoundError):
    kind = "object_not_found"

    def __str__(self) -> str:
        return self.message


class PreconditionFailedError(StoreError):
    kind = "precondition_failed"


class PermissionDeniedError(StoreError):
    kind = "permission_denied"


class WriteOutcomeUnknownError(StoreError):
    kind = "write_outcome_unknown"


class QueryError(ArchiverError):
    kind = "query"


class ArchiveNotFoundError(ArchiverError):
    exit_code = 10
    kind = "archive_not_found"


class CommitConflictError(ArchiverError):
    exit_code = 11
    kind = "commit_conflict"


class CommitStateUnknownError(ArchiverError):
    exit_code = 12
    kind = "commit_state_unknown"


class IntegrityError(ArchiverError):
    exit_code = 20
    kind = "integrity"
