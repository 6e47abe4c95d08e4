"""Statements that make an archive's events a table on another engine, and views of the named queries.

A Parquet archive has a Delta log: engines that read it see a snapshot. An archive of JSON lines
has none: there a table of lines is laid over the partitions, and a view makes columns of them,
which sees files that no commit names, or no longer, until `collect` has deleted them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pyarrow as pa
from sqlglot import exp

from archiver import columns, layout
from archiver.archive import Archive
from archiver.errors import ConfigError, QueryError
from archiver.query import ddl_lines, portable
from archiver.query.catalog import Catalog, Query
from archiver.query.dialect import select_of

ENGINES: Final = ("athena", "glue", "trino", "spark", "bigquery")
PARTITIONS: Final = ("registered", "projected")
_SCHEMES: Final = {
    "athena": ("s3",),
    "glue": ("s3",),
    "trino": ("s3", "s3a", "gs", "abfs", "abfss", "hdfs"),
    "bigquery": ("gs", "s3"),
}
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)
_CONNECTION: Final = re.compile(r"[A-Za-z0-9_.:-]{1,200}", re.ASCII)
_HIVE: Final = {pa.string(): "string", pa.int64(): "bigint", columns.TIME: "timestamp"}
_ATHENA: Final = "Athena keeps milliseconds of times."
_NO_SUPPLEMENTS: Final = (
    "What supplements add to events is not shown: `archiver sql` and `archiver query` show it."
)


@dataclass(frozen=True, slots=True)
class Target:
    """Where the table lies and how it is called.

    Attributes:
        engine: One of `ENGINES`.
        location: Of the archive, as the engine reaches it, without a slash at its end.
        data_format: Of the archive.
        database: What the tables and views are made in.
        catalog: Trino's: of its Delta connector, or for lines of its Hive connector.
        connection: BigQuery's, as `project.region.name`.
        partitions: Of lines, on Athena and Glue: registered one by one, or projected.
        live: The partitions that the archive has: workspace, day and key.
        has_quarantine: Whether there are files to make a table of.
    """

    engine: str
    location: str
    data_format: str
    database: str = "archiver"
    catalog: str = ""
    connection: str = ""
    partitions: str = "registered"
    live: tuple[tuple[str, str, str], ...] = field(default=(), repr=False)
    has_quarantine: bool = False

    @property
    def dialect(self) -> str:
        return "athena" if self.engine == "glue" else self.engine

    @property
    def has_delta(self) -> bool:
        return self.data_format == "parquet"

    def name(self, table: str) -> str:
        """Return a table's or view's name as SELECT and CREATE VIEW write it."""
        if self.engine == "trino":
            return f"{self.catalog}.{self.database}.{table}"
        return f"{self.database}.{table}"

    def text(self, value: str) -> str:
        """Return a text as DDL writes it."""
        dialect = "hive" if self.dialect == "athena" else self.dialect
        return exp.Literal.string(value).sql(dialect)


def target_of(
    archive: Archive,
    engine: str,
    *,
    location: str | None = None,
    database: str = "archiver",
    catalog: str | None = None,
    connection: str | None = None,
    partitions: str = "registered",
) -> Target:
    """Return what is to be made of `archive` on `engine`.

    Args:
        location: Where the engine finds the archive; its own location if nothing is told.

    Raises:
        ConfigError: The engine cannot read it there, or a name is none.
    """
    if engine not in ENGINES:
        raise ConfigError(f"no engine is called {engine!r:.40}", hint=f"there are: {', '.join(ENGINES)}")
    data_format = str(archive.ledger.snapshot.archive["data_format"])
    catalog = catalog or ("delta" if data_format == "parquet" else "hive")
    for what, name in (("database", database), ("catalog", catalog)):
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r:.80} is no name of a {what}", hint="small letters, digits and _, a letter first"
            )
    if connection and not _CONNECTION.fullmatch(connection):
        raise ConfigError(f"{connection!r:.80} is no name of a connection", hint="project.region.name")
    if partitions not in PARTITIONS:
        raise ConfigError(f"partitions are {' or '.join(PARTITIONS)}, not {partitions!r:.40}")
    where = _location(engine, location or archive.store.location, connection)
    if data_format == "parquet" and next(iter(archive.store.list(layout.DELTA_LOG)), None) is None:
        raise ConfigError("the archive has no Delta log", hint="make it: archiver publish delta")
    live = {
        (one.partition.workspace, one.partition.dt, one.key.rpartition("/")[0])
        for one in archive.ledger.snapshot.files.select("events", digests=False)
    }
    return Target(
        *(engine, where, data_format, database, catalog, connection or "", partitions),
        live=tuple(sorted(live)) if data_format != "parquet" else (),
        has_quarantine=any(True for _ in archive.ledger.snapshot.quarantine),
    )


def _location(engine: str, location: str, connection: str | None) -> str:
    if not location.isprintable() or "${" in location:
        raise ConfigError(
            "a location with ${, or with characters that cannot be printed", hint="give --location"
        )
    scheme = urlsplit(location).scheme if "://" in location else ""
    allowed = _SCHEMES.get(engine)
    if allowed is not None and scheme not in allowed:
        raise ConfigError(
            f"{engine} reads {' and '.join(f'{one}://' for one in allowed)}, not {location!r:.100}",
            hint="copy the archive there, and give --location; a folder is for spark",
        )
    if engine == "bigquery" and scheme == "s3" and not connection:
        raise ConfigError("BigQuery reads s3:// through a connection of Omni", hint="give --connection")
    if engine == "spark" and any(char in location for char in "*?[]{}\\"):
        raise ConfigError(f"{location!r:.100}: Spark takes this for a pattern", hint="give --location")
    if engine == "spark" and not scheme:
        return str(Path(location).expanduser().resolve())
    if engine == "spark" and scheme == "s3":
        location = "s3a" + location[2:]  # what the S3 reader of Hadoop is called
    return location.rstrip("/")


def text(target: Target, catalog: Catalog | None) -> str:
    """Return all statements, each ended by `;`, with what must be known as comments. Of `glue`, JSON.

    Args:
        catalog: The queries to make views of; None makes none.
    """
    if target.engine == "glue":
        return json.dumps(glue_table(target), indent=2)
    said = [f"{target.engine}: the events of {target.location}", _NO_SUPPLEMENTS]
    said += [_ATHENA, "Run one statement at a time."] if target.engine == "athena" else []
    said += [] if target.has_delta else [ddl_lines.SAID]
    parts = ["\n".join(f"-- {line}" for line in said)]
    parts += [f"{one};" for one in (*tables(target), *([quarantine(target)] if quarantine(target) else []))]
    for query, statement in views(target, catalog) if catalog is not None else ():
        parts.append(statement if statement.startswith("--") else f"-- {query.title}\n{statement};")
    return "\n\n".join(parts)


def tables(target: Target) -> list[str]:
    """Return the statements that make `events`."""
    if not target.has_delta:
        return ddl_lines.statements(target)
    where = target.text(f"{target.location}/events" + ("/" if target.engine == "athena" else ""))
    name, database = target.name("events"), target.database
    if target.engine == "athena":
        return [
            f"CREATE DATABASE IF NOT EXISTS `{database}`",
            f"CREATE EXTERNAL TABLE IF NOT EXISTS `{database}`.`events`\nLOCATION {where}\n"
            "TBLPROPERTIES ('table_type' = 'DELTA')",
        ]
    if target.engine == "trino":
        return [
            f"CREATE SCHEMA IF NOT EXISTS {target.catalog}.{database}",
            f"CALL {target.catalog}.system.register_table(\n  schema_name => '{database}',\n"
            f"  table_name => 'events',\n  table_location => {where}\n)",
        ]
    if target.engine == "spark":
        return [
            f"CREATE DATABASE IF NOT EXISTS {database}",
            f"CREATE TABLE IF NOT EXISTS {name}\nUSING DELTA\nLOCATION {where}",
        ]
    return [
        f"CREATE SCHEMA IF NOT EXISTS {database}",
        f"CREATE EXTERNAL TABLE IF NOT EXISTS {name}\n{ddl_lines.with_connection(target)}"
        f"OPTIONS (\n  format = 'DELTA_LAKE',\n  uris = [{where}]\n)",
    ]


def quarantine(target: Target) -> str:
    """Return the statement that makes a table of the quarantine's lines; empty where there is none.

    It has what its files have: neither the names of entries, nor which were moved since. Without
    files there is no folder, and some engines refuse a table of none.
    """
    members = (
        *(("ordinal", "bigint"), ("reason", "string"), ("detail", "string"), ("source", "string")),
        *(("stream", "string"), ("input", "string"), ("offset", "bigint"), ("received_at", "string")),
        *(("dataset", "string"), ("workspace_id", "string"), ("event_id", "string")),
        *(("body", "string"), ("body_base64", "string")),
    )
    if not target.has_quarantine:
        return ""
    where = target.text(f"{target.location}/_quarantine/")
    if target.engine == "athena":
        listed = ",\n  ".join(f"`{name}` {kind}" for name, kind in members)
        return (
            f"CREATE EXTERNAL TABLE IF NOT EXISTS `{target.database}`.`quarantine_files` (\n  {listed}\n)\n"
            f"ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'\nLOCATION {where}"
        )
    if target.engine == "spark":
        listed = ",\n  ".join(f"`{name}` {kind.upper()}" for name, kind in members)
        return (
            f"CREATE TABLE IF NOT EXISTS {target.name('quarantine_files')} (\n  {listed}\n)\n"
            f"USING JSON\nLOCATION {where}"
        )
    if target.engine == "bigquery":
        kinds = {"bigint": "INT64", "string": "STRING"}
        listed = ",\n  ".join(f"`{name}` {kinds[kind]}" for name, kind in members)
        files = target.text(f"{target.location}/_quarantine/*")
        return (
            f"CREATE EXTERNAL TABLE IF NOT EXISTS {target.name('quarantine_files')} (\n  {listed}\n)\n"
            f"{ddl_lines.with_connection(target)}"
            f"OPTIONS (\n  format = 'JSON',\n  compression = 'GZIP',\n  uris = [{files}]\n)"
        )
    return ""


def views(target: Target, catalog: Catalog) -> Iterable[tuple[Query, str]]:
    """Yield each query with the statement that makes its view, or a comment that says why there is none."""
    for query in catalog:
        try:
            yield query, _view(target, query)
        except QueryError as error:
            yield query, f"-- no view {query.name}: {' '.join(error.message.split())}"


def _view(target: Target, query: Query) -> str:
    if target.partitions == "projected" and not target.has_delta and target.engine == "athena":
        raise QueryError("a projected table answers only where the WHERE names one workspace")
    tree = select_of(query, query.bind({}), target.dialect)
    own = {one.alias_or_name for one in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if table.name in own or not isinstance(table.this, exp.Identifier):
            continue
        if table.name != "events":
            raise QueryError(f"it reads {table.name}, of which only the ledger tells the state")
        named = exp.to_table(target.name("events"), dialect=target.dialect)
        named.set("alias", table.args.get("alias"))
        table.replace(named)
    select = portable.text(tree, target.dialect)
    kinds = {one.name: one.kind for one in query.columns}
    if target.engine == "athena" and "TIMESTAMP WITH TIME ZONE" in kinds.values():
        # Glue, which keeps Athena's views, has no type for a time with a zone.
        shown = ",\n  ".join(
            f"CAST(AT_TIMEZONE({name}, 'UTC') AS TIMESTAMP(3)) AS {name}" if "ZONE" in kind else name
            for name, kind in kinds.items()
        )
        select = f"SELECT\n  {shown}\nFROM (\n{select}\n) AS answer"
    return f"CREATE OR REPLACE VIEW {target.name(query.name)} AS\n{select}"


def glue_table(target: Target) -> Mapping[str, Any]:
    """Return what `aws glue create-table --table-input` takes: the table `events`, or that of its lines."""
    if not target.has_delta:
        return ddl_lines.glue_table(target)
    return {
        "Name": "events",
        "Description": f"{_ATHENA} {_NO_SUPPLEMENTS}",
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {"EXTERNAL": "TRUE", "table_type": "DELTA", "classification": "delta"},
        "PartitionKeys": [],
        "StorageDescriptor": {
            "Location": f"{target.location}/events/",
            "Columns": [
                *({"Name": one.name, "Type": _HIVE[one.type]} for one in columns.SCHEMAS["events"]),
                *({"Name": name, "Type": "string"} for name in ("workspace", "dt")),
            ],
            "InputFormat": "org.apache.hadoop.mapred.SequenceFileInputFormat",
            "OutputFormat": "org.apache.hadoop.hive.ql.io.HiveSequenceFileOutputFormat",
            "SerdeInfo": {"SerializationLibrary": "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe"},
        },
    }
