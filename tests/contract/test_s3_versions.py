"""Buckets that keep versions, and Object Lock: what deleting means there, and what it cannot do."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config

from archiver.errors import ConfigError, ObjectNotFoundError, PermissionDeniedError, StoreError
from archiver.store import s3_delete
from archiver.store.s3 import S3Store
from tests.conftest import S3Place, S3Server
from tests.services.gateway import Gateway

NOW = datetime.now(UTC)


def client_of(server: S3Server) -> Any:
    return boto3.client("s3", endpoint_url=server.endpoint, config=Config(s3={"addressing_style": "path"}))


def _bucket(server: S3Server, *, locked: bool = False, versions: str = "Enabled") -> S3Place:
    if server.kind == "external":
        pytest.skip("buckets are only made on a server of our own")
    client, name = client_of(server), f"versions-{secrets.token_hex(6)}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=locked)
    if not locked:
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        if versions != "Enabled":
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": versions})
    return S3Place(server, name, "a/prefix")


@pytest.fixture(params=[pytest.param("s3", marks=pytest.mark.s3), "moto"])
def server(request: pytest.FixtureRequest) -> S3Server:
    found: S3Server = request.getfixturevalue("s3_server" if request.param == "s3" else "moto")
    return found


@pytest.fixture(params=["Enabled", "Suspended"])
def versioned(server: S3Server, request: pytest.FixtureRequest) -> S3Place:
    return _bucket(server, versions=request.param)


@pytest.fixture
def lockable(server: S3Server) -> S3Place:
    return _bucket(server, locked=True)


@pytest.fixture
def denied(s3_server: S3Server) -> Iterator[tuple[S3Place, Any]]:
    """A versioned bucket of the real server, and what denies actions in it."""
    place = _bucket(s3_server)
    client = client_of(s3_server)

    def deny(*actions: str) -> None:
        everywhere = [f"arn:aws:s3:::{place.bucket}", f"arn:aws:s3:::{place.bucket}/*"]
        said = {"Effect": "Deny", "Principal": "*", "Action": list(actions), "Resource": everywhere}
        policy = {"Version": "2012-10-17", "Statement": [said]}
        client.put_bucket_policy(Bucket=place.bucket, Policy=json.dumps(policy))

    yield place, deny
    client.delete_bucket_policy(Bucket=place.bucket)


def versions_in(place: S3Place) -> list[str]:
    """Every version and delete marker in the bucket, by key."""
    pages = client_of(place.server).get_paginator("list_object_versions").paginate(Bucket=place.bucket)
    return sorted(
        entry["Key"].removeprefix(f"{place.prefix}/")
        for page in pages
        for kind in ("Versions", "DeleteMarkers")
        for entry in page.get(kind, ())
    )


def test_all_versions_of_exactly_the_key_are_deleted(versioned: S3Place) -> None:
    store = versioned.store()
    for content in (b"1", b"2", b"3"):
        store.put("f/a", content, mode="overwrite")
    client_of(versioned.server).delete_object(Bucket=versioned.bucket, Key=f"{versioned.prefix}/f/a")
    store.put("f/a", b"4", mode="overwrite")  # Ceph refuses a create behind a marker where it is suspended
    for other in ("f/ab", "f/a.b", "f/a/b", "f", "g/é +%/x"):
        store.put(other, b"1")
    gone = store.delete(["f/a", "g/é +%/x", "never/was"])
    assert (gone.deleted, gone.hidden, gone.kept) == (3, (), ())
    assert versions_in(versioned) == ["f", "f/a.b", "f/a/b", "f/ab"]
    with pytest.raises(ObjectNotFoundError):
        store.get("f/a")
    store.put_once("f/a", b"anew")


def test_many_keys_of_a_folder_are_found_by_listing_it(
    versioned: S3Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = versioned.store()
    keys = [f"folder/{number:02d}" for number in range(12)]
    for key in [*keys, "folder/1", "folderly/x"]:
        store.put(key, b"1")
    assert store.delete(keys[1:11]).deleted == 10
    assert versions_in(versioned) == ["folder/00", "folder/1", "folder/11", "folderly/x"]
    monkeypatch.setattr(s3_delete, "_WORTH_A_LISTING", 1_000)
    assert store.delete(["folder/00", "folder/11"]).deleted == 2
    assert versions_in(versioned) == ["folder/1", "folderly/x"]


def test_a_large_folder_is_not_listed_for_a_few_keys(
    lockable: S3Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Gateway.before(lockable.server.endpoint) as gateway:
        store = lockable.store(endpoint_url=gateway.endpoint)
        keys = [f"folder/{number:02d}" for number in range(40)]
        for key in keys:
            store.put(key, b"1")
        client = store.clients.repeating()
        original = client.get_paginator

        def small_pages(name: str) -> Any:
            class Small:
                def paginate(self, **arguments: Any) -> Any:
                    return original(name).paginate(**arguments, PaginationConfig={"PageSize": 2})

            return Small()

        monkeypatch.setattr(client, "get_paginator", small_pages)
        gateway.requests.clear()
        assert store.delete([keys[0], keys[1], keys[38], keys[39]]).deleted == 4
        # Versioning, two pages of the folder, then each key by itself, and one deletion.
        assert gateway.requests.count("GET") <= 1 + 2 + 2 * 4
        assert gateway.requests.count("POST") == 1
    assert versions_in(lockable) == keys[2:38]


@pytest.mark.parametrize("action", ["s3:DeleteObjectVersion", "s3:ListBucketVersions"])
def test_without_a_right_to_versions_an_object_is_hidden_and_that_is_said(
    denied: tuple[S3Place, Any], action: str
) -> None:
    place, deny = denied
    store = place.store()
    store.put("a", b"1")
    store.put("b", b"1")
    deny(action)
    gone = store.delete(["a"])
    assert (gone.deleted, gone.hidden, gone.kept) == (0, ("a",), ())
    assert [one.key for one in store.list()] == ["b"]
    client_of(place.server).delete_bucket_policy(Bucket=place.bucket)
    assert versions_in(place) == ["a", "a", "b"]


def test_who_may_not_ask_for_versioning_deletes_plainly_and_sees_what_was_hidden(
    denied: tuple[S3Place, Any],
) -> None:
    place, deny = denied
    store = place.store()
    store.put("a", b"1")
    deny("s3:GetBucketVersioning")
    assert store.delete(["a"]).hidden == ("a",)


def test_who_may_not_delete_at_all_is_refused(denied: tuple[S3Place, Any]) -> None:
    place, deny = denied
    store = place.store()
    store.put("a", b"1")
    deny("s3:DeleteObject", "s3:DeleteObjectVersion")
    with pytest.raises(PermissionDeniedError, match=r"/a: s3:DeleteObject answered (403 )?AccessDenied"):
        store.delete(["a"])
    assert store.get("a") == b"1"


def test_a_server_without_bulk_deletion_deletes_versions_singly(lockable: S3Place) -> None:
    with Gateway.before(lockable.server.endpoint) as gateway:
        store = lockable.store(endpoint_url=gateway.endpoint)
        for key in ("a", "b", "c"):
            store.put(key, b"1")
        store.lock(["b"], NOW + timedelta(days=2))
        gateway.plan = ["pass"] * 4 + ["501"]
        gone = store.delete(["a", "b", "c"])
    assert gone.deleted == 2
    assert [key for key, _ in gone.kept] == ["b"]
    assert versions_in(lockable) == ["b"]


# --- Object Lock ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["compliance", "governance"])
def test_a_locked_object_survives_deletion_and_is_told_with_the_date(lockable: S3Place, mode: str) -> None:
    store = lockable.store(object_lock=mode, object_lock_keep="400d")
    store.put("a", b"1")
    store.put("b", b"1")
    until = NOW + timedelta(days=3)
    assert store.locked_until("a") is None
    assert store.lock(["a"], until) == 1
    assert store.locked_until("a") == until.replace(microsecond=0)
    gone = store.delete(["a", "b"])
    assert (gone.deleted, gone.hidden) == (1, ())
    assert gone.kept == (("a", f"locked until {until:%Y-%m-%dT%H:%M:%SZ} ({mode})"),)
    assert store.get("a") == b"1"
    assert versions_in(lockable) == ["a"]


def test_a_legal_hold_of_the_store_keeps_an_object(s3_server: S3Server) -> None:
    lockable = _bucket(s3_server, locked=True)  # moto lets it go
    store = lockable.store()
    store.put("a", b"1")
    client_of(lockable.server).put_object_legal_hold(
        Bucket=lockable.bucket, Key=f"{lockable.prefix}/a", LegalHold={"Status": "ON"}
    )
    assert store.delete(["a"]).kept == (("a", "under a legal hold of the store"),)
    assert store.get("a") == b"1"


def test_a_lock_is_extended_and_never_shortened(s3_server: S3Server) -> None:
    store = _bucket(s3_server, locked=True).store(object_lock="compliance", object_lock_keep="1d")
    store.put("a", b"1")
    assert store.lock(["a"], NOW + timedelta(days=3)) == 1
    assert store.lock(["a"], NOW + timedelta(days=2)) == 0
    assert store.locked_until("a") == (NOW + timedelta(days=3)).replace(microsecond=0)
    assert store.lock(["a"], NOW + timedelta(days=5)) == 1
    assert store.locked_until("a") == (NOW + timedelta(days=5)).replace(microsecond=0)


def test_what_can_be_locked_is_when_something_cannot(s3_server: S3Server) -> None:
    store = _bucket(s3_server, locked=True).store()  # moto answers 500
    store.put("a", b"1")
    store.put("c", b"1")
    with pytest.raises(StoreError, match=r"/b: no such object"):
        store.lock(["a", "b", "c"], NOW + timedelta(days=2))
    assert store.locked_until("a") == store.locked_until("c") != None  # noqa: E711  (a chain)
    with pytest.raises(ObjectNotFoundError):
        store.locked_until("b")


def test_a_bucket_without_object_lock_is_a_config_error(s3_store: S3Store) -> None:
    s3_store.put("a", b"1")
    with pytest.raises(ConfigError, match="has no Object Lock"):
        s3_store.lock(["a"], NOW + timedelta(days=2))
    assert s3_store.locked_until("a") is None
