"""Let Spark fetch the jars of its Delta reader into a folder: `python fetch-delta-jars.py FOLDER`."""

import sys
from pathlib import Path

from delta import configure_spark_with_delta_pip
from pyspark.sql import SparkSession

folder = str(Path(sys.argv[1]).resolve())
builder = SparkSession.builder.master("local[1]").config("spark.jars.ivy", folder)
configure_spark_with_delta_pip(builder.config("spark.ui.enabled", "false")).getOrCreate().stop()
