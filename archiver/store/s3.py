"""An archive in a bucket of S3 or of a server that speaks it.

Objects are written by a single PUT with Content-MD5, conditionally by `If-None-Match: *`
(a multipart upload's condition is not held by every server). There are two clients: one
repeats what fails in passing, and one, for commits, sends a request once and no more.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from pyarrow import fs

from archiver.errors import (
    ArchiverError,
    ConfigError,
    ObjectNotFoundError,
    PreconditionFailedError,
    StoreError,
    WriteOutcomeUnknownError,
)
from archiver.spans import Span
from archiver.store.base import Deleted, ObjectInfo, PutMode
from archiver.store.keys import check_key
from archiver.store.options import AddressingStyle, LockMode, S3Options
from archiver.store.s3_client import S3Clients
from archiver.store.s3_delete import S3Deletion
from archiver.store.s3_errors import FAILURES, status_of, translate, translate_once
from archiver.store.s3_lock import S3Lock

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{1,254}", re.ASCII)
_LONGEST_PAUSE_SECONDS = 20.0


class S3Store:
    """The store under `prefix` in `bucket`. See `archiver.store.base.Store`.

    Nothing is sent before the first call. All times are in seconds.

    Raises:
        ConfigError: The bucket's name, the prefix or an option cannot be right.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        addressing_style: AddressingStyle = "auto",
        storage_class: str | None = None,
        server_side_encryption: str | None = None,
        kms_key_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        object_lock: LockMode = "off",
        object_lock_keep: str | None = None,
        attempts: int = 8,
        connect_timeout_seconds: float = 10,
        read_timeout_seconds: float = 60,
    ) -> None:
        if not _BUCKET.fullmatch(bucket):
            raise ConfigError(f"bucket {bucket!r}: no name of a bucket", hint="write s3://bucket/prefix")
        self._bucket = bucket
        self._prefix = _checked_prefix(prefix)
        options = S3Options(  # checks them
            endpoint_url=endpoint_url,
            region=region,
            addressing_style=addressing_style,
            storage_class=storage_class,
            server_side_encryption=server_side_encryption,
            kms_key_id=kms_key_id,
            tags=tags or {},
            object_lock=object_lock,
            object_lock_keep=object_lock_keep,
        )
        headers = {
            "StorageClass": storage_class,
            "ServerSideEncryption": server_side_encryption,
            "SSEKMSKeyId": kms_key_id,
            "Tagging": urlencode(tags) if tags else None,
        }
        self._headers = {name: value for name, value in headers.items() if value is not None}
        self._put_permission = "s3:PutObject with s3:PutObjectTagging" if tags else "s3:PutObject"
        self._attempts = attempts
        self._clients = S3Clients(
            bucket,
            endpoint_url=endpoint_url,
            region=region,
            addressing_style=addressing_style,
            attempts=attempts,
            connect_timeout_seconds=connect_timeout_seconds,
            read_timeout_seconds=read_timeout_seconds,
        )
        self._deletion = S3Deletion(self._clients, bucket, self._prefix, attempts=attempts, pause=_pause)
        self._lock_keep = options.lock_keep
        mode = "compliance" if object_lock == "off" else object_lock
        self._lock = S3Lock(self._clients, bucket, self._prefix, mode)

    @property
    def bucket(self) -> str:
        return self._bucket

    @property
    def clients(self) -> S3Clients:
        """The connections, for `archiver.store.s3_doctor`, which asks what no other store can tell."""
        return self._clients

    @property
    def location(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def put(self, key: str, content: bytes, *, mode: PutMode = "create") -> None:
        request = self._put_request(key, content)
        client = self._clients.repeating()
        if mode == "overwrite":
            with self._errors(key, self._put_permission):
                client.put_object(**request)
            return
        for attempt in range(1, self._attempts + 1):
            try:
                client.put_object(**request, IfNoneMatch="*")
                return
            except FAILURES as failure:
                if status_of(failure) == 409 and attempt < self._attempts:
                    _pause(attempt)  # another create or delete of this key is under way
                    continue
                if self._is_ours(key, content, failure):
                    return
        raise StoreError(f"{self._where(key)}: it appears and vanishes again", hint="what else writes there?")

    def _is_ours(self, key: str, content: bytes, failure: Exception) -> bool:
        """After a create without success: are our bytes there? False: nothing is, try again.

        The client repeats by itself, so a 412 may be the answer to our own first try.
        """
        where = self._where(key)
        outcome = translate_once(failure, where, self._put_permission)
        exists = isinstance(outcome, PreconditionFailedError)
        if not exists and not isinstance(outcome, WriteOutcomeUnknownError):
            raise translate(failure, where, self._put_permission) from failure
        try:
            found = self.get(key)
        except ArchiverError as error:
            if not exists:
                raise translate(failure, where, self._put_permission) from failure
            if isinstance(error, ObjectNotFoundError):
                return False  # deleted in between
            raise
        if found == content:
            return True
        raise PreconditionFailedError(
            f"{where}: expected nothing or our {len(content)} bytes, found {len(found)} others"
        ) from failure

    def put_once(self, key: str, content: bytes) -> None:
        request = self._put_request(key, content)
        client = self._clients.once()
        try:
            client.put_object(**request, IfNoneMatch="*")
        except FAILURES as error:
            raise translate_once(error, self._where(key), self._put_permission) from error

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        if length == 0:  # no range of HTTP is empty
            self.info(key)
            return b""
        request = self._request(key)
        if start or length is not None:
            request["Range"] = f"bytes={start}-" + ("" if length is None else str(start + length - 1))
        client = self._clients.repeating()
        for attempt in range(1, self._attempts + 1):
            try:
                answer = client.get_object(**request)
            except FAILURES as error:
                if status_of(error) == 416:  # it ends before `start`
                    return b""
                raise translate(error, self._where(key), "s3:GetObject") from error
            try:
                with contextlib.closing(answer["Body"]) as body:
                    content: bytes = body.read()
                break
            except FAILURES as error:  # the connection broke within the body, which botocore does not repeat
                if attempt == self._attempts:
                    raise translate(error, self._where(key), "s3:GetObject") from error
            _pause(attempt)
        if "Range" in request and answer["ResponseMetadata"]["HTTPStatusCode"] == 200:
            return content[start : None if length is None else start + length]  # the server knows no ranges
        return content

    def info(self, key: str) -> ObjectInfo:
        request = self._request(key)
        with self._errors(key, "s3:GetObject"):
            answer = self._clients.repeating().head_object(**request)
        return ObjectInfo(key, answer["ContentLength"], answer["LastModified"])

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        request = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}
        if start_after:
            request["StartAfter"] = self._prefix + start_after
        pages = iter(self._clients.repeating().get_paginator("list_objects_v2").paginate(**request))
        before = b""
        while True:
            with self._errors(prefix, "s3:ListBucket"):
                page = next(pages, None)
            if page is None:
                return
            for entry in page.get("Contents", ()):
                key = entry["Key"][len(self._prefix) :]
                if not key:
                    continue  # the object that stands for a folder in some consoles
                name = key.encode(errors="surrogatepass")
                if name <= before:
                    raise StoreError(
                        f"{self.location}: the server lists {key!r} out of order",
                        hint="directory buckets and some gateways do not sort; use a general purpose bucket",
                    )
                before = name
                yield ObjectInfo(key, entry["Size"], entry["LastModified"])

    def delete(self, keys: Iterable[str]) -> Deleted:
        return self._deletion.delete(keys)

    @property
    def lock_keep(self) -> Span | None:
        return self._lock_keep

    def lock(self, keys: Iterable[str], until: datetime) -> int:
        return self._lock.lock(keys, until)

    def locked_until(self, key: str) -> datetime | None:
        return self._lock.locked_until(key)

    def delete_temporaries(self, *, older_than_seconds: float) -> int:  # noqa: ARG002  (the contract's)
        """Nothing to do: an object is there whole or not at all."""
        return 0

    def settle(self) -> None:
        """Nothing to do: what an object store shows is durable."""

    def arrow(self) -> tuple[fs.FileSystem, str]:
        return self._clients.arrow(), f"{self._bucket}/{self._prefix}"

    def local_path(self, key: str) -> str | None:
        check_key(key)
        return None

    def _where(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def _request(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": self._prefix + check_key(key)}

    def _put_request(self, key: str, content: bytes) -> dict[str, Any]:
        digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        return {**self._request(key), **self._headers, "Body": content, "ContentMD5": digest}

    @contextlib.contextmanager
    def _errors(self, key: str, permission: str) -> Iterator[None]:
        try:
            yield
        except FAILURES as error:
            raise translate(error, self._where(key), permission) from error


def _checked_prefix(prefix: str) -> str:
    stripped = prefix.strip("/")
    if not stripped:
        return ""
    try:
        return check_key(stripped) + "/"
    except StoreError as error:
        message = f"prefix {error.message.removeprefix('key ')}"
        raise ConfigError(message, hint="write s3://bucket/prefix") from error


def _pause(attempt: int) -> None:
    """Wait a random while that doubles with each attempt, so that writers do not meet again."""
    time.sleep(min(_LONGEST_PAUSE_SECONDS, 0.1 * 2**attempt) * random.uniform(0.5, 1))  # noqa: S311
