"""Run by Spark's own Python: ask one session many things, print what it answers as one JSON document.

    python spark_queries.py ASKED JARS SCRATCH

ASKED is a JSON file: a list of `{"setup": [statement, …], "ask": [statement, …]}`. It imports
nothing of ours. Times are told in microseconds since 1970, days and decimals as text.
"""

from __future__ import annotations

import datetime as dt
import glob
import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

ASKED, JARS, SCRATCH = sys.argv[1:]


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
        "spark.ui.enabled": "false",
        # Tables of ten rows: to compile code for each query takes longer than to do without.
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.adaptive.enabled": "false",
    }
    for name, value in options.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def rows(frame: DataFrame) -> list[list[Any]]:
    columns = [
        f.unix_micros(frame[place]).alias(f"c{place}") if kind == "timestamp" else frame[place]
        for place, (_, kind) in enumerate(zip(frame.columns, (k for _, k in frame.dtypes), strict=True))
    ]
    return [[_plain(value) for value in row] for row in frame.select(*columns).collect()]


def _plain(value: Any) -> Any:
    if isinstance(value, dt.date):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value


def main() -> None:
    spark = session()
    spark.sparkContext.setLogLevel("OFF")
    told = []
    for one in json.loads(Path(ASKED).read_text()):
        found: list[Any] = []
        for statement in one["setup"]:
            spark.sql(statement)
        for statement in one["ask"]:
            try:
                found.append(rows(spark.sql(statement)))
            except Exception as error:
                found.append(f"{type(error).__name__}: {str(error)[:1000]}")
        told.append(found)
    json.dump(told, sys.stdout)


main()
