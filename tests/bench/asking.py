"""Two ways to ask one question: the archive through `archiver.open`, and its data files without it.

The peer in a folder is DuckDB's `read_parquet` over a glob; in a bucket it is a pyarrow
dataset found by listing, registered in DuckDB. Both prune by the folders' names. Neither
knows what is committed, so they tell the truth only where every file is live.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

import archiver
from archiver.store.base import Store
from archiver.store.local import LocalStore
from archiver.store.open import open_store
from tests.bench.many_files import FIRST_DAY, Plan
from tests.bench.requests import BUCKET, Meter, make_bucket
from tests.services import ceph

MONTH_DAYS = 31
COLUMNS = "event_time, workspace_id, id, actor_id, action, resource_id, ip_address, body"
LISTED = """
import os
import pyarrow.dataset, pyarrow.fs
filesystem = pyarrow.fs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"], region="us-east-1")
events = pyarrow.dataset.dataset({root!r}, filesystem=filesystem, partitioning="hive")
"""
PEER = """
import duckdb
{listed}
found = duckdb.sql(sys.argv[1]).to_arrow_table()
print(found.num_rows)
"""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, with `{events}` where the events come from; one text for each repetition.

    Attributes:
        wanted: How many times as fast as the peer it should be.
    """

    name: str
    wanted: float
    texts: tuple[str, ...]


def questions(folder: Path, plan: Plan, repetitions: int) -> list[Question]:
    """Return the questions about the archive of `plan` in `folder`: other rows in each repetition."""
    random = Random(plan.seed)
    files = sorted(folder.glob("events/workspace=*/dt=*/*.parquet"))
    by_id, of_one, of_all = [], [], []
    for path in random.choices(files, k=repetitions):
        rows = pq.ParquetFile(path).read(columns=["id", "actor_id", "workspace_id"])
        row = rows.slice(random.randrange(rows.num_rows), 1).to_pylist()[0]
        day = path.parent.name.removeprefix("dt=")
        by_id.append(f"SELECT {COLUMNS} FROM {{events}} WHERE id = '{row['id']}'")
        actor = (
            f"SELECT {COLUMNS} FROM {{events}} WHERE dt = '{day}'"
            f" AND event_time >= TIMESTAMPTZ '{day} 00:00:00Z'"
            f" AND event_time <= TIMESTAMPTZ '{day} 23:59:59.999999Z' AND actor_id = '{row['actor_id']}'"
        )
        of_one.append(f"{actor} AND workspace = '{row['workspace_id']}' ORDER BY event_time, id")
        of_all.append(f"{actor} ORDER BY event_time, id")
    last = plan.day(MONTH_DAYS - 1)
    month = (
        f"SELECT dt, action, count(*) AS events FROM {{events}} WHERE dt BETWEEN '{FIRST_DAY}' AND '{last}'"
        f" AND event_time >= TIMESTAMPTZ '{FIRST_DAY} 00:00:00Z'"
        f" AND event_time <= TIMESTAMPTZ '{last} 23:59:59.999999Z' GROUP BY dt, action ORDER BY dt, action"
    )
    return [
        Question("one event by id", 10, tuple(by_id)),
        Question("an actor in one day, one workspace", 3, tuple(of_one)),
        Question("an actor in one day, all workspaces", 3, tuple(of_all)),
        Question("events per day and action in a month", 1, (month,) * repetitions),
    ]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an archive lies, and how each side opens it."""

    name: str
    location: str

    @property
    def is_local(self) -> bool:
        return "://" not in self.location

    @property
    def scan(self) -> str:
        """Return what the peer reads in place of the view `events`."""
        if self.is_local:
            return f"read_parquet('{self.location}/events/*/*/*.parquet', hive_partitioning = true)"
        return "events"

    def ours(self, text: str) -> pa.Table:
        """Open the archive, ask, and return all rows."""
        return archiver.open(self.location).sql(text.format(events="events")).arrow()

    def theirs(self, text: str) -> pa.Table:
        """Find the files, ask, and return all rows."""
        with duckdb.connect() as connection:
            if not self.is_local:
                found = ds.dataset(self._root(), filesystem=_file_system(), partitioning="hive")
                connection.register("events", found)
            return connection.sql(text.format(events=self.scan)).to_arrow_table()

    def sides(self) -> dict[str, Callable[[str], pa.Table]]:
        return {"archiver": self.ours, "peer": self.theirs}

    def peer_script(self) -> str:
        """Return a program that does what `theirs` does with its first argument."""
        listed = "" if self.is_local else LISTED.format(root=self._root()).strip()
        return PEER.format(listed=listed)

    def _root(self) -> str:
        return self.location.removeprefix("s3://") + "/events"


def same_rows(ours: pa.Table, theirs: pa.Table) -> bool:
    """Say whether two answers have the same rows in some order. A day may be a text or a date."""
    told = [sorted(tuple(map(str, row.values())) for row in one.to_pylist()) for one in (ours, theirs)]
    return told[0] == told[1]


def _file_system() -> fs.S3FileSystem:
    return fs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"], region="us-east-1")


@contextmanager
def uploaded(folder: Path) -> Iterator[tuple[Place, Meter]]:
    """Start an S3 server, copy an archive with its caches into it as it is, and stop it at the end."""
    with ceph.CephGateway.started() as server:
        make_bucket(server)
        location = f"s3://{BUCKET}/archive"
        with copied(folder, location, server.endpoint, server.access_key, server.secret_key) as both:
            yield both


@contextmanager
def copied(
    folder: Path, location: str, endpoint: str, access_key: str, secret_key: str
) -> Iterator[tuple[Place, Meter]]:
    """Copy an archive with its caches into a bucket as it is.

    How to reach the server is in the environment as long as this lasts: without the meter,
    which would cost time; `through` sends what follows through it.
    """
    said = {
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }
    with environment(said), Meter.before(endpoint) as meter:
        assert isinstance(meter, Meter)
        _upload(LocalStore(folder), open_store(location))
        yield Place("S3 server", location), meter


@contextmanager
def through(meter: Meter) -> Iterator[None]:
    """Send requests through the meter as long as this lasts."""
    with environment({"AWS_ENDPOINT_URL": meter.endpoint}):
        yield


@contextmanager
def environment(said: dict[str, str]) -> Iterator[None]:
    """Set variables as long as this lasts."""
    before = {name: os.environ.get(name) for name in said}
    os.environ.update(said)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _upload(source: Store, destination: Store) -> None:
    with ThreadPoolExecutor(8) as threads:
        for _ in threads.map(lambda one: destination.put(one.key, source.get(one.key)), source.list("")):
            pass
