"""What the archive asks of an S3 server: requests by kind, bytes, and their price at AWS.

    python -m tests.bench.requests [--events 20000] [--runs 8] [--workspaces 50]

Starts a Ceph gateway of its own and counts in a proxy before it, so that every client is
counted alike: boto3, pyarrow's file system, the client's own repeats. Each line of the table
is one process: the first run of an archive, the last one, a compaction of the last days, a
query of one workspace and day, and so on. The proxy adds nothing and answers nothing itself.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.bench.bench import HERE, say
from tests.bench.days import fill
from tests.services import ceph
from tests.services.gateway import Gateway, _Passing

# List prices of S3 Standard in us-east-1, dollars per 1,000 requests, as assumed in November 2026;
# https://aws.amazon.com/s3/pricing/ has those of today. What is deleted costs nothing; the POST
# that deletes many at once is counted like a PUT, which is the dearest that it can be.
DOLLARS_PER_1000 = {"PUT": 0.005, "POST": 0.005, "LIST": 0.005, "GET": 0.0004, "HEAD": 0.0004, "DELETE": 0.0}
KINDS = tuple(DOLLARS_PER_1000)
FIRST_DAY = date(2024, 1, 1)
RUNS_A_DAY = 4  # so that there is something to compact
BUCKET = "archiver-bench"
HEADER = (
    f"| process | {' | '.join(KINDS)} | MiB sent | MiB received | $ per 1,000 such |\n"
    f"|---|{'--:|' * (len(KINDS) + 3)}"
)


def kind_of(method: str, path: str) -> str:
    """Return by what name a request stands on the bill."""
    query = parse_qs(urlsplit(path).query, keep_blank_values=True)
    if method == "GET" and not {"list-type", "versions", "uploads"}.isdisjoint(query):
        return "LIST"
    return method


@dataclass(slots=True)
class Requests:
    """What went by since the last look.

    Attributes:
        kinds: How many of each kind.
        sent, received: Bytes of bodies, without headers.
        statuses: Answers that were errors, by kind and status.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    received: int = 0
    statuses: Counter[str] = field(default_factory=Counter)

    @property
    def dollars(self) -> float:
        return sum(DOLLARS_PER_1000[kind] * count / 1000 for kind, count in self.kinds.items())

    def __add__(self, other: Requests) -> Requests:
        return Requests(
            self.kinds + other.kinds,
            self.sent + other.sent,
            self.received + other.received,
            self.statuses + other.statuses,
        )

    def row(self, name: str) -> str:
        """Return a line of the table under `HEADER`."""
        counts = " | ".join(f"{self.kinds[kind]:,}" for kind in KINDS)
        traffic = f"{self.sent / 2**20:,.2f} | {self.received / 2**20:,.2f}"
        return f"| {name} | {counts} | {traffic} | {self.dollars * 1000:,.2f} |"


