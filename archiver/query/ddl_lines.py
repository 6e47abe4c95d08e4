"""An archive of JSON lines as a table on another engine: a table of bodies, and a view with their columns.

Field separators are U+0001, the default of Hive's text reader, which a JSON text cannot hold
unescaped: so a line is one field, whatever is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from archiver import columns
from archiver.event import ROW_EVENT

if TYPE_CHECKING:
    from archiver.query.ddl import Target

SAID: Final = (
    "Engines read the folders of JSON lines, and may see files that no commit names: see `archiver collect`."
)
_UNKNOWN: Final = ("extra", "received_at", "source", "ordinal", "origin")
_INPUT: Final = "org.apache.hadoop.mapred.TextInputFormat"
_OUTPUT: Final = "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat"
_SERDE: Final = "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe"
_TYPES: Final = {
    "athena": {"text": "VARCHAR", "integer": "BIGINT", "instant": "TIMESTAMP(3)"},
    "trino": {"text": "VARCHAR", "integer": "BIGINT", "instant": "TIMESTAMP(6) WITH TIME ZONE"},
    "spark": {"text": "STRING", "integer": "BIGINT", "instant": "TIMESTAMP"},
    "bigquery": {"text": "STRING", "integer": "INT64", "instant": "TIMESTAMP"},
}


def statements(target: Target) -> list[str]:
    """Return the statements that make the table `events_lines` and the view `events`."""
    made = {"athena": _athena, "trino": _trino, "spark": _spark, "bigquery": _bigquery}[target.engine]
    return [*made(target), view(target)]


def with_connection(target: Target) -> str:
    """Return BigQuery's clause for its connection."""
    return f"WITH CONNECTION `{target.connection}`\n" if target.connection else ""


def view(target: Target) -> str:
    """Return the statement that makes the view `events` of the lines, with the columns of the archive."""
    shown = ",\n  ".join(f"{value} AS {name}" for name, value in _columns(target.engine).items())
    source = target.name("events_lines")
    return f"CREATE OR REPLACE VIEW {target.name('events')} AS\nSELECT\n  {shown}\nFROM {source}"


def glue_table(target: Target) -> Mapping[str, Any]:
    """Return Glue's description of the table of lines."""
    return {
        "Name": "events_lines",
        "Description": SAID,
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {"EXTERNAL": "TRUE", "classification": "json", **_projection(target)},
        "PartitionKeys": [{"Name": name, "Type": "string"} for name in ("workspace", "dt")],
        "StorageDescriptor": {
            "Location": f"{target.location}/events/",
            "Columns": [{"Name": "body", "Type": "string"}],
            "InputFormat": _INPUT,
            "OutputFormat": _OUTPUT,
            "SerdeInfo": {"SerializationLibrary": _SERDE, "Parameters": {"field.delim": "\x01"}},
        },
    }


def _projection(target: Target) -> dict[str, str]:
    """Return the table's properties for partitions that are not registered.

    The workspace is `injected`: taken from the WHERE of each query, which fails without one. A list
    (`enum`) would silently leave out each workspace that began after it was written. The days go
    back to the archive's first: an import of old rows may have brought some of long ago.
    """
    if target.partitions != "projected":
        return {}
    first = min(["2020-01-01", *(day for _, day, _ in target.live)])
    return {
        "projection.enabled": "true",
        "projection.workspace.type": "injected",
        "projection.dt.type": "date",
        "projection.dt.format": "yyyy-MM-dd",
        "projection.dt.range": f"{first},NOW+1DAY",
        "storage.location.template": f"{target.location}/events/workspace=${{workspace}}/dt=${{dt}}/",
    }


def _athena(target: Target) -> list[str]:
    database = target.database
    properties = "".join(
        f"\n  {target.text(name)} = {target.text(value)}," for name, value in _projection(target).items()
    ).rstrip(",")
    made = [
        f"CREATE DATABASE IF NOT EXISTS `{database}`",
        f"CREATE EXTERNAL TABLE IF NOT EXISTS `{database}`.`events_lines` (`body` string)\n"
        "PARTITIONED BY (`workspace` string, `dt` string)\n"
        f"ROW FORMAT DELIMITED FIELDS TERMINATED BY '\\001'\nSTORED AS TEXTFILE\n"
        f"LOCATION {target.text(f'{target.location}/events/')}"
        + (f"\nTBLPROPERTIES ({properties}\n)" if properties else ""),
    ]
    if not properties:
        for start in range(0, len(target.live), 100):
            listed = "\n  ".join(
                f"PARTITION (`workspace` = {target.text(workspace)}, `dt` = {target.text(day)}) "
                f"LOCATION {target.text(f'{target.location}/{key}/')}"
                for workspace, day, key in target.live[start : start + 100]
            )
            made.append(f"ALTER TABLE `{database}`.`events_lines` ADD IF NOT EXISTS\n  {listed}")
    return made


def _trino(target: Target) -> list[str]:
    return [
        f"CREATE SCHEMA IF NOT EXISTS {target.catalog}.{target.database}",
        f"CREATE TABLE IF NOT EXISTS {target.name('events_lines')} (\n"
        "  body varchar,\n  workspace varchar,\n  dt varchar\n)\nWITH (\n  format = 'TEXTFILE',\n"
        f"  external_location = {target.text(f'{target.location}/events')},\n"
        "  partitioned_by = ARRAY['workspace', 'dt']\n)",
        f"CALL {target.catalog}.system.sync_partition_metadata('{target.database}', 'events_lines', 'FULL')",
    ]


