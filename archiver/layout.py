"""Every object key of an archive, as pure functions. Nothing else joins paths.

    events/workspace=ws_1a2b/dt=2026-03-26/<batch>-<attempt>-<n>.parquet
    alerts/…, supplements/…                          the same layout
    _quarantine/<batch>-<attempt>-<n>.jsonl.gz
    _ledger/00000000000000000042.json
    _ledger/lists/<batch>-<attempt>-added-<n>.json
    _ledger/checkpoints/…, _index/…                  caches
    events/_delta_log/00000000000000000042.json      a view for other engines

Keys are relative to the archive's prefix and use `/` on every store. A batch is
32 hex digits, an attempt 28: twelve of its start in milliseconds, sixteen random,
so that attempts sort by time.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
import urllib.parse
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

DATASETS = ("events", "alerts", "supplements")
LEDGER = "_ledger/"
LISTS = "_ledger/lists/"
CHECKPOINTS = "_ledger/checkpoints/"
CHECKPOINT_PARTS = "_ledger/checkpoints/parts/"
QUARANTINE = "_quarantine/"
INDEX = "_index/"
INDEX_HEADS = "_index/heads/"
INDEX_RUNS = "_index/runs/"
DELTA_LOG = "events/_delta_log/"
DELTA_POINTER = "events/_delta_log/_last_checkpoint"
PROBES = "_probe/"

LONGEST_PARTITION_VALUE_BYTES = 200

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.~")
_COMMIT = re.compile(r"_ledger/([0-9]{20})\.json", re.ASCII)
_CHECKPOINT = re.compile(
    r"_ledger/checkpoints/[0-9]{20}-([0-9]{20})-[0-9]{14}-([0-9a-f]{16})\.json", re.ASCII
)
_LARGEST_SEQUENCE = 10**20 - 1
_INDEX_PART = re.compile(r"_index/runs/([0-9]{4}-[0-9]{2})/[0-9a-f]{16}\.idx", re.ASCII)
_INDEX_HEAD = re.compile(r"_index/heads/([0-9]{20})-[0-9]{14}-([0-9a-f]{16})\.json", re.ASCII)
_ATTEMPT_NAME = re.compile(r"([0-9a-f]{32})-([0-9a-f]{28})-[0-9a-z-]+\.[0-9a-z.]+", re.ASCII)
_DATA_FOLDER = re.compile(
    r"(events|alerts|supplements)/workspace=([^/]+)/dt=([0-9]{4}-[0-9]{2}-[0-9]{2})", re.ASCII
)


def new_attempt() -> str:
    """Name a new attempt: random, and sorted by its start."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"


def attempt_started_at_ms(attempt: str) -> int:
    """Return when `attempt` started by its writer's clock, in milliseconds since 1970."""
    return int(attempt[:12], 16)


def escape(value: str) -> str:
    """Write `value` so that it is one path segment on every store, and reversible.

    All bytes of its UTF-8 but letters, digits and `_-.~` become `%XX`.

    Raises:
        ValueError: It is empty, holds a lone surrogate, or is longer than 200 bytes escaped.
    """
    if not value:
        raise ValueError("an empty partition value")
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        raise ValueError("a partition value with a lone surrogate") from None
    escaped = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in encoded)
    if len(escaped) > LONGEST_PARTITION_VALUE_BYTES:
        raise ValueError(
            f"a partition value of {len(escaped)} bytes, more than {LONGEST_PARTITION_VALUE_BYTES}"
        )
    return escaped


