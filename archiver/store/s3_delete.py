"""Deleting in a bucket so that what is gone is gone, also where the bucket keeps old versions.

In a versioned bucket a plain deletion only hides an object behind a marker, even one that
Object Lock protects. So every version of exactly the key is deleted by its id. What Object
Lock keeps stays in sight; only where the right to delete versions is missing, a marker is set.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count, islice
from typing import Any, Final, NamedTuple

from archiver.errors import ObjectNotFoundError, PermissionDeniedError, StoreError
from archiver.store.base import Deleted
from archiver.store.keys import check_key
from archiver.store.s3_client import S3Clients
from archiver.store.s3_errors import FAILURES, code_of, permission_hint, status_of, translate

_KEYS_A_REQUEST: Final = 1000
_THREADS: Final = 16
_WORTH_A_LISTING: Final = 4  # so many keys of one folder are looked up by listing it
_GONE: Final = ("NoSuchKey", "NoSuchVersion")
_PASSING: Final = ("InternalError", "SlowDown")
_KEPT_BY_RULE: Final = ("ObjectLockedByBucketPolicy",)  # a bucket lock of Cloudflare R2


class _Version(NamedTuple):
    key: str
    id: str | None  # None: whatever is newest


class S3Deletion:
    """Deletes objects of one bucket. Safe to use from several threads.

    Args:
        prefix: Stands before every key.
        attempts: How often what fails in passing is tried.
        pause: Waits before the given further attempt.
    """

    def __init__(
        self, clients: S3Clients, bucket: str, prefix: str, *, attempts: int, pause: Callable[[int], None]
    ) -> None:
        self._clients = clients
        self._bucket = bucket
        self._prefix = prefix
        self._attempts = attempts
        self._pause = pause
        self._in_bulk = True
        self._by_version: bool | None = None  # None: not asked yet
        self._leaves_markers = True  # a plain deletion may; its answer tells

    def delete(self, keys: Iterable[str]) -> Deleted:
        """See `archiver.store.base.Store.delete`."""
        remaining, deleted = iter(keys), 0
        hidden: list[str] = []
        kept: dict[str, str] = {}
        while batch := [check_key(key) for key in islice(remaining, _KEYS_A_REQUEST)]:
            veiled, refused = self._versions(batch) if self._keeps_versions() else self._plainly(batch)
            hidden += veiled
            kept |= refused
            deleted += len(set(batch)) - len(veiled) - len(refused)
        return Deleted(deleted, tuple(hidden), tuple(sorted(kept.items())))

    def _keeps_versions(self) -> bool:
        """Ask once whether the bucket is, or was, versioned. Who may not ask deletes plainly."""
        if self._by_version is None:
            try:
                answer = self._clients.repeating().get_bucket_versioning(Bucket=self._bucket)
            except FAILURES as error:
                if status_of(error) not in (400, 403, 404, 405, 501):
                    raise translate(error, f"s3://{self._bucket}", "s3:GetBucketVersioning") from error
                self._by_version = False
            else:
                self._by_version = answer.get("Status") in ("Enabled", "Suspended")
                self._leaves_markers = self._by_version
        return self._by_version

    def _plainly(self, keys: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Delete what is newest; return what that only hid, and what a rule of the bucket keeps."""
        markers, refused = self._send([_Version(key, None) for key in keys])
        codes = {version.key: code for version, code in refused.items()}
        kept = {
            key: f"kept by a rule of the bucket ({code})"
            for key, code in codes.items()
            if code in _KEPT_BY_RULE
        }
        self._raise_refused({key: code for key, code in codes.items() if key not in kept})
        return markers, kept

    def _versions(self, keys: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Delete all versions; return what could only be hidden, and what the store keeps, with why."""
        try:
            versions = self._versions_of(keys)
        except PermissionDeniedError:
            self._by_version = False  # hide them: that right may be there
            return self._plainly(keys)
        refused: dict[_Version, str] = {}
        for start in range(0, len(versions), _KEYS_A_REQUEST):
            part = versions[start : start + _KEYS_A_REQUEST]
            try:
                refused |= self._send(part)[1]
            except PermissionDeniedError:  # some servers refuse the whole request
                refused |= dict.fromkeys(part, "AccessDenied")
        with ThreadPoolExecutor(_THREADS) as threads:
            reasons = list(threads.map(self._why_kept, refused))
        kept = {version.key: why for version, why in zip(refused, reasons, strict=True) if why}
        left = {version.key: code for version, code in refused.items() if version.key not in kept}
        self._raise_refused({key: code for key, code in left.items() if code != "AccessDenied"})
        if not left:
            return [], kept
        veiled, more = self._plainly(list(left))
        return veiled or [key for key in left if key not in more], kept | more

    def _versions_of(self, keys: Sequence[str]) -> list[_Version]:
        """List all versions and delete markers of exactly these keys."""
        folders: dict[str, list[str]] = defaultdict(list)
        for key in sorted(set(keys), key=str.encode):
            folders[key.rpartition("/")[0]].append(key)
        groups: list[list[str]] = []
        for folder, members in folders.items():
            together = folder and len(members) >= _WORTH_A_LISTING
            groups += [members] if together else [[key] for key in members]
        with ThreadPoolExecutor(_THREADS) as threads:
            return [one for found in threads.map(self._versions_in, groups) for one in found]

    def _versions_in(self, keys: Sequence[str]) -> list[_Version]:
        """List the versions of one key, or of some keys of one folder, sorted."""
        wanted, last = set(keys), keys[-1].encode()
        prefix = keys[0] if len(keys) == 1 else keys[0].rpartition("/")[0] + "/"
        pages = iter(
            self._clients.repeating()
            .get_paginator("list_object_versions")
            .paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
        )
        found: list[_Version] = []
        # A folder that holds far more than these keys costs more requests than each of them does.
        most = len(keys) // 2 if len(keys) > 1 else None
        for number in count():
            if number == most:
                return [one for key in keys for one in self._versions_in([key])]
            try:
                page = next(pages, None)
            except FAILURES as error:
                raise translate(error, self._where(prefix), "s3:ListBucketVersions") from error
            entries = [] if page is None else [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            names = [(entry["Key"][len(self._prefix) :], entry["VersionId"]) for entry in entries]
            found += [_Version(key, id_) for key, id_ in names if key in wanted]
            if page is None or any(key.encode() > last for key, _ in names):
                break
        return found

    def _why_kept(self, version: _Version) -> str:
        """Say why the store keeps a version, as far as it tells; empty if it does not."""
        request = {"Bucket": self._bucket, "Key": self._prefix + version.key, "VersionId": version.id}
        try:
            answer = self._clients.repeating().head_object(**request)
        except FAILURES:
            return ""  # a delete marker, or no right to look
        until = answer.get("ObjectLockRetainUntilDate")
        if until is not None and until > datetime.now(UTC):
            mode = str(answer.get("ObjectLockMode", "")).lower()
            return f"locked until {until.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ} ({mode})"
        return "under a legal hold of the store" if answer.get("ObjectLockLegalHoldStatus") == "ON" else ""

    def _send(self, versions: Sequence[_Version]) -> tuple[list[str], dict[_Version, str]]:
        """Delete up to a thousand versions; return the keys that got a marker, and codes of the refused."""
        if not self._in_bulk:
            return self._send_singly(versions)
        client = self._clients.repeating()
        markers: list[str] = []
        refused: dict[_Version, str] = {}
        for attempt in range(1, self._attempts + 1):
            names = [self._named(one) for one in versions]
            # A quiet answer is shorter, and does not tell of markers.
            request = {"Objects": names, "Quiet": not self._leaves_markers}
            try:
                answer = client.delete_objects(Bucket=self._bucket, Delete=request)
            except FAILURES as error:
                if status_of(error) in (400, 405, 411, 501):  # not a request that this server takes
                    self._in_bulk = False
                    return self._send_singly(versions)
                raise translate(error, self._where(versions[0].key), "s3:DeleteObject") from error
            markers += [
                entry["Key"][len(self._prefix) :]
                for entry in answer.get("Deleted", ())
                if entry.get("DeleteMarker") and "VersionId" not in entry
            ]
            refused = {
                self._version_in(entry, versions): entry.get("Code", "unknown")
                for entry in answer.get("Errors", ())
                if entry.get("Code") not in _GONE
            }
            versions = [one for one, code in refused.items() if code in _PASSING]
            if not versions or len(versions) < len(refused) or attempt == self._attempts:
                break
            self._pause(attempt)
        return markers, refused

    def _named(self, version: _Version) -> dict[str, str]:
        named = {"Key": self._prefix + version.key}
        return named if version.id is None else {**named, "VersionId": version.id}

    def _version_in(self, entry: dict[str, Any], sent: Sequence[_Version]) -> _Version:
        """Return what was sent that an error is about; not every server repeats the version."""
        key, id_ = entry.get("Key", "")[len(self._prefix) :], entry.get("VersionId")
        of_key = [one for one in sent if one.key == key]
        return next((one for one in of_key if one.id == id_), of_key[0] if of_key else _Version(key, id_))

    def _send_singly(self, versions: Sequence[_Version]) -> tuple[list[str], dict[_Version, str]]:
        markers: list[str] = []
        refused: dict[_Version, str] = {}
        for one in versions:
            request = {"Bucket": self._bucket, **self._named(one)}
            try:
                answer = self._clients.repeating().delete_object(**request)
            except FAILURES as error:
                if code_of(error) in ("AccessDenied", *_KEPT_BY_RULE) and status_of(error) == 403:
                    refused[one] = code_of(error)
                    continue
                with contextlib.suppress(ObjectNotFoundError):
                    raise translate(error, self._where(one.key), "s3:DeleteObject") from error
            else:
                if answer.get("DeleteMarker") and one.id is None:
                    markers.append(one.key)
        return markers, refused

    def _raise_refused(self, refused: dict[str, str]) -> None:
        if not refused:
            return
        key, code = next(iter(refused.items()))
        more = f" (and {len(refused) - 1} more objects)" if len(refused) > 1 else ""
        message = f"{self._where(key)}: s3:DeleteObject answered {code}{more}"
        if code == "AccessDenied":
            raise PermissionDeniedError(message, hint=permission_hint("s3:DeleteObject"))
        raise StoreError(message, hint="run again later; what is deleted already is no error")

    def _where(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key}"
