"""What all tests share: stores of every kind, an environment without anybody's credentials, profiles."""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from archiver.store.base import Store
from archiver.store.local import LocalStore
from archiver.store.options import S3Options
from tests.services import ceph
from tests.services import postgres as pg
from tests.services.moto import moto_server

# A first failing example may have come from a slow moment of the machine, so no deadline.
settings.register_profile(
    "default", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("soak", parent=settings.get_profile("default"), max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

ACCESS_KEY = os.environ.get("ARCHIVER_TEST_S3_ACCESS_KEY", "testkey")
SECRET_KEY = os.environ.get("ARCHIVER_TEST_S3_SECRET_KEY", "testsecret12345")
BUCKET = os.environ.get("ARCHIVER_TEST_S3_BUCKET", "archiver-tests")
_NOT_RUN = pytest.StashKey[Counter[str]]()


@dataclass(frozen=True, slots=True)
class S3Server:
    """An S3 server under test. `kind` is `ceph`, `external` (somebody's own) or `moto`."""

    endpoint: str
    access_key: str
    secret_key: str
    kind: str


@dataclass(frozen=True, slots=True)
class S3Place:
    """A prefix of its own in a bucket that exists."""

    server: S3Server
    bucket: str
    prefix: str

    @property
    def location(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def options(self) -> S3Options:
        return S3Options(endpoint_url=self.server.endpoint, region="us-east-1")

    def store(self, **arguments: Any) -> Any:
        """An `S3Store` there; `arguments` are its own and win over the usual ones."""
        from archiver.store.s3 import S3Store  # noqa: PLC0415  (boto3 is slow to import)

        usual = {"endpoint_url": self.server.endpoint, "region": "us-east-1"}
        return S3Store(self.bucket, self.prefix, **{**usual, **arguments})


@pytest.fixture(scope="session", autouse=True)
def aws_environment() -> Iterator[None]:
    """Nobody's own AWS configuration reaches a test; the test servers' keys are in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        yield


@pytest.fixture(scope="session", autouse=True)
def postgres_environment() -> Iterator[None]:
    """Nobody's own settings of libpq (PGHOST, a password file …) reach a test."""
    with pg.without_settings_of_the_user():
        yield


@pytest.fixture(scope="session")
def boto(aws_environment: None) -> Iterator[None]:
    """boto3 reads its megabytes of service descriptions once, and not for each store anew."""
    from botocore import loaders  # noqa: PLC0415  (slow to import)

    loader = loaders.create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", lambda *_: loader)
        yield


@pytest.fixture(scope="session")
def s3_server(boto: None) -> Iterator[S3Server]:
    """A real S3 server: the one that ARCHIVER_TEST_S3_* names, or a Ceph of our own."""
    endpoint = os.environ.get("ARCHIVER_TEST_S3_ENDPOINT")
    if endpoint:
        yield S3Server(endpoint, ACCESS_KEY, SECRET_KEY, "external")
        return
    missing = ceph.missing_programs()
    if missing:
        reason = (
            f"no S3 server: {', '.join(missing)} not found; run `make services` or set ARCHIVER_TEST_S3_*"
        )
        if os.environ.get("ARCHIVER_REQUIRE_S3") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    with ceph.CephGateway.started(ACCESS_KEY, SECRET_KEY) as gateway:
        yield S3Server(gateway.endpoint, ACCESS_KEY, SECRET_KEY, "ceph")


@pytest.fixture(scope="session")
def moto(boto: None) -> Iterator[S3Server]:
    """The moto server: an extra store, never the only one."""
    with moto_server() as endpoint:
        yield S3Server(endpoint, ACCESS_KEY, SECRET_KEY, "moto")


@pytest.fixture(scope="session")
def postgres_server(postgres_environment: None) -> Iterator[pg.Databases]:
    """A real PostgreSQL: the one that ARCHIVER_TEST_POSTGRES_URL names, or one of our own."""
    url = os.environ.get("ARCHIVER_TEST_POSTGRES_URL")
    if url:
        yield pg.Databases(admin_url=url, owner_url=url)
        return
    _demand_postgres("; run `make services` or set ARCHIVER_TEST_POSTGRES_URL")
    with pg.PostgresServer.started() as server:
        yield server


@pytest.fixture
def own_postgres_server(postgres_environment: None) -> Iterator[pg.PostgresServer]:
    """A PostgreSQL of this test's own, to stop, restart and replicate. Takes a second."""
    _demand_postgres("; run `make services`")
    with pg.PostgresServer.started() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: pg.Databases) -> Iterator[pg.PostgresDatabase]:
    """An empty database; gone afterwards, with all sessions and prepared transactions in it."""
    url = postgres_server.fresh_database()
    try:
        yield pg.PostgresDatabase(postgres_server, url)
    finally:
        postgres_server.drop_database(url)


def _demand_postgres(what_to_do: str) -> None:
    if pg.programs() is None:
        reason = f"no PostgreSQL: initdb not found{what_to_do}"
        if os.environ.get("ARCHIVER_REQUIRE_POSTGRES") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


_buckets: set[str] = set()


def _place(server: S3Server) -> S3Place:
    if server.endpoint not in _buckets:
        _make_bucket(server)
        _buckets.add(server.endpoint)
    return S3Place(server, BUCKET, f"t/{secrets.token_hex(8)}")


def _make_bucket(server: S3Server) -> None:
    import boto3  # noqa: PLC0415  (slow to import)
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import ClientError  # noqa: PLC0415

    client = boto3.client("s3", endpoint_url=server.endpoint, config=Config(s3={"addressing_style": "path"}))
    try:
        client.head_bucket(Bucket=BUCKET)
    except ClientError:
        client.create_bucket(Bucket=BUCKET)
    # The first object takes Ceph seconds; no test's timeouts shall meet that.
    client.put_object(Bucket=BUCKET, Key="t/first", Body=b"")
    client.delete_object(Bucket=BUCKET, Key="t/first")


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> Iterator[S3Place]:
    """A fresh prefix in a bucket of the real S3 server; emptied afterwards where it is not our own."""
    place = _place(s3_server)
    if s3_server.kind != "external":
        yield place
        return
    store = place.store()
    assert list(store.list()) == []  # and it keeps the credentials, whatever a test does to the environment
    yield place
    store.delete([one.key for one in store.list()])


@pytest.fixture
def moto_bucket(moto: S3Server) -> S3Place:
    return _place(moto)


@pytest.fixture
def local_store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "archive")


@pytest.fixture
def s3_store(s3_bucket: S3Place) -> Any:
    return s3_bucket.store()


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3), "moto"])
def store(request: pytest.FixtureRequest) -> Store:
    """Each kind of store in turn, empty."""
    if request.param == "local":
        return request.getfixturevalue("local_store")
    place = request.getfixturevalue("s3_bucket" if request.param == "s3" else "moto_bucket")
    return place.store()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_NOT_RUN] = Counter()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs a real server, and leave the long searches to `make soak`."""
    for item in items:
        if "s3_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.s3)
        if {"postgres_server", "own_postgres_server"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.postgres)
    if "soak" in config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker("soak")]
    if long:
        config.stash[_NOT_RUN]["long searches, for `make soak`"] = len(long)
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not item.get_closest_marker("soak")]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say in one line which tests did not run, and why."""
    reasons = Counter(config.stash[_NOT_RUN])
    for report in terminalreporter.stats.get("skipped", ()):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")] += 1
    if reasons:
        told = "; ".join(f"{count} ({reason})" for reason, count in reasons.most_common())
        terminalreporter.write_line(f"Tests not run: {told}", yellow=True)
    else:
        terminalreporter.write_line("Tests not run: none")