def _spark(target: Target) -> list[str]:
    return [
        f"CREATE DATABASE IF NOT EXISTS {target.database}",
        f"CREATE TABLE IF NOT EXISTS {target.name('events_lines')} "
        "(value STRING, workspace STRING, dt STRING)\nUSING TEXT\nPARTITIONED BY (workspace, dt)\n"
        f"LOCATION {target.text(f'{target.location}/events')}",
        f"MSCK REPAIR TABLE {target.name('events_lines')}",
    ]


def _bigquery(target: Target) -> list[str]:
    root = f"{target.location}/events"
    return [
        f"CREATE SCHEMA IF NOT EXISTS {target.database}",
        f"CREATE EXTERNAL TABLE IF NOT EXISTS {target.name('events_lines')} (body STRING)\n"
        "WITH PARTITION COLUMNS (workspace STRING, dt STRING)\n"
        f"{with_connection(target)}OPTIONS (\n  format = 'CSV',\n  field_delimiter = '\\x01',\n"
        f"  quote = '',\n  uris = [{target.text(f'{root}/*')}],\n"
        f"  hive_partition_uri_prefix = {target.text(root)}\n)",
    ]


def _columns(engine: str) -> dict[str, str]:
    """Return of each column of `events` how it is read from a body."""
    found = {name: _member(engine, f"$.{name}", kind) for name, kind in columns.EVENT_ENVELOPE.items()}
    # As in docs/format.md, section 8: what tells no type is a row of a database, and flat.
    is_row = f"{found['event_type']} IS NULL"
    nested = {
        flat: f"{parent}.{name}" for parent, names in columns.NESTED.items() for name, flat in names.items()
    }
    # And an actor that is an object, and no flat one, is nested.
    is_nested = (
        f"{_member(engine, '$.data.actor.id', 'text')} IS NOT NULL "
        f"AND {_member(engine, '$.data.actor_id', 'text')} IS NULL"
    )
    for name, kind in columns.EVENT_MEMBERS.items():
        cases = f"CASE WHEN {is_row} THEN {_member(engine, f'$.{name}', kind)}"
        if name in nested:
            cases += f" WHEN {is_nested} THEN {_member(engine, f'$.data.{nested[name]}', kind)}"
        found[name] = f"{cases} ELSE {_member(engine, f'$.data.{name}', kind)} END"
    types = _TYPES[engine]
    for field in columns.SCHEMAS["events"]:
        if field.name in _UNKNOWN:
            kind = {"timestamp[us, tz=UTC]": "instant", "int64": "integer"}.get(str(field.type), "text")
            found[field.name] = f"CAST(NULL AS {types[kind]})"
    found["shape"] = f"CASE WHEN {is_row} THEN 'row' WHEN {is_nested} THEN 'nested' ELSE 'webhook' END"
    placed = [_member(engine, f"$.{name}", columns.INSTANT) for name in ROW_EVENT.event_times]
    found["event_time"] = (
        f"CASE WHEN {is_row} THEN COALESCE({', '.join(placed)}) ELSE {found['timestamp']} END"
    )
    # A row may have a column of this name: it is not the envelope's.
    found["timestamp"] = f"CASE WHEN NOT {is_row} THEN {found['timestamp']} END"
    found["body"] = _body(engine)
    order = columns.SCHEMAS["events"].names
    quoted = {"timestamp": '"timestamp"' if engine in ("athena", "trino") else "`timestamp`"}
    return {quoted.get(name, name): found[name] for name in order} | {"workspace": "workspace", "dt": "dt"}


def _body(engine: str) -> str:
    return "value" if engine == "spark" else "body"


def _member(engine: str, path: str, kind: str) -> str:
    body, types = _body(engine), _TYPES[engine]
    if engine == "spark":
        text = f"GET_JSON_OBJECT({body}, '{path}')"
        instant = f"CAST(UPPER({text}) AS TIMESTAMP)"
        whole = text
    elif engine == "bigquery":
        text, whole = f"JSON_VALUE({body}, '{path}')", f"JSON_QUERY({body}, '{path}')"
        instant = f"SAFE_CAST(REGEXP_REPLACE(UPPER({text}), r'(\\.\\d{{6}})\\d+', r'\\1') AS TIMESTAMP)"
    else:
        text, whole = f"JSON_EXTRACT_SCALAR({body}, '{path}')", f"JSON_FORMAT(JSON_EXTRACT({body}, '{path}'))"
        if engine == "trino":
            instant = f"CAST(FROM_ISO8601_TIMESTAMP_NANOS(UPPER({text})) AS {types['instant']})"
        else:
            at_utc = f"AT_TIMEZONE(FROM_ISO8601_TIMESTAMP(UPPER({text})), 'UTC')"
            instant = f"CAST({at_utc} AS {types['instant']})"
    if kind == columns.INSTANT:
        return instant
    if kind == columns.INTEGER:
        caster = {"spark": "TRY_CAST", "bigquery": "SAFE_CAST"}.get(engine, "TRY_CAST")
        return f"{caster}({text} AS {types['integer']})"
    return whole if kind == columns.JSON else text
