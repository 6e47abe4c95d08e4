"""Run by Spark's own Python: print what Spark finds in a Delta table, one JSON document.

    python spark_reader.py TABLE JARS SCRATCH

It imports nothing of ours. Times are told in microseconds since 1970.
"""

from __future__ import annotations

import glob
import json
import sys
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

TABLE, JARS, SCRATCH = sys.argv[1:]


def session() -> SparkSession:
    builder = SparkSession.builder.master("local[1]").appName("archiver-tests")
    options = {
        "spark.jars": ",".join(glob.glob(f"{JARS}/*.jar")),  # noqa: PTH207
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.warehouse.dir": f"{SCRATCH}/warehouse",
        "spark.local.dir": SCRATCH,
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.databricks.delta.retentionDurationCheck.enabled": "false",
        "spark.ui.enabled": "false",
    }
    for name, value in options.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def rows(frame: DataFrame) -> list[dict[str, Any]]:
    times = [name for name, kind in frame.dtypes if kind == "timestamp"]
    return [
        row.asDict() for row in frame.withColumns({name: f.unix_micros(name) for name in times}).collect()
    ]


def refusal(spark: SparkSession, statement: str) -> str:
    try:
        spark.sql(statement).collect()
    except Exception as error:
        return str(error)[:300]
    return "it was done"


def main() -> None:
    spark = session()
    spark.sparkContext.setLogLevel("ERROR")
    table = spark.read.format("delta").load(TABLE)
    name = f"delta.`{TABLE}`"
    history = [
        (row.version, row.operation, dict(row.operationParameters))
        for row in spark.sql(f"DESCRIBE HISTORY {name}").collect()
    ]
    head = history[0][0]
    edges = table.agg(f.min("event_time"), f.max("event_time")).collect()[0]
    told = {
        "rows": rows(table),
        "ids_of_version": {
            version: [row.id for row in _at(spark, version).select("id").collect()]
            for version in (1, head - 3, head - 1)
        },
        "history": history,
        "at_or_after_the_last": table.where(table.event_time >= f.lit(edges[1])).count(),
        "after_the_last": table.where(table.event_time > f.lit(edges[1])).count(),
        "at_or_before_the_first": table.where(table.event_time <= f.lit(edges[0])).count(),
        "of_workspace": {
            name: table.where(table.workspace == name).count()
            for name in ("0012", "a%20b", "__HIVE_DEFAULT_PARTITION__")
        },
        "refusals": [
            refusal(spark, statement)
            for statement in (
                f"DELETE FROM {name}",
                f"VACUUM {name} RETAIN 0 HOURS",
                f"RESTORE {name} TO VERSION AS OF 1",
            )
        ],
    }
    json.dump(told, sys.stdout)


def _at(spark: SparkSession, version: int) -> DataFrame:
    return spark.read.format("delta").option("versionAsOf", version).load(TABLE)


main()
