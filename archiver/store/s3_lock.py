"""Object Lock: a retention on single objects, set once they count, never weakened.

An object is locked until an instant, in one of two modes: `compliance`, which nobody can
lift, and `governance`, which a role with a right of its own can. A later instant extends a
lock; an earlier one changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final

from archiver.errors import ArchiverError, ConfigError, StoreError
from archiver.store.keys import check_key
from archiver.store.s3_client import S3Clients
from archiver.store.s3_errors import FAILURES, code_of, status_of, translate

_THREADS: Final = 16
_WITHOUT_LOCK: Final = (
    "InvalidRequest",
    "InvalidBucketState",
    "NotImplemented",
    "ObjectLockConfigurationNotFoundError",
)


class S3Lock:
    """Sets and reads the retention of objects in one bucket. Safe to use from several threads.

    Args:
        prefix: Stands before every key.
        mode: `compliance` or `governance`.
    """

    def __init__(self, clients: S3Clients, bucket: str, prefix: str, mode: str) -> None:
        self._clients = clients
        self._bucket = bucket
        self._prefix = prefix
        self._mode = mode.upper()

    def lock(self, keys: Iterable[str], until: datetime) -> int:
        """See `archiver.store.base.Store.lock`."""
        until = until.astimezone(UTC).replace(microsecond=0)
        with ThreadPoolExecutor(_THREADS) as threads:
            outcomes = list(threads.map(lambda key: self._lock_one(key, until), keys))
        failed = [one for one in outcomes if isinstance(one, ArchiverError)]
        if failed:
            more = f" (and {len(failed) - 1} more objects)" if len(failed) > 1 else ""
            raise type(failed[0])(failed[0].message + more, hint=failed[0].hint)
        return sum(1 for one in outcomes if one is True)

    def _lock_one(self, key: str, until: datetime) -> bool | ArchiverError:
        """Say whether the lock was set: not, if it lasts as long already. An error is returned."""
        try:
            request = self._request(key)
            retention = {"Mode": self._mode, "RetainUntilDate": until}
            self._clients.repeating().put_object_retention(**request, Retention=retention)
        except ArchiverError as error:
            return error
        except FAILURES as error:
            return self._refused(key, until, error)
        return True

    def _refused(self, key: str, until: datetime, error: Exception) -> bool | ArchiverError:
        where = f"s3://{self._bucket}/{self._prefix}{key}"
        if status_of(error) == 403:  # also the answer to a lock that would end earlier
            try:
                present = self.locked_until(key)
            except ArchiverError:
                present = None
            if present is not None and present >= until:
                return False
        if code_of(error) in _WITHOUT_LOCK or status_of(error) in (405, 501):
            return ConfigError(
                f"s3://{self._bucket}: the bucket has no Object Lock ({code_of(error)})",
                hint="switch Object Lock on for the bucket, or set object_lock to off",
            )
        if status_of(error) == 404:
            return StoreError(f"{where}: no such object to lock")
        return translate(error, where, "s3:PutObjectRetention")

    def locked_until(self, key: str) -> datetime | None:
        """See `archiver.store.base.Store.locked_until`."""
        try:
            answer = self._clients.repeating().head_object(**self._request(key))
        except FAILURES as error:
            where = f"s3://{self._bucket}/{self._prefix}{key}"
            raise translate(error, where, "s3:GetObject") from error
        until: datetime | None = answer.get("ObjectLockRetainUntilDate")
        return None if until is None else until.astimezone(UTC)

    def _request(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": self._prefix + check_key(key)}
