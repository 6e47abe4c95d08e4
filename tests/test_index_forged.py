"""Caches that somebody wrote who may write to the bucket: checksums right, contents wrong.

An index can hide an archived id, and the event is then archived once more, which `verify`
reports. Neither it nor a checkpoint can make an event vanish.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from xxhash import xxh3_64_hexdigest, xxh3_64_intdigest

from archiver import layout
from archiver.archive import Archive, open_archive
from archiver.errors import IntegrityError
from archiver.index import manifest, part
from archiver.index.part import PartEntry
from archiver.ledger.entry import DataFile
from tests.support import archive_bodies, event, new_archive

EVENTS = 3_000  # several blocks
PART = {
    "key": "_index/runs/2026-03/0123456789abcdef.idx",
    "month": "2026-03",
    "run": "r",
    "bytes": 1_000,
    "entries": 1,
    "files": 1,
    "first": "0" * 16,
    "last": "f" * 16,
    "check": "0" * 16,
}


def _archived(tmp_path: Path, count: int = 3) -> Archive:
    archive = new_archive(tmp_path / "a")
    archive_bodies(archive, *(event(f"e{number}") for number in range(count)))
    return archive


def _put_manifest(archive: Archive, tree: dict[str, Any], *, named: int | None = None) -> None:
    content = json.dumps(tree).encode()
    sequence = archive.ledger.snapshot.sequence if named is None else named
    check = hashlib.sha256(content).hexdigest()[:16]
    archive.store.put(layout.index_head(sequence, 9 * 10**12, check), content)


def _assert_decides_rightly(archive: Archive) -> None:
    """An archived id is a duplicate, a new one is archived, and the index can be brought up to date."""
    archive = open_archive(archive.store)
    counts = archive_bodies(archive, event("e1"), event("n1")).counts
    assert (counts.duplicates, counts.archived) == (1, 1)
    archive.identities.update()
    counts = archive_bodies(open_archive(archive.store), event("e2"), event("n1"), event("n2")).counts
    assert (counts.duplicates, counts.archived) == (2, 1)


@pytest.mark.parametrize(
    "told",
    [
        {"sequence": 10**6},
        {"sequence": -3},
        {"sequence": True},
        {"sequence": float("inf")},
        {"sequence": 10**400},
        {"format": 1.0},
        {"commit": 7},
        {"parts": {"a": 1}},
        {"parts": [[]]},
        {"parts": [PART | {"first": "f" * 20}]},
        {"parts": [PART | {"first": "-1"}]},
        {"parts": [PART | {"month": "zzz"}]},
        {"parts": [PART | {"month": "2026-04"}]},
        {"parts": [PART | {"month": "2026-13", "key": "_index/runs/2026-13/0123456789abcdef.idx"}]},
        {"parts": [PART | {"entries": 0}]},
        {"parts": [PART | {"entries": 1.5}]},
        {"parts": [PART | {"entries": 2**50}]},
        {"parts": [PART | {"key": "../../etc/passwd"}]},
        {"parts": [PART | {"key": "a\0b"}]},
        {"parts": [PART | {"key": "_ledger/00000000000000000000.json"}]},
        {"parts": [{"key": PART["key"]}]},
    ],
    ids=str,
)
def test_a_manifest_that_nobody_of_ours_wrote_is_left_aside(tmp_path: Path, told: dict[str, Any]) -> None:
    archive = _archived(tmp_path)
    head = archive.ledger.snapshot
    right = {"format": 1, "hash": "xxh3-64", "sequence": head.sequence, "commit": head.digest, "parts": []}
    _put_manifest(archive, right | told)
    assert manifest.newest(archive.ledger, up_to=head.sequence) is None
    _assert_decides_rightly(archive)


def test_manifests_that_go_too_far_hide_none_that_fits(tmp_path: Path) -> None:
    """As after the ledger was restored from a copy into a bucket with a newer index."""
    archive = _archived(tmp_path)
    archive.identities.update()
    fits = manifest.newest(archive.ledger, up_to=archive.ledger.snapshot.sequence)
    for number in range(2, 50):
        _put_manifest(archive, {"sequence": number}, named=number)
    assert manifest.newest(archive.ledger, up_to=archive.ledger.snapshot.sequence) == fits


def _forged(table: bytes | None = None, **columns: Any) -> Callable[[bytes, PartEntry], bytes]:
    """Return what replaces table, hashes or file numbers of an object, and puts every checksum right."""

    def forge(content: bytes, entry: PartEntry) -> bytes:
        count = entry.entries
        hashes = np.frombuffer(content, "<u8", count).copy()
        files = np.frombuffer(content, "<u4", count, 8 * count).copy()
        header = list(part._HEADER.unpack_from(content, 12 * count))
        keys = content[-header[4] :] if table is None else table
        hashes, files = columns.get("hashes", lambda a: a)(hashes), columns.get("files", lambda a: a)(files)
        header[4], header[5] = columns.get("size", len(keys)), xxh3_64_intdigest(keys)
        header[6] = columns.get("month", header[6])
        directory = np.empty(entry.blocks, part._DIRECTORY)
        directory["first"] = hashes[:: part.BLOCK]
        directory["hashes"] = part._checksums(hashes.tobytes(), 8 * part.BLOCK)
        directory["files"] = part._checksums(files.tobytes(), 4 * part.BLOCK)
        head = part._HEADER.pack(*header) + directory.tobytes()
        return hashes.tobytes() + files.tobytes() + head + keys

    return forge


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _shuffled(values: np.ndarray) -> np.ndarray:
    order = list(range(len(values)))
    random.Random(1).shuffle(order)
    return values[order]


_EMPTY = part.as_table([]).append_column("entries", pa.array([], pa.uint32()))


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(_forged(table=b"no stream"), id="no stream"),
        pytest.param(_forged(table=_stream(pa.table({"folder": ["x"]}))), id="other columns"),
        pytest.param(_forged(table=_stream(_EMPTY)), id="no rows"),
        pytest.param(_forged(files=lambda files: files + 7), id="files beyond the table"),
        pytest.param(_forged(size=2**62), id="a table of exabytes"),
        pytest.param(_forged(month=b"\xff\xfe"), id="a month that is no text"),
    ],
)
def test_an_object_whose_checksums_fit_is_not_believed_for_that(
    tmp_path: Path, forge: Callable[[bytes, PartEntry], bytes]
) -> None:
    archive = _archived(tmp_path, EVENTS)
    archive.identities.update()
    _replace(archive, forge)
    _assert_decides_rightly(archive)


def test_hashes_out_of_order_end_no_run_and_lose_no_event(tmp_path: Path) -> None:
    archive = _archived(tmp_path, EVENTS)
    archive.identities.update()
    _replace(archive, _forged(hashes=_shuffled))
    archive = open_archive(archive.store)
    bodies = [event(f"e{number}") for number in range(0, EVENTS, 3)] + [event("n1")]
    counts = archive_bodies(archive, *bodies).counts
    assert counts.duplicates + counts.archived == len(bodies)  # once more is all that it can do
    assert counts.archived >= 1
    archive.identities.update(anew=True)
    assert archive_bodies(archive, event("n1")).counts.duplicates == 1


def _replace(archive: Archive, forge: Callable[[bytes, PartEntry], bytes]) -> None:
    """Put a forged object in place of the index's only one, and a manifest that names it."""
    head = archive.ledger.snapshot
    found = manifest.newest(archive.ledger, up_to=head.sequence)
    assert found is not None
    (entry,) = found.parts
    content = forge(archive.store.get(entry.key), entry)
    archive.store.put(entry.key, content, mode="overwrite")
    start = 12 * entry.entries
    check = xxh3_64_hexdigest(content[start : start + part._HEADER.size + 16 * entry.blocks])
    told = entry.to_json() | {"bytes": len(content), "check": check}
    archive.store.delete([found.key])
    _put_manifest(archive, json.loads(found.encode()) | {"parts": [told]})


