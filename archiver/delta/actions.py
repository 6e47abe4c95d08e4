"""Commits as versions of a Delta table: a pure function, from a commit to the bytes of a version.

Format: the Delta transaction log protocol, https://github.com/delta-io/delta/blob/master/PROTOCOL.md
(actions, statistics, partition values, table features).
"""

from __future__ import annotations

import json
from typing import Any, Final

from archiver import clock, layout
from archiver.errors import IntegrityError
from archiver.ledger.entry import Commit, DataFile

DATASET: Final = "events"

# A writer must know all features in this list before it may write, and no engine knows this one.
# It asks nothing of readers. So only the archiver adds versions, and engines refuse to by themselves.
WRITER_FEATURE: Final = "archiverLedger"

# Columns of `events`, by the version of them that commit 0 names. Frozen: version 0 of a table
# that exists must come out the same for ever, whatever is added to `columns.SCHEMAS`.
_COLUMNS: Final = {
    1: (
        "event_type workspace_id timestamp:timestamp id actor_id actor_name actor_type action "
        "action_category resource resource_id resource_name targets metadata tenant_id session_id "
        "idempotency_key version:long ip_address user_agent ip_country ip_city occurred_at:timestamp "
        "created_at:timestamp event_hash previous_event_hash extra shape event_time:timestamp "
        "received_at:timestamp source ordinal:long body origin"
    )
}
_PARTITION: Final = ("workspace", "dt")

_LAST_MS_US: Final = 253_402_300_799_999_000  # 9999-12-31T23:59:59.999Z: nothing to round up to behind it


def version_of(commit: Commit) -> bytes:
    """Return the Delta version that says what `commit` says about `events`.

    Only the commit's meaning goes in: whoever derives it, with whatever version of this
    program, gets the same bytes. A commit that does not touch `events` (a fence, a hold,
    alerts) is a version with `commitInfo` alone.

    Args:
        commit: With all its files in `added`, and its digest.

    Raises:
        IntegrityError: It is the first of an archive whose `events` have columns unknown here.
    """
    said = commit.content
    at_ms = commit.committed_us // 1_000
    actions: list[dict[str, Any]] = [{"commitInfo": _provenance(commit, at_ms)}]
    if said.archive is not None:
        actions += table_of(said.archive, at_ms)
    rearranges = said.operation == "compact"
    gone = {"deletionTimestamp": at_ms, "dataChange": not rearranges}
    actions += [
        {"remove": {"path": layout.delta_path(key), **gone}} for key in said.removed if _is_event(key)
    ]
    actions += [
        {"add": {**add_of(file), "dataChange": not rearranges}} for file in said.added if _is_event(file.key)
    ]
    return b"".join(_line(action) for action in actions)


def _line(action: dict[str, Any]) -> bytes:
    # ASCII: a workspace may hold U+2028 and its like, at which some readers would break the line.
    return _text(action).encode("ascii") + b"\n"


def _text(tree: dict[str, Any]) -> str:
    return json.dumps(tree, sort_keys=True, separators=(",", ":"))


def _is_event(key: str) -> bool:
    return key.startswith(f"{DATASET}/")


def _provenance(commit: Commit, at_ms: int) -> dict[str, Any]:
    return {
        "timestamp": at_ms,
        "operation": commit.content.operation,
        "operationParameters": {"commit": str(commit.sequence), "digest": commit.digest},
        "engineInfo": "archiver",
    }


def table_of(archive: dict[str, Any], created_ms: int) -> list[dict[str, Any]]:
    """Return the actions `protocol` and `metaData` of the table of an archive.

    Args:
        archive: What commit 0 says the archive is.
        created_ms: When it was made, in milliseconds since 1970.

    Raises:
        IntegrityError: Its `events` have columns that are unknown here.
    """
    version = archive.get("datasets", {}).get(DATASET)
    columns = _COLUMNS.get(version)
    if columns is None:
        raise IntegrityError(
            f"{layout.commit(0)}: expected columns of events of version {max(_COLUMNS)} or before, "
            f"found {version!r:.20}",
            hint="a newer version of archiver wrote it; use that version or a later one",
        )
    fields = [
        {"name": name, "type": kind or "string", "nullable": True, "metadata": {}}
        for name, _, kind in (one.partition(":") for one in [*columns.split(), *_PARTITION])
    ]
    return [
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": [WRITER_FEATURE]}},
        {
            "metaData": {
                "id": archive["id"],
                "name": DATASET,
                "format": {"provider": "parquet", "options": {}},
                "schemaString": _text({"type": "struct", "fields": fields}),
                "partitionColumns": list(_PARTITION),
                # An engine that cleans up must leave the old versions: they are what --as-of is to us.
                "configuration": {"delta.enableExpiredLogCleanup": "false"},
                "createdTime": created_ms,
            }
        },
    ]


def add_of(file: DataFile) -> dict[str, Any]:
    """Return the action `add` of a data file, less `dataChange`: the same in versions and checkpoints."""
    where = file.partition
    origin = layout.origin_of(file.key)
    if origin is None:
        raise IntegrityError(f"{file.key}: expected the key of a data file")
    return {
        "path": layout.delta_path(file.key),
        "partitionValues": {"workspace": where.workspace, "dt": where.dt},
        "size": file.bytes,
        "modificationTime": layout.attempt_started_at_ms(origin.attempt),
        "stats": _text(_statistics(file)),
    }


def _statistics(file: DataFile) -> dict[str, Any]:
    """Return what may be said of every row of `file` to readers that count in milliseconds too.

    Delta's statistics of times are in milliseconds, truncated. Readers differ in whether they
    allow for that, so the largest is rounded up: skipping by it is right either way.
    """
    told: dict[str, Any] = {
        "numRecords": file.rows,
        "minValues": {"event_time": _in_ms(file.min_us // 1_000)},
        "nullCount": {"event_time": 0},
    }
    if file.max_us <= _LAST_MS_US:
        told["maxValues"] = {"event_time": _in_ms(-(-file.max_us // 1_000))}
    return told


def _in_ms(ms: int) -> str:
    return clock.to_text(ms * 1_000)[:-4] + "Z"
