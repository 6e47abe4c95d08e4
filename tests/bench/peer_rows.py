"""The peer of the database benchmark: ADBC straight into partitioned Parquet, and nothing else.

    python peer_rows.py FOLDER        the URL stands in BENCH_DATABASE_URL

It checks nothing, looks for no repeats, keeps no bodies, commits nothing and does not fsync.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import adbc_driver_postgresql.dbapi as postgresql
import pyarrow as pa
import pyarrow.dataset as ds

ASKED = """
SELECT id::text, workspace_id, actor_id, actor_name, actor_type, action, resource, resource_id, resource_name,
       metadata::text, session_id, host(ip_address) AS ip_address, user_agent, ip_country, ip_city,
       occurred_at, created_at, workspace_id AS workspace, to_char(created_at, 'YYYY-MM-DD') AS dt
FROM audit_events
"""


def main() -> None:
    """Write the table, and print how many rows there were."""
    count = 0
    with postgresql.connect(os.environ["BENCH_DATABASE_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute(ASKED)
        reader = cursor.fetch_record_batch()

        def counted() -> object:
            nonlocal count
            for batch in reader:
                count += batch.num_rows
                yield batch

        plain = ds.ParquetFileFormat()
        ds.write_dataset(
            counted(),
            Path(sys.argv[1]),
            schema=reader.schema,
            format=plain,
            file_options=plain.make_write_options(compression="zstd", compression_level=1),
            partitioning=ds.partitioning(
                pa.schema([("workspace", pa.string()), ("dt", pa.string())]), flavor="hive"
            ),
            max_open_files=900,
            max_partitions=4_096,
        )
    print(json.dumps({"rows": count}))


if __name__ == "__main__":
    main()