def _planted(archive: Archive, body: bytes, key: str) -> DataFile:
    """Put a file with `body` into the store, and return what a checkpoint could say of it."""
    other = new_archive(Path(archive.store.location).parent / "other")
    archive_bodies(other, body)
    (made,) = other.ledger.snapshot.files.select("events")
    archive.store.put(key, other.store.get(made.key))
    return replace(made, key=key)


@pytest.mark.parametrize("sequence", [1, 7])
def test_a_row_that_only_a_checkpoint_calls_archived_makes_no_duplicate(
    tmp_path: Path, sequence: int
) -> None:
    """Whoever may write caches must not be able to make a run forget an event that is not archived."""
    archive = new_archive(tmp_path / "a")
    archive_bodies(archive, event("a"))
    (there,) = archive.ledger.snapshot.files.select("events")
    planted = _planted(archive, event("b"), there.key.replace("-0.parquet", "-9.parquet"))
    archive.ledger.snapshot.files.add(planted, sequence)  # as a forged checkpoint would have it
    with pytest.raises(IntegrityError, match="no commit named it"):
        archive_bodies(archive, event("b"))
    archive = open_archive(archive.store)
    assert archive_bodies(archive, event("b")).counts.archived == 1


def test_a_small_file_with_other_bytes_than_the_ledger_says_confirms_nothing(tmp_path: Path) -> None:
    archive = new_archive(tmp_path / "a")
    archive_bodies(archive, event("a"))
    (there,) = archive.ledger.snapshot.files.select("events")
    other = new_archive(tmp_path / "other")
    archive_bodies(other, event("b"))
    (made,) = other.ledger.snapshot.files.select("events")
    archive.store.put(there.key, other.store.get(made.key), mode="overwrite")
    with pytest.raises(IntegrityError, match="expected sha256:"):
        archive_bodies(open_archive(archive.store), event("b"))
