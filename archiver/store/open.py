"""From what a user writes to the store it means."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from archiver.errors import ConfigError
from archiver.store.base import Store
from archiver.store.local import LocalStore
from archiver.store.options import S3Options

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/", re.ASCII)
_HINT = "an archive lies in a folder (./archive, file:///var/archive) or in a bucket (s3://bucket/prefix)"
_MEANT_S3 = {"s3a", "s3n", "https", "http", "r2", "minio"}


def open_store(location: str, options: S3Options | None = None) -> Store:
    """Return the store at `location`. Nothing is read or written yet.

    Args:
        location: `s3://bucket/prefix`, `file:///absolute/path`, or a path.
        options: For S3; a local folder has none and ignores them.

    Raises:
        ConfigError: Another scheme, or no place at all.
    """
    if not location.strip() or "\0" in location:
        raise ConfigError("the archive's location is empty or holds a NUL", hint=_HINT)
    found = _SCHEME.match(location)
    if options is not None and options.lock_keep is not None and not location.lower().startswith("s3:"):
        raise ConfigError(
            f"object lock is {options.object_lock}, but a folder knows no such locks",
            hint="set object_lock to off, or keep the archive in a bucket with Object Lock",
        )
    if found is None:
        return LocalStore(Path(location).expanduser())
    scheme = found[1].lower()
    if scheme == "s3" and location[found.end() :].startswith("/"):
        return _open_s3(location[found.end() + 1 :], options or S3Options())
    if scheme == "file":
        return LocalStore(_folder_of(location))
    hint = _HINT
    if scheme in _MEANT_S3 or scheme == "s3":
        hint = "write s3://bucket/prefix; a server other than AWS is named by the endpoint URL"
    elif scheme == "gs":
        hint = "Cloud Storage has no such interface here; " + _HINT
    raise ConfigError(f"location {scheme}:… is of no known kind", hint=hint)


def _folder_of(location: str) -> Path:
    parts = urlsplit(location)
    elsewhere = parts.netloc not in ("", "localhost") or not parts.path.startswith("/")
    if elsewhere or parts.query or parts.fragment:
        raise ConfigError(
            f"location {location!r}: expected file:/// and an absolute path",
            hint="write ? and # in it as %3F and %23, or give the path itself",
        )
    path = unquote(parts.path, errors="surrogateescape")
    if "\0" in path:
        raise ConfigError("the archive's location holds a NUL", hint=_HINT)
    return Path(path)


def _open_s3(rest: str, options: S3Options) -> Store:
    # boto3 takes 0.2 s to import, which a local run need not pay.
    from archiver.store.s3 import S3Store  # noqa: PLC0415

    bucket, _, prefix = rest.partition("/")
    return S3Store(
        bucket,
        prefix,
        endpoint_url=options.endpoint_url,
        region=options.region,
        addressing_style=options.addressing_style,
        storage_class=options.storage_class,
        server_side_encryption=options.server_side_encryption,
        kms_key_id=options.kms_key_id,
        tags=options.tags,
        object_lock=options.object_lock,
        object_lock_keep=options.object_lock_keep,
    )