class _Counted(_Passing):
    server: Meter

    def _pass_on(self, content: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        answer, body = super()._pass_on(content)
        self.server.count(self.command, self.path, answer.status, len(content), len(body))
        return answer, body


class Meter(Gateway):
    """A proxy before an S3 server that counts what passes."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.RequestHandlerClass = _Counted
        self._seen = Requests()
        self._counting = threading.Lock()

    def take(self, method: str, headers: dict[str, str]) -> str:
        """Let everything pass; nothing of it is kept, since there is much."""
        return "pass"

    def count(self, method: str, path: str, status: int, sent: int, received: int) -> None:
        kind = kind_of(method, path)
        with self._counting:
            self._seen.kinds[kind] += 1
            self._seen.sent += sent
            self._seen.received += received
            if status >= 400:
                self._seen.statuses[f"{kind} {status}"] += 1

    def since_last(self) -> Requests:
        """Return what passed since this was asked last."""
        with self._counting:
            seen, self._seen = self._seen, Requests()
        return seen


@contextmanager
def metered_bucket() -> Iterator[tuple[str, Meter]]:
    """Start a server, and give a location in it that the commands reach through the meter.

    The endpoint and the keys are in the environment for as long as this lasts.
    """
    with ceph.CephGateway.started() as server, Meter.before(server.endpoint) as meter:
        assert isinstance(meter, Meter)
        make_bucket(server)
        said = {
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
            "ARCHIVER_ENDPOINT_URL": meter.endpoint,
            "ARCHIVER_REGION": "us-east-1",
            "ARCHIVER_ADDRESSING_STYLE": "path",
        }
        before = {name: os.environ.get(name) for name in said}
        os.environ.update(said)
        try:
            yield f"s3://{BUCKET}/{secrets.token_hex(4)}", meter
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


def make_bucket(server: ceph.CephGateway) -> None:
    """Create the bucket, and an object in it."""
    import boto3  # noqa: PLC0415  (slow to import)
    from botocore.config import Config  # noqa: PLC0415

    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key="first", Body=b"")  # the first object takes Ceph seconds


def archiver(*arguments: object, allowed: tuple[int, ...] = (0, 3)) -> Any:
    """Run a command in a process of its own and return the document that it prints."""
    command = [sys.executable, "-m", "archiver", *map(str, arguments), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in allowed:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}")
    return json.loads(done.stdout)


def generate(spool: Path, number: int, events: int, workspaces: int) -> str:
    """Fill the spool for the run with this number and return the day that its deliveries are of."""
    day = FIRST_DAY + timedelta(number // RUNS_A_DAY)
    fill(spool, day, number, events, workspaces)
    return day.isoformat()


def lived(
    location: str, meter: Meter, spool: Path, options: argparse.Namespace
) -> list[tuple[str, Requests]]:
    """Run day after day, then do the chores and ask; return what each took of the server."""
    at = ["--archive", location]
    rows: list[tuple[str, Requests]] = []

    def note(name: str, *command: object) -> None:
        meter.since_last()
        archiver(*command, *at)
        rows.append((name, meter.since_last()))
        say(rows[-1][1].row(name))

    day = ""
    for number in range(options.runs):
        day = generate(spool, number, options.events, options.workspaces)
        run = ["run", "--spool", spool, "--settle", 0]
        if number in (0, options.runs - 1):
            note(f"run {number + 1}, {options.events:,} events", *run)
        else:
            archiver(*run, *at)
    workspace = archiver("sql", "SELECT workspace_id FROM events LIMIT 1", *at)["rows"][0]["workspace_id"]
    note("run with an empty spool", "run", "--spool", spool, "--settle", 0)
    where = f"WHERE workspace_id = '{workspace}' AND event_time >= TIMESTAMPTZ '{day} 00:00:00Z'"
    asked = f"SELECT action, count(*) AS n FROM events {where} GROUP BY action"
    note("query of one workspace and day", "sql", asked)
    note(f"compact, after {options.runs} runs", "compact")
    note("the same query, compacted", "sql", asked)
    note("collect", "collect", "--grace", "0s", "--keep-snapshots", "0s", "--force")
    note("status", "status")
    note("verify", "verify")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=int(os.environ.get("BENCH_REQUEST_EVENTS", "20000")))
    parser.add_argument("--runs", type=int, default=int(os.environ.get("BENCH_REQUEST_RUNS", "8")))
    parser.add_argument("--workspaces", type=int, default=50)
    options = parser.parse_args()
    if missing := ceph.missing_programs():
        sys.exit(f"no S3 server: {', '.join(missing)} not found; `make services` installs it")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(HERE.parents[1]), os.environ.get("PYTHONPATH")])
    )
    with tempfile.TemporaryDirectory(prefix="requests-") as folder, metered_bucket() as (location, meter):
        rows = lived(location, meter, Path(folder) / "spool", options)
    asked = f"{options.runs} runs of {options.events:,} events of {options.workspaces} workspaces"
    print(f"{asked}, {RUNS_A_DAY} a day\n")
    print(HEADER)
    for name, seen in rows:
        print(seen.row(name))
    errors = Counter[str]()
    for _, seen in rows:
        errors += seen.statuses
    told = ", ".join(f"{count} × {name}" for name, count in sorted(errors.items())) or "none"
    print(f"\nanswers that were errors (a key that is looked for and not there is one): {told}")


if __name__ == "__main__":
    main()
