"""How fast rows come out of PostgreSQL into the archive, beside ADBC alone. Prints one Markdown table.

    python -m tests.bench.bench_database [--rows 5000000] [--runs 3]

A PostgreSQL of its own is started and filled (about a minute for 5 M rows), and stopped at the
end. The job is `archiver run` as a process of its own into an empty local archive: read, make
bodies, check, identify, write, commit, fsync. The peer (`peer_rows.py`) is ADBC into
`pyarrow.dataset.write_dataset`, the same compression and partitions, without checks and bodies.
They alternate; medians, with the range of the seconds. Compare ratios, not times.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from tests.bench.bench import HEADER, HERE, Run, machine, measure, row, say, size
from tests.services.postgres import PostgresServer

TABLE = """
CREATE TABLE audit_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    workspace_id text NOT NULL, actor_id text NOT NULL, actor_name text, actor_type text,
    action text NOT NULL, resource text, resource_id text, resource_name text, metadata jsonb,
    session_id text, ip_address inet, user_agent text, ip_country text, ip_city text,
    occurred_at timestamptz, created_at timestamptz NOT NULL DEFAULT now()
);
"""
FILL = """
INSERT INTO audit_events (workspace_id, actor_id, actor_name, actor_type, action, resource, resource_id,
    resource_name, metadata, session_id, ip_address, user_agent, ip_country, ip_city, occurred_at, created_at)
SELECT 'ws_' || md5((i % 60)::text)::varchar(8), 'user_' || (i::int8 * 7919 % 5000),
       'Clerk ' || (i::int8 * 7919 % 5000),
       CASE WHEN i % 9 = 0 THEN 'api_client' ELSE 'user' END,
       'document.' || (ARRAY['created', 'updated', 'viewed', 'deleted'])[1 + i % 4], 'document',
       'doc_' || md5(i::text),
       CASE WHEN i % 3 = 0 THEN 'Quarterly "report" ' || i END,
       jsonb_build_object('number', i, 'source', 'api', 'plan', (ARRAY['free', 'pro'])[1 + i % 2]),
       'ses_' || md5((i / 40)::text)::varchar(14), ('10.' || i % 250 || '.' || i % 200 || '.1')::inet,
       'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36', (ARRAY['US', 'DE', 'NZ', 'BR'])[1 + i % 4],
       (ARRAY['Austin', 'Bremen', 'Napier', 'Recife'])[1 + i % 4],
       timestamptz '2026-03-01' + i * interval '86 milliseconds' * 5e6 / {rows}, timestamptz '2026-03-01' + i
       * interval '86.4 milliseconds' * 5e6 / {rows}
FROM generate_series({first}, {last}) AS i;
"""
PEER = "peer: ADBC to write_dataset, unchecked"
MINE = "archiver, empty archive"
_AT_ONCE = 100_000


def fill(server: PostgresServer, url: str, rows: int) -> None:
    """Make the table: transactions of 100,000 rows, as many days as the rows fill."""
    say(f"filling a table with {rows:,} rows")
    server.execute(TABLE, url)
    for first in range(0, rows, _AT_ONCE):
        server.execute(FILL.format(first=first, last=min(first + _AT_ONCE, rows) - 1, rows=rows), url)
    server.execute("CREATE INDEX ON audit_events (xid, id); ANALYZE audit_events", url)


def archive_once(work: Path, rows: int) -> Run:
    """Archive the table into an empty archive."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "archiver.toml").write_text(
        f'[archive]\nlocation = "{work}/archive"\n[sources.app]\ntype = "database"\n'
        'url_env = "BENCH_DATABASE_URL"\ntable = "public.audit_events"\n'
    )
    settings = ["--config", str(work / "archiver.toml")]
    command = [sys.executable, "-m", "archiver"]
    subprocess.run(
        [*command, "init", "--no-file", *settings, "--archive", str(work / "archive")],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    numbers, printed = measure([*command, "run", *settings, "--json"], allowed=(0,))
    if (printed["read"], printed["archived"]) != (rows, rows):
        sys.exit(f"the counts are wrong: expected {rows}, found {printed}")
    return Run(*numbers, size(work / "archive"))


def peer_once(work: Path, rows: int) -> Run:
    """Write the table as the peer does."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    numbers, printed = measure([sys.executable, str(HERE / "peer_rows.py"), str(work / "out")], allowed=(0,))
    if printed["rows"] != rows:
        sys.exit(f"the peer wrote {printed['rows']} of {rows} rows")
    return Run(*numbers, size(work / "out"))


def main() -> None:
    """Fill a table, take turns, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    env = os.environ.get
    parser.add_argument("--rows", type=int, default=int(env("BENCH_ROWS", "5000000")))
    parser.add_argument("--runs", type=int, default=int(env("BENCH_RUNS", "3")))
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE.parents[1]), env("PYTHONPATH")]))
    told = f"{machine()}, adbc-driver-postgresql {version('adbc-driver-postgresql')}"
    with PostgresServer.started() as server, tempfile.TemporaryDirectory(prefix="bench-rows-") as folder:
        url = server.fresh_database()
        fill(server, url, options.rows)
        os.environ["BENCH_DATABASE_URL"] = url
        found: dict[str, list[Run]] = {MINE: [], PEER: []}
        for number in range(options.runs):
            for name, job in ((PEER, peer_once), (MINE, archive_once)):
                found[name].append(job(Path(folder) / "run", options.rows))
                say(f"run {number + 1} of {options.runs}: {name}: {found[name][-1].wall:.2f} s")
    peer_seconds = statistics.median(run.wall for run in found[PEER])
    print(f"{told}\n60 workspaces × 5 days; median of {options.runs} alternating runs\n\n{HEADER}")
    for name, runs in found.items():
        print(row(name, runs, options.rows, peer_seconds))


if __name__ == "__main__":
    main()
