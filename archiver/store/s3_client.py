"""Connections to S3: two boto3 clients and a pyarrow file system, with the same credentials."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import NoCredentialsError
from pyarrow import fs

from archiver.errors import ConfigError
from archiver.store.options import AddressingStyle
from archiver.store.s3_errors import FAILURES, translate

# botocore and the C++ client of pyarrow send checksums that some servers answer with 411 or
# 501; both stop when these say so. Content-MD5 and our own digests do the work.
_WHEN_REQUIRED = "when_required"
_CHECKSUM_SETTINGS = ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION")
_CONNECTIONS = 32


# What botocore knows of S3 is read from large files: once for all sessions of this process.
_loaded = threading.Lock()
_loader: Any = None


def _new_session(region: str | None) -> Any:
    global _loader  # noqa: PLW0603 - a cache
    with _loaded:
        own = botocore.session.get_session()
        if _loader is not None:
            own.register_component("data_loader", _loader)
        session = boto3.session.Session(region_name=region, botocore_session=own)
        _loader = own.get_component("data_loader")
        return session


class S3Clients:
    """Opens connections when they are first needed. Safe to use from several threads.

    Credentials come from the usual AWS chain: environment, profiles, roles.
    """

    def __init__(
        self,
        bucket: str,
        *,
        endpoint_url: str | None,
        region: str | None,
        addressing_style: AddressingStyle,
        attempts: int,
        connect_timeout_seconds: float,
        read_timeout_seconds: float,
    ) -> None:
        self._bucket = bucket
        # The variables are boto3's own; they are read here because pyarrow does not know them.
        environment = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        self._endpoint_url = endpoint_url or environment or None
        self._region = region
        self._style = addressing_style  # boto3 and pyarrow both take `auto` at an endpoint for `path`
        self._attempts = attempts
        self._timeouts = (connect_timeout_seconds, read_timeout_seconds)
        self._lock = threading.Lock()
        self._session: Any = None
        self._clients: dict[int, Any] = {}

    def repeating(self) -> Any:
        """The client that repeats what fails in passing, with growing pauses."""
        return self._client(self._attempts)

    def once(self) -> Any:
        """The client that sends a request once, whatever comes of it."""
        return self._client(1)

    def _client(self, attempts: int) -> Any:
        with self._lock:  # sessions are not to be shared between threads, clients are
            if attempts not in self._clients:
                self._clients[attempts] = self._new_client(attempts)
            return self._clients[attempts]

    def _new_client(self, attempts: int) -> Any:
        try:
            if self._session is None:
                self._session = _new_session(self._region)
            region = self._session.region_name or ("us-east-1" if self._endpoint_url else None)
            client = self._session.client(
                "s3",
                endpoint_url=self._endpoint_url,
                region_name=region,
                config=Config(
                    retries={"mode": "standard", "total_max_attempts": attempts},
                    connect_timeout=self._timeouts[0],
                    read_timeout=self._timeouts[1],
                    max_pool_connections=_CONNECTIONS,
                    s3={"addressing_style": self._style},
                    request_checksum_calculation=_WHEN_REQUIRED,
                    response_checksum_validation=_WHEN_REQUIRED,
                ),
            )
        except FAILURES as error:
            raise translate(error, f"s3://{self._bucket}", "s3:ListBucket") from error
        except ValueError as error:
            raise ConfigError(
                f"s3://{self._bucket}: the endpoint URL or the region is not usable",
                hint="the endpoint is of the form https://s3.example.com, the region like eu-central-1",
            ) from error
        client.meta.events.register("before-call.s3.DeleteObjects", _add_md5)
        return client

    def credentials_method(self) -> str:
        """Where credentials were found (`env`, `iam-role`), as botocore calls it; empty if nowhere."""
        self.repeating()
        try:
            with self._lock:
                credentials = self._session.get_credentials()
        except FAILURES as error:
            raise translate(error, f"s3://{self._bucket}", "s3:ListBucket") from error
        return str(credentials.method) if credentials is not None else ""

    def arrow(self) -> fs.FileSystem:
        """A file system with the credentials of this moment; temporary ones end with it."""
        client = self.repeating()
        try:
            with self._lock:
                credentials = self._session.get_credentials()
            if credentials is None:
                raise NoCredentialsError
            keys = credentials.get_frozen_credentials()
        except FAILURES as error:
            raise translate(error, f"s3://{self._bucket}", "s3:GetObject") from error
        endpoint, region = client.meta.endpoint_url, self._arrow_region(client)
        parts = urlsplit(endpoint)
        override: str | None = parts.netloc + parts.path.rstrip("/")
        if _is_aws(endpoint):
            # Without an override pyarrow puts the bucket into the host name.
            override = f"s3.{region}.amazonaws.com" if self._style == "path" else None
        for name in _CHECKSUM_SETTINGS:
            os.environ.setdefault(name, _WHEN_REQUIRED)  # read when the file system is made
        try:
            return fs.S3FileSystem(
                access_key=keys.access_key,
                secret_key=keys.secret_key,
                session_token=keys.token,
                region=region,
                scheme=parts.scheme,
                endpoint_override=override,
                force_virtual_addressing=self._style == "virtual",
                connect_timeout=self._timeouts[0],
                request_timeout=self._timeouts[1],
                retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=self._attempts),
                tls_ca_file_path=os.environ.get("AWS_CA_BUNDLE") or None,
            )
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"s3://{self._bucket}: pyarrow takes neither this endpoint nor this region",
                hint="the endpoint is of the form https://s3.example.com",
            ) from error

    def _arrow_region(self, client: Any) -> str:
        """The region to sign for. boto3 follows a redirection to the right one, pyarrow does not."""
        configured = self._session.region_name
        if configured or not _is_aws(client.meta.endpoint_url):
            return str(configured or "us-east-1")
        try:
            answer = client.head_bucket(Bucket=self._bucket)
        except FAILURES as error:
            raise translate(error, f"s3://{self._bucket}", "s3:ListBucket") from error
        return str(answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", "us-east-1"))


def _is_aws(endpoint_url: str) -> bool:
    host = urlsplit(endpoint_url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _add_md5(params: dict[str, Any], **_: Any) -> None:
    """boto3 sends a CRC32 with a bulk deletion; older servers ask for Content-MD5."""
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
