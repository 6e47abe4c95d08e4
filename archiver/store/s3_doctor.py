"""What only the S3 API can tell about a bucket: credentials, and what keeps objects from being deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from archiver.errors import ArchiverError, ConfigError, PermissionDeniedError
from archiver.store.health import Check
from archiver.store.s3 import S3Store
from archiver.store.s3_errors import FAILURES, code_of, is_bad_credentials, status_of, translate

_NOT_CONFIGURED = ("ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration")
# What servers without object lock answer to the question for it.
_NOT_KNOWN = ("NotImplemented", "MethodNotAllowed", "NoSuchKey", "InvalidRequest", "501", "405", "404", "400")


def examine_bucket(store: S3Store) -> Iterator[Check]:
    """Look at credentials, bucket and WORM settings, in that order; writes nothing.

    Stops after the first that makes the others meaningless.
    """
    where = f"s3://{store.bucket}"
    try:
        client, method = store.clients.repeating(), store.clients.credentials_method()
    except ArchiverError as refused:
        yield Check("credentials", "failed", refused.message, refused.hint)
        return
    if not method:
        fix = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role"
        yield Check("credentials", "failed", "the usual AWS chain has none", fix)
        return
    try:
        client.list_objects_v2(Bucket=store.bucket, MaxKeys=1)
    except FAILURES as failure:
        error = translate(failure, where, "s3:ListBucket")
        if is_bad_credentials(failure) or isinstance(error, ConfigError) or status_of(failure) == 401:
            found = f"found by {method}, not accepted: {error.message}"
            yield Check("credentials", "failed", found, error.hint)
            return
        yield Check("credentials", "ok", f"found by {method}, not refused")
        yield Check("bucket", "failed", error.message, error.hint)
        return
    yield Check("credentials", "ok", f"found by {method}, accepted")
    yield Check("bucket", "ok", f"{where} is there and can be listed")
    provider = provider_of(client.meta.endpoint_url)
    yield _versioning(client, store.bucket)
    yield _object_lock(client, store.bucket, provider)


def provider_of(endpoint_url: str) -> str:
    """Guess whose server it is, by its host name."""
    host = urlsplit(endpoint_url).hostname or ""
    for ending, provider in (
        (".amazonaws.com", "AWS"),
        (".amazonaws.com.cn", "AWS"),
        (".r2.cloudflarestorage.com", "Cloudflare R2"),
        (".backblazeb2.com", "Backblaze B2"),
        (".googleapis.com", "Cloud Storage"),
    ):
        if host.endswith(ending):
            return provider
    return "an S3-compatible server"


def _ask(call: Callable[..., dict[str, Any]], bucket: str, permission: str) -> dict[str, Any] | Check | None:
    """Return the answer; a check if it may not be asked; None if the server does not know the question."""
    try:
        return call(Bucket=bucket)
    except FAILURES as failure:
        if code_of(failure) in _NOT_CONFIGURED:
            return {}
        if code_of(failure) in _NOT_KNOWN or status_of(failure) in (400, 404, 405, 501):
            return None
        error = translate(failure, f"s3://{bucket}", permission)
        status = "skipped" if isinstance(error, PermissionDeniedError) else "warning"
        return Check("", status, error.message, error.hint)  # type: ignore[arg-type]


def _versioning(client: Any, bucket: str) -> Check:
    answer = _ask(client.get_bucket_versioning, bucket, "s3:GetBucketVersioning")
    if isinstance(answer, Check):
        return Check("versioning", answer.status, answer.found, answer.fix)
    state = (answer or {}).get("Status")
    if state == "Enabled":
        found = "on: what is deleted or overwritten by mistake can be had back"
        return Check("versioning", "ok", found)
    fix = "switch versioning on, and let a lifecycle rule delete old versions after some weeks"
    if answer is None:
        return Check("versioning", "skipped", "the server does not tell", fix)
    return Check("versioning", "warning", f"{state or 'off'}: an object that somebody deletes is gone", fix)


def _object_lock(client: Any, bucket: str, provider: str) -> Check:
    name = "write once"
    if provider == "Cloudflare R2":
        found = "R2 keeps objects by bucket lock rules, which lie outside the S3 API"
        fix = "look in the dashboard: a rule must cover neither `_probe/` nor what is to expire before it"
        return Check(name, "skipped", found, fix)
    answer = _ask(client.get_object_lock_configuration, bucket, "s3:GetBucketObjectLockConfiguration")
    if isinstance(answer, Check):
        return Check(name, answer.status, answer.found, answer.fix)
    if answer is None:
        return Check(name, "skipped", f"{provider} does not tell of Object Lock")
    configuration = answer.get("ObjectLockConfiguration", {})
    if configuration.get("ObjectLockEnabled") != "Enabled":
        return Check(name, "ok", "no Object Lock: whoever has the right may delete objects")
    default = configuration.get("Rule", {}).get("DefaultRetention")
    if default:
        span = ", ".join(f"{value} {unit.lower()}" for unit, value in default.items() if unit != "Mode")
        found = f"a default retention ({default.get('Mode', '?')}, {span}) covers every object"
        fix = "remove the bucket's default retention: files of interrupted runs cannot be collected under it"
        return Check(name, "warning", found, fix)
    return Check(name, "ok", "Object Lock is on, without a default retention")