def unescape(segment: str) -> str:
    """Reverse `escape`."""
    return re.sub(rb"%([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), segment.encode()).decode()


def data_file(
    dataset: str, workspace: str, dt: date, batch: str, attempt: str, number: int, suffix: str
) -> str:
    """Key of a data file. `suffix` is `parquet`, `jsonl.gz` or `jsonl.zst`."""
    folder = f"{dataset}/workspace={escape(workspace)}/dt={dt.isoformat()}"
    return f"{folder}/{batch}-{attempt}-{number}.{suffix}"


def quarantine_file(batch: str, attempt: str, number: int) -> str:
    return f"{QUARANTINE}{batch}-{attempt}-{number}.jsonl.gz"


def commit(sequence: int) -> str:
    return f"{LEDGER}{sequence:020d}.json"


def file_list(batch: str, attempt: str, number: int) -> str:
    """Key of a list of more data files than a commit holds itself."""
    return f"{LISTS}{batch}-{attempt}-added-{number}.json"


def checkpoint(sequence: int, written_at_ms: int, digest: str) -> str:
    """Key of a checkpoint's manifest. That of the newest commit, written last, comes first in a listing.

    Args:
        sequence: Of the commit whose state it is.
        written_at_ms: By the writer's clock, in milliseconds since 1970.
        digest: Of the manifest's bytes.
    """
    order = f"{_LARGEST_SEQUENCE - sequence:020d}-{sequence:020d}-{10**14 - 1 - written_at_ms:014d}"
    return f"{CHECKPOINTS}{order}-{digest[7:23]}.json"


def checkpoint_part(first: int, last: int, kind: str) -> str:
    """Key of a new part of checkpoints, about the commits `first` to `last`; random, never used twice."""
    return f"{CHECKPOINT_PARTS}{first:020d}-{last:020d}-{secrets.token_hex(8)}-{kind}.parquet"


def checkpoint_of(key: str) -> tuple[int, str] | None:
    """Return sequence and beginning of the digest if `key` is that of a checkpoint's manifest."""
    found = _CHECKPOINT.fullmatch(key)
    return (int(found[1]), found[2]) if found else None


def delta_version(sequence: int) -> str:
    """Key of the Delta version that is derived from commit `sequence`."""
    return f"{DELTA_LOG}{sequence:020d}.json"


def delta_checkpoint(sequence: int) -> str:
    """Key of the Delta checkpoint of version `sequence`."""
    return f"{DELTA_LOG}{sequence:020d}.checkpoint.parquet"


def delta_path(key: str) -> str:
    """Return how a Delta log names a data file of `events`: from the table's folder, encoded as in a URI.

    The `%` of an escaped workspace is a character of the key, so it is encoded once more.
    """
    return urllib.parse.quote(key.removeprefix("events/"), safe="/=")


def sequence_of(key: str) -> int | None:
    """Return the sequence if `key` is that of a commit."""
    found = _COMMIT.fullmatch(key)
    return int(found[1]) if found else None


def new_index_part(month: str) -> str:
    """Name a new object of the identity index. `month` is `yyyy-mm`."""
    return f"{INDEX_RUNS}{month}/{secrets.token_hex(8)}.idx"


def index_part_month(key: str) -> str | None:
    """Return the month, `yyyy-mm`, if `key` is that of an object of the identity index."""
    found = _INDEX_PART.fullmatch(key)
    return found[1] if found else None


def index_head(sequence: int, written_at_ms: int, check: str) -> str:
    """Key of a manifest of the identity index; the one of the newest commit, written last, sorts first.

    Args:
        sequence: Up to which commit everything is indexed.
        written_at_ms: By the writer's clock, in milliseconds since 1970.
        check: 16 hex digits of the manifest's own digest.
    """
    return f"{INDEX_HEADS}{10**20 - 1 - sequence:020d}-{10**14 - 1 - written_at_ms:014d}-{check}.json"


def before_index_heads(sequence: int) -> str:
    """Return a key behind which a listing has the manifests of the identity index up to `sequence`."""
    return f"{INDEX_HEADS}{10**20 - 1 - sequence:020d}"


def index_head_of(key: str) -> tuple[int, str] | None:
    """Return sequence and check if `key` is that of a manifest of the identity index."""
    found = _INDEX_HEAD.fullmatch(key)
    return (10**20 - 1 - int(found[1]), found[2]) if found else None


@dataclass(frozen=True, slots=True)
class Origin:
    """Which attempt at which batch an object is of."""

    batch: str
    attempt: str


def origin_of(key: str) -> Origin | None:
    """Return the batch and attempt in the name of a data, quarantine or list object."""
    folder, _, name = key.rpartition("/")
    if folder + "/" not in (QUARANTINE, LISTS) and not _DATA_FOLDER.fullmatch(folder):
        return None
    found = _ATTEMPT_NAME.fullmatch(name)
    return Origin(found[1], found[2]) if found else None


def stem_of(key: str) -> str:
    """Return `<batch>-<attempt>-<n>` of a data file: what the column `origin` names it by."""
    return key.rpartition("/")[2].partition(".")[0]


def number_of(key: str) -> int:
    """Return the number in a data file's name: how many its attempt had written before it."""
    return int(stem_of(key).rpartition("-")[2])


@dataclass(frozen=True, slots=True)
class Partition:
    dataset: str
    workspace: str
    dt: str


def folders_of(dataset: str | None = None, workspaces: Collection[str] | None = None) -> tuple[str, ...]:
    """Return what the keys of the data files of a dataset and of these workspaces begin with; None is all."""
    datasets = DATASETS if dataset is None else (dataset,)
    if workspaces is None:
        return tuple(f"{name}/" for name in datasets)
    escaped = []
    for one in workspaces:
        with contextlib.suppress(ValueError):  # of what can be no partition there are no files
            escaped.append(escape(one))
    return tuple(f"{name}/workspace={one}/" for name in datasets for one in escaped)


def partition_of(key: str) -> Partition | None:
    """Return dataset, workspace and day of a data file's key."""
    folder = key.rpartition("/")[0]
    found = _DATA_FOLDER.fullmatch(folder)
    return Partition(found[1], _unescaped(found[2]), found[3]) if found else None


@lru_cache(maxsize=4_096)  # of one workspace there are many files
def _unescaped(segment: str) -> str:
    return unescape(segment)
