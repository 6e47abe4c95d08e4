"""What S3 adds to the contract: replies that are lost, servers that are busy, permissions that are missing.

The stub in `tests.services.gateway` stands before a real server (Ceph, or the one under test).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from archiver.errors import (
    ArchiverError,
    ConfigError,
    ObjectNotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    StoreError,
    WriteOutcomeUnknownError,
)
from archiver.store import s3
from archiver.store.probe import race_creates
from archiver.store.s3 import S3Store
from tests.conftest import S3Place
from tests.services.gateway import Gateway


@pytest.fixture
def gateway(s3_bucket: S3Place) -> Iterator[Gateway]:
    with Gateway.before(s3_bucket.server.endpoint) as gateway:
        yield gateway


@pytest.fixture
def spoiled(gateway: Gateway, s3_bucket: S3Place) -> S3Store:
    """A store behind the gateway."""
    return s3_bucket.store(endpoint_url=gateway.endpoint, attempts=4)


@pytest.fixture
def impatient(gateway: Gateway, s3_bucket: S3Place) -> S3Store:
    """The same, and waits one second for an answer."""
    return s3_bucket.store(endpoint_url=gateway.endpoint, attempts=4, read_timeout_seconds=1)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_LONGEST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)


@pytest.mark.parametrize("fate", ["503", "500", "429", "reset"])
def test_a_put_outlives_what_passes(gateway: Gateway, spoiled: S3Store, fate: str) -> None:
    gateway.plan = [fate, fate]
    spoiled.put("a", b"1")
    assert spoiled.get("a") == b"1"
    assert gateway.requests == ["PUT", "PUT", "PUT", "GET"]


def test_reads_lists_and_deletions_outlive_what_passes(gateway: Gateway, spoiled: S3Store) -> None:
    spoiled.put("a", b"1")
    spoiled.delete(["other"])  # and asks, once, whether the bucket keeps versions
    for call in (
        lambda: spoiled.get("a"),
        lambda: spoiled.info("a"),
        lambda: list(spoiled.list()),
        lambda: spoiled.delete(["a"]),
    ):
        gateway.requests.clear()
        gateway.plan = ["503", "reset"]
        call()
        assert len(gateway.requests) == 3


def test_a_body_that_is_cut_off_is_read_again(gateway: Gateway, spoiled: S3Store) -> None:
    spoiled.put("a", b"0123456789" * 10_000)
    gateway.plan = ["cut", "cut"]
    assert spoiled.get("a") == b"0123456789" * 10_000


def test_a_create_whose_reply_is_lost_finds_its_own_bytes(gateway: Gateway, spoiled: S3Store) -> None:
    gateway.plan = ["lost reply"]
    spoiled.put("a", b"ours")
    assert gateway.requests == ["PUT", "PUT", "GET"]  # 412 for the second, then the read
    assert spoiled.get("a") == b"ours"


def test_a_create_whose_reply_comes_too_late_finds_its_own_bytes(
    gateway: Gateway, impatient: S3Store
) -> None:
    gateway.plan = ["slow"]
    impatient.put("a", b"ours")
    assert gateway.requests[:2] == ["PUT", "PUT"]
    assert impatient.get("a") == b"ours"


def test_a_create_that_conflicts_with_another_tries_again(gateway: Gateway, spoiled: S3Store) -> None:
    gateway.plan = ["409", "409"]
    spoiled.put("a", b"1")
    assert gateway.requests == ["PUT", "PUT", "PUT"]


def test_a_create_that_never_gets_through_is_an_error_that_says_so(
    gateway: Gateway, spoiled: S3Store
) -> None:
    gateway.plan = ["503"] * 4
    with pytest.raises(StoreError, match="503 SlowDown") as caught:
        spoiled.put("a", b"1")
    assert type(caught.value) is StoreError
    assert caught.value.hint


def test_a_create_that_landed_in_spite_of_every_reply_is_a_success(
    gateway: Gateway, spoiled: S3Store
) -> None:
    gateway.plan = ["lost reply"] * 4
    spoiled.put("a", b"ours")
    gateway.plan = ["503"] * 4
    with pytest.raises(PreconditionFailedError):
        spoiled.put("a", b"other")


@pytest.mark.parametrize("fate", ["503", "500", "409", "429", "reset", "lost reply"])
def test_put_once_sends_one_request_and_says_that_it_does_not_know(
    gateway: Gateway, spoiled: S3Store, s3_store: S3Store, fate: str
) -> None:
    gateway.plan = [fate]
    with pytest.raises(WriteOutcomeUnknownError, match=r"s3://.*/a: s3:PutObject"):
        spoiled.put_once("a", b"1")
    assert gateway.requests == ["PUT"]
    assert [one.key for one in s3_store.list()] == (["a"] if fate == "lost reply" else [])


def test_put_once_sends_one_request_when_the_answer_takes_too_long(
    gateway: Gateway, impatient: S3Store
) -> None:
    gateway.plan = ["slow"]
    with pytest.raises(WriteOutcomeUnknownError, match="ReadTimeout"):
        impatient.put_once("a", b"1")
    assert gateway.requests == ["PUT"]


def test_put_once_sends_one_request_when_it_is_refused(gateway: Gateway, spoiled: S3Store) -> None:
    spoiled.put_once("a", b"1")
    with pytest.raises(PreconditionFailedError):
        spoiled.put_once("a", b"1")
    gateway.plan = ["403", "501", "404"]
    with pytest.raises(PermissionDeniedError, match=r"/b: s3:PutObject answered 403 AccessDenied"):
        spoiled.put_once("b", b"1")
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            spoiled.put_once("b", b"1")
        assert type(caught.value) is StoreError
    assert gateway.requests == ["PUT"] * 5


def test_creates_are_conditional_and_carry_an_md5_and_no_other_checksum(
    gateway: Gateway, spoiled: S3Store
) -> None:
    spoiled.put("a", b"1")
    spoiled.put_once("b", b"1")
    spoiled.put("c", b"1", mode="overwrite")
    spoiled.delete(["a", "b"])
    assert gateway.requests == ["PUT", "PUT", "PUT", "GET", "POST"]
    del gateway.headers[3]  # the question whether the bucket keeps versions
    create, once, overwrite, deletion = gateway.headers
    assert create["if-none-match"] == once["if-none-match"] == "*"
    assert "if-none-match" not in overwrite
    assert {one["content-md5"] for one in (create, once, overwrite)} == {"xMpCOKC5I4INzFCab3WEmw=="}
    assert "content-md5" in deletion
    assert not any(name.startswith("x-amz-checksum") for name in {**create, **once, **overwrite})


def test_class_encryption_and_tags_are_sent_with_every_object(gateway: Gateway, s3_bucket: S3Place) -> None:
    store = s3_bucket.store(
        endpoint_url=gateway.endpoint,
        storage_class="STANDARD_IA",
        server_side_encryption="aws:kms",
        kms_key_id="key-1",
        tags={"kind": "audit log", "team": "a&b"},
    )
    gateway.plan = ["403", "403"]  # not every server under test knows of keys
    for put in (store.put, store.put_once):
        with pytest.raises(PermissionDeniedError, match="s3:PutObjectTagging"):
            put("a", b"1")
    for headers in gateway.headers:
        assert headers["x-amz-storage-class"] == "STANDARD_IA"
        assert headers["x-amz-server-side-encryption"] == "aws:kms"
        assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "key-1"
        assert headers["x-amz-tagging"] == "kind=audit+log&team=a%26b"


@pytest.mark.parametrize("status", ["501", "400", "405"])
def test_a_server_without_bulk_deletion_gets_single_ones(
    gateway: Gateway, spoiled: S3Store, status: str
) -> None:
    for key in ("a", "b", "c"):
        spoiled.put(key, b"1")
    spoiled.delete([])
    spoiled.delete(["other"])
    gateway.requests.clear()
    gateway.plan = [status]
    spoiled.delete(["a", "b", "missing"])
    spoiled.delete(["c"])
    assert gateway.requests == ["POST", "DELETE", "DELETE", "DELETE", "DELETE"]
    assert list(spoiled.list()) == []


def test_a_server_that_ignores_the_condition_is_refused(s3_bucket: S3Place) -> None:
    class Overwriting(S3Store):
        def put_once(self, key: str, content: bytes) -> None:
            self.put(key, content, mode="overwrite")

    place = s3_bucket
    store = Overwriting(place.bucket, place.prefix, endpoint_url=place.server.endpoint, region="us-east-1")
    report = race_creates(store, rounds=3)
    assert not report.is_atomic
    assert len(report.problems) == 3
    assert "8 of 8 concurrent creates succeeded" in report.problems[0]
    assert list(store.list()) == []


def all_calls(store: S3Store, key: str) -> list[tuple[str, Callable[[], Any]]]:
    return [
        ("s3:PutObject", lambda: store.put(key, b"1")),
        ("s3:PutObject", lambda: store.put(key, b"1", mode="overwrite")),
        ("s3:PutObject", lambda: store.put_once(key, b"1")),
        ("s3:GetObject", lambda: store.get(key)),
        ("s3:GetObject", lambda: store.info(key)),
        ("s3:DeleteObject", lambda: store.delete([key])),
        ("s3:ListBucket", lambda: list(store.list(key))),
    ]


def test_a_wrong_secret_is_told_with_object_and_permission_and_without_the_secret(
    s3_bucket: S3Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    store = s3_bucket.store()
    for permission, call in all_calls(store, "secret/key"):
        with pytest.raises(PermissionDeniedError) as caught:
            call()
        assert f"{s3_bucket.location}/secret/key: {permission} answered 403" in caught.value.message
        assert caught.value.hint
        assert "not-the-secret" not in caught.value.message + caught.value.hint


def test_a_policy_that_denies_is_told_with_bucket_key_and_permission(s3_bucket: S3Place) -> None:
    if s3_bucket.server.kind != "ceph":
        pytest.skip("a bucket policy is only set on a server of our own")
    client = boto3.client(
        "s3", endpoint_url=s3_bucket.server.endpoint, config=Config(s3={"addressing_style": "path"})
    )
    resource = f"arn:aws:s3:::{s3_bucket.bucket}/{s3_bucket.prefix}/denied/*"
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": [resource]}
    policy = {"Version": "2012-10-17", "Statement": [deny]}
    store = s3_bucket.store()
    store.put("denied/key", b"1")
    client.put_bucket_policy(Bucket=s3_bucket.bucket, Policy=json.dumps(policy))
    try:
        store.put("allowed", b"1")
        for permission, call in all_calls(store, "denied/key")[:-1]:
            with pytest.raises(PermissionDeniedError) as caught:
                call()
            assert f"{s3_bucket.location}/denied/key: {permission} answered" in caught.value.message
            assert "AccessDenied" in caught.value.message or "403" in caught.value.message
            assert permission in caught.value.hint
    finally:
        client.delete_bucket_policy(Bucket=s3_bucket.bucket)


def test_without_credentials_it_is_a_config_error(
    s3_bucket: S3Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    store = s3_bucket.store()
    for _, call in [*all_calls(store, "a"), ("", store.arrow)]:
        with pytest.raises(ConfigError, match="credentials") as caught:
            call()
        assert "AWS_ACCESS_KEY_ID" in caught.value.hint


def test_an_unknown_profile_is_a_config_error(s3_bucket: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ConfigError, match="nobody"):
        s3_bucket.store().get("a")


def test_a_missing_bucket_is_told_and_is_no_missing_object(s3_bucket: S3Place) -> None:
    server = s3_bucket.server
    store = S3Store("no-such-bucket-here", "p", endpoint_url=server.endpoint, region="us-east-1")
    for _, call in all_calls(store, "a"):
        with pytest.raises(ArchiverError) as caught:
            call()
        if isinstance(caught.value, ObjectNotFoundError):
            continue  # HEAD has no body that would tell which of the two is missing
        assert "s3://no-such-bucket-here/p/a: there is no such bucket" in caught.value.message


def test_a_server_that_is_not_there_is_told(s3_bucket: S3Place) -> None:
    with Gateway.before(s3_bucket.server.endpoint) as gone:
        endpoint = gone.endpoint
    store = s3_bucket.store(endpoint_url=endpoint, attempts=2, connect_timeout_seconds=1)
    with pytest.raises(StoreError, match="no answer") as caught:
        store.get("a")
    assert "endpoint" in caught.value.hint
    with pytest.raises(WriteOutcomeUnknownError):
        store.put_once("a", b"1")


def test_a_session_token_reaches_pyarrow(
    s3_bucket: S3Place, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token")
    store = s3_bucket.store(endpoint_url=gateway.endpoint, attempts=1)
    filesystem, root = store.arrow()
    gateway.plan = ["403"]
    with pytest.raises(OSError, match=r"(?i)access.?denied|403"):
        filesystem.open_input_file(root + "a")
    assert gateway.headers[0]["x-amz-security-token"] == "a-token"


def test_pyarrow_sends_no_checksums_that_other_servers_refuse(
    s3_bucket: S3Place, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"):
        monkeypatch.delenv(name, raising=False)
    filesystem, root = s3_bucket.store(endpoint_url=gateway.endpoint).arrow()
    with filesystem.open_output_stream(root + "a") as file:
        file.write(b"1")
    assert filesystem.open_input_file(root + "a").read() == b"1"
    assert not any("checksum" in name for headers in gateway.headers for name in headers)


def test_temporary_credentials_that_are_over_are_told_so(gateway: Gateway, spoiled: S3Store) -> None:
    gateway.plan = ["400 ExpiredToken", "400 ExpiredToken"]
    for call in (lambda: spoiled.put_once("a", b"1"), lambda: spoiled.get("a")):
        with pytest.raises(PermissionDeniedError, match="ExpiredToken") as caught:
            call()
        assert "get new ones" in caught.value.hint


def test_the_bucket_is_in_the_path_where_an_endpoint_is_named(gateway: Gateway, s3_bucket: S3Place) -> None:
    host = gateway.endpoint.removeprefix("http://").replace("127.0.0.1", "localhost")
    store = s3_bucket.store(endpoint_url=f"http://{host}", attempts=1)
    store.put("a", b"1")
    filesystem, root = store.arrow()
    assert filesystem.open_input_file(root + "a").read() == b"1"
    assert {headers["host"] for headers in gateway.headers} == {host}
