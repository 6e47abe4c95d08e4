"""The peer that the archive job is measured against: DuckDB alone, in one statement.

    python tests/bench/peer.py 'INPUT/*.jsonl' OUT

Reads JSON lines of the webhook's flat shape into typed columns and writes Parquet,
partitioned by workspace and day. It checks nothing, removes no repeats, keeps no bodies,
and does not fsync. Lines that it cannot read are skipped. Prints rows and seconds as JSON.
"""

from __future__ import annotations

import json
import sys
import time

import duckdb

# As fast as it fairly can be: no order to keep, all partitions open at once and flushed rarely,
# TIMESTAMP because it parses faster than TIMESTAMPTZ. JSON in `targets` and `metadata` stays JSON
# text, as in the archive.
SETTINGS = """
    SET threads = 2;
    SET preserve_insertion_order = false;
    SET partitioned_write_max_open_files = 1000;
    SET partitioned_write_flush_threshold = 2000000;
"""
MEMBERS = {
    "id": "VARCHAR",
    "actor_id": "VARCHAR",
    "actor_name": "VARCHAR",
    "actor_type": "VARCHAR",
    "action": "VARCHAR",
    "action_category": "VARCHAR",
    "resource": "VARCHAR",
    "resource_id": "VARCHAR",
    "resource_name": "VARCHAR",
    "targets": "JSON",
    "metadata": "JSON",
    "tenant_id": "VARCHAR",
    "session_id": "VARCHAR",
    "idempotency_key": "VARCHAR",
    "version": "BIGINT",
    "ip_address": "VARCHAR",
    "user_agent": "VARCHAR",
    "ip_country": "VARCHAR",
    "ip_city": "VARCHAR",
    "occurred_at": "TIMESTAMP",
    "created_at": "TIMESTAMP",
    "event_hash": "VARCHAR",
    "previous_event_hash": "VARCHAR",
}


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def statement(source: str, target: str) -> str:
    """The one statement."""
    data = "STRUCT(" + ", ".join(f'"{name}" {kind}' for name, kind in MEMBERS.items()) + ")"
    return f"""
        COPY (
            SELECT workspace_id, strftime(timestamp, '%Y-%m-%d') AS dt, event_type, timestamp,
                {", ".join(f'data."{name}" AS "{name}"' for name in MEMBERS)}
            FROM read_json(
                {quoted(source)},
                format = 'newline_delimited',
                ignore_errors = true,
                columns = {{
                    event_type: 'VARCHAR', data: {quoted(data)},
                    workspace_id: 'VARCHAR', timestamp: 'TIMESTAMP'
                }}
            )
        ) TO {quoted(target)} (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (workspace_id, dt))
    """


def main() -> None:
    source, target = sys.argv[1:]
    connection = duckdb.connect()
    connection.execute(SETTINGS)
    started = time.perf_counter()
    found = connection.execute(statement(source, target)).fetchone()
    seconds = time.perf_counter() - started
    print(json.dumps({"rows": found[0] if found else 0, "seconds": round(seconds, 3)}))


if __name__ == "__main__":
    main()
