"""How to reach an S3-compatible bucket. No credentials: those come from the usual AWS chain alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args
from urllib.parse import urlsplit

from archiver.errors import ConfigError
from archiver.spans import Span, parse_span

AddressingStyle = Literal["auto", "path", "virtual"]
LockMode = Literal["off", "governance", "compliance"]

# Objects of these classes cannot be read before a restore of hours, and an archive reads its own commits.
_COLD_CLASSES = ("GLACIER", "DEEP_ARCHIVE")
_KMS = ("aws:kms", "aws:kms:dsse")


@dataclass(frozen=True, slots=True)
class S3Options:
    """Where and how to write in S3; all optional.

    Attributes:
        endpoint_url: `https://…` of a server other than AWS (Cloudflare R2, MinIO, Ceph).
        region: Its region; otherwise what the AWS configuration says.
        addressing_style: `path` puts the bucket into the path, `virtual` into the host
            name; `auto` means `path` for an `endpoint_url`, else what AWS prefers.
        storage_class: For all objects, such as `STANDARD_IA`.
        server_side_encryption: `AES256`, `aws:kms` or `aws:kms:dsse`.
        kms_key_id: For the two kinds of `aws:kms`.
        tags: Put on every object.
        object_lock: In which mode of Object Lock each object is locked that a commit names.
        object_lock_keep: For how long, from the day of the commit: `400d`, `13mo`, `7y`.

    Raises:
        ConfigError: An option that cannot work.
    """

    endpoint_url: str | None = None
    region: str | None = None
    addressing_style: AddressingStyle = "auto"
    storage_class: str | None = None
    server_side_encryption: str | None = None
    kms_key_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    object_lock: LockMode = "off"
    object_lock_keep: str | None = None

    def __post_init__(self) -> None:
        if self.endpoint_url is not None:
            _check_endpoint(self.endpoint_url)
        if self.addressing_style not in get_args(AddressingStyle):
            raise ConfigError(
                f"addressing style {self.addressing_style!r}: expected auto, path or virtual",
                hint="use path for most servers that are not AWS",
            )
        if self.storage_class in _COLD_CLASSES:
            raise ConfigError(
                f"storage class {self.storage_class}: an archive in it could not read its own commits",
                hint="use STANDARD, STANDARD_IA or GLACIER_IR, or let a lifecycle rule move old data files",
            )
        if self.server_side_encryption not in (None, "AES256", *_KMS):
            raise ConfigError(
                f"server-side encryption {self.server_side_encryption!r}: "
                f"expected AES256, {_KMS[0]} or {_KMS[1]}"
            )
        if self.kms_key_id is not None and self.server_side_encryption not in _KMS:
            raise ConfigError(
                "a KMS key is given, but the server-side encryption is not of KMS",
                hint=f"set the server-side encryption to {_KMS[0]}",
            )
        if self.object_lock not in get_args(LockMode):
            raise ConfigError(f"object lock {self.object_lock!r}: expected off, governance or compliance")
        keep = None if self.object_lock_keep is None else parse_span(self.object_lock_keep)
        if self.object_lock != "off" and keep is None:
            raise ConfigError(
                f"object lock is {self.object_lock}, but not for how long",
                hint='set object_lock_keep, such as "400d"',
            )

    @property
    def lock_keep(self) -> Span | None:
        """For how long objects are locked; None where they are not."""
        if self.object_lock == "off" or self.object_lock_keep is None:
            return None
        return parse_span(self.object_lock_keep)


def _check_endpoint(url: str) -> None:
    """Refuse what is no endpoint, without repeating what may be a password."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a bracket or a port
        parts, usable = urlsplit(""), False
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "the endpoint URL holds a user name or a password",
            hint="give credentials as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in an AWS profile",
        )
    if not usable:
        raise ConfigError(
            "the endpoint URL is not of the form https://host or http://host:port",
            hint="such as https://s3.example.com",
        )
