"""What a commit must look like: nothing is coerced, and what is not known is not looked at."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import rfc8785

from archiver.errors import IntegrityError
from archiver.ledger.entry import (
    Commit,
    Content,
    Counts,
    DataFile,
    Hold,
    ListedObject,
    decode,
    decode_list,
    digest_of,
)
from archiver.ledger.shape import archive_problem

Tree = dict[str, Any]
DIGEST = digest_of(b"")
BATCH, ATTEMPT = "ab" * 16, "01" * 14
KEY = f"events/workspace=a%20b/dt=2026-03-26/{BATCH}-{ATTEMPT}-0.parquet"
ARCHIVE = {
    "id": "an archive",
    "data_format": "parquet",
    "compression_level": 1,
    "partitioning": ["workspace", "dt"],
    "datasets": {"events": 1, "alerts": 1, "supplements": 1},
    "identity_window_days": 31,
}


def whole() -> Tree:
    """A commit in which no member is empty; nobody would write it."""
    content = Content(
        operation="hold",
        batch=BATCH,
        attempt=ATTEMPT,
        source={"name": "table", "before": None, "after": 1.5},
        inputs=({"name": "one", "digest": DIGEST, "bytes": 1},),
        added=(DataFile(KEY, DIGEST, 10, 1, 0, 0),),
        removed=(KEY,),
        quarantined=(ListedObject("_quarantine/x", DIGEST, 1, 1),),
        moved=((1, 2),),
        fenced=(ATTEMPT,),
        counts=Counts(1, 1),
        hold=Hold("case", "ws_1", 0, 1, "a reason"),
    )
    tree: Tree = json.loads(Commit(7, DIGEST, 0, 3, content).encode())
    return tree


def changed(path: str, value: Any) -> bytes:
    """A whole commit with another value at `path` (`added.0.rows`)."""
    tree = whole()
    *folders, last = path.split(".")
    place: Any = tree
    for name in folders:
        place = place[int(name)] if name.isdigit() else place[name]
    if value is ...:
        del place[last]
    else:
        place[int(last) if last.isdigit() else last] = value
    return json.dumps(tree).encode()


def test_a_whole_commit_is_read() -> None:
    read = decode(json.dumps(whole()).encode(), "commit")
    assert read.encode() == rfc8785.dumps(whole())


NO_COUNTS = [True, 1.0, -1, "1", None, 2**53, [], 10**400]
NO_DIGESTS = ["", DIGEST.upper(), DIGEST[:-1], DIGEST + "\n", f" {DIGEST}", 7, None]
NO_TIMES = [
    *("2026-03-26T10:15:00Z", "2026-03-26 10:15:00.000000Z", "2026-03-26T10:15:00,000000Z"),
    *("2026-02-30T10:15:00.000000Z", "2026-W13-4T10:15:00.000000Z", "0000-01-01T00:00:00.000000Z"),
    *("2026-03-26T24:00:00.000001Z", "2026-03-26T10:15:60.000000Z", "２026-03-26T10:15:00.00000Z", 0, None),
]
NO_KEYS = [
    KEY.replace("events", "sessions"),
    KEY.replace("parquet", "orc"),
    KEY.replace("parquet", "parquet.gz"),
    KEY.replace("%20", " "),
    KEY.replace("a%20b", "%61"),
    KEY.replace("a%20b", "%c3%bc"),
    KEY.replace("a%20b", "%FF"),
    KEY.replace("a%20b", ""),
    KEY.replace("a%20b", "a" * 201),
    KEY.replace("2026-03-26", "2026-02-30"),
    KEY.replace("2026-03-26", "2026-3-26"),
    KEY.replace("-0.", "-x."),
    KEY.replace(BATCH, BATCH.upper()),
    f"/{KEY}",
    f"../{KEY}",
    "events",
    7,
]
COUNTS = [
    *("sequence", "oldest_readable", "counts.read", "counts.quarantined", "added.0.rows", "added.0.bytes"),
    *("quarantined.0.bytes", "quarantined.0.entries", "moved.0.commit", "moved.0.ordinal"),
]
WRONG: list[tuple[str, Any]] = [
    *((path, value) for path in COUNTS for value in NO_COUNTS),
    *((path, value) for path in ("previous", "added.0.digest", "added.0.bodies") for value in NO_DIGESTS),
    *((path, value) for path in ("committed_at", "added.0.min", "hold.since") for value in NO_TIMES[:-1]),
    *(("added.0.key", value) for value in NO_KEYS),
    *((path, ...) for path in whole() if path != "writer"),
    *((f"added.0.{name}", ...) for name in whole()["added"][0]),
    *((f"hold.{name}", ...) for name in whole()["hold"]),
    ("format", True),
    ("format", 1.0),
    ("format", 2),
    ("format", "1"),
    ("operation", "split"),
    ("operation", None),
    ("operation", ["append"]),
    ("operation", "append"),
    ("operation", "init"),
    ("sequence", 0),
    ("batch", BATCH.upper()),
    ("batch", BATCH[1:]),
    ("attempt", BATCH),
    ("fenced.0", BATCH),
    ("fenced", ATTEMPT),
    ("source", {"after": 1}),
    ("source", {"name": 1}),
    ("source", []),
    ("inputs", {}),
    ("inputs.0", "one"),
    ("inputs.0.name", 1),
    ("inputs.0.bytes", None),
    ("inputs.0.bytes", 1.0),
    ("inputs.0.elements", "2"),
    ("added", {}),
    ("added.0.dataset", "alerts"),
    ("lists", [{"key": "_ledger/lists/x", "digest": DIGEST, "bytes": 1, "entries": 1}]),
    ("removed.0", 7),
    ("removed.0", "\ud800"),
    ("quarantined.0.key", None),
    ("moved.0", [1, 2]),
    ("archive", ARCHIVE),
    ("hold", None),
    ("hold.name", "\udc00"),
    ("hold.released", 0),
    ("hold.workspace", 7),
]


@pytest.mark.parametrize(("path", "value"), WRONG, ids=[f"{path}={value!r:.30}" for path, value in WRONG])
def test_a_member_of_another_form_is_refused(path: str, value: Any) -> None:
    with pytest.raises(IntegrityError, match=r"^commit: ") as raised:
        decode(changed(path, value), "commit")
    assert raised.value.hint


def first() -> Tree:
    tree: Tree = json.loads(Commit(0, "", 0, 0, Content("init", BATCH, ATTEMPT, archive=ARCHIVE)).encode())
    return tree


@pytest.mark.parametrize(
    "change",
    [{"archive": "parquet"}, {"archive": None}, {"operation": "fence"}, {"previous": DIGEST, "sequence": 1}],
)
def test_only_the_first_commit_begins_an_archive(change: Tree) -> None:
    assert decode(json.dumps(first()).encode(), "commit").content.archive == ARCHIVE
    with pytest.raises(IntegrityError, match=r"^commit: "):
        decode(json.dumps(first() | change).encode(), "commit")


BYTES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "another value": lambda _: b"[1]",
    "a member twice": lambda text: text.replace(b'{"', b'{"format": 1, "', 1),
    "a member twice, deep": lambda text: text.replace(b'"rows"', b'"rows": 1, "rows"', 1),
    "a member twice, unknown": lambda text: text.replace(b'{"', b'{"x": {"y": 1, "y": 1}, "', 1),
    "NaN": lambda text: text.replace(b'{"', b'{"x": NaN, "', 1),
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "another encoding": lambda text: text.decode().encode("utf-16"),
    "no text": lambda text: text.replace(b"a reason", b"a \xff reason"),
    "more behind it": lambda text: text + b"{}",
    "depth": lambda text: text.replace(b'{"', b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b', "', 1),
}


@pytest.mark.parametrize("name", BYTES)
def test_bytes_that_two_parsers_would_read_in_two_ways_are_refused(name: str) -> None:
    with pytest.raises(IntegrityError):
        decode(BYTES[name](json.dumps(whole()).encode()), "commit")


@pytest.mark.parametrize(
    "path",
    ["", "added.0.", "quarantined.0.", "moved.0.", "inputs.0.", "counts.", "hold.", "source."],
)
def test_unknown_members_are_not_looked_at(path: str) -> None:
    known = decode(json.dumps(whole()).encode(), "commit")
    more = decode(changed(f"{path}zz_unknown", {"format": 2, "rows": -1}), "commit")
    assert more.content.added == known.content.added
    assert more.content.counts == known.content.counts
    assert more.content.hold == known.content.hold


@pytest.mark.parametrize("change", [{"added": "x"}, {}, {"added": [{}]}, {"added": [7]}])
def test_a_list_is_of_files_alone(change: Tree) -> None:
    content = json.dumps(change).encode()
    listed = ListedObject("list", digest_of(content), len(content), 1)
    with pytest.raises(IntegrityError, match=r"^list: "):
        decode_list(content, listed)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", 7),
        ("id", ...),
        ("data_format", "orc"),
        ("data_format", ["parquet"]),
        ("compression_level", 0),
        ("compression_level", True),
        ("partitioning", ["dt"]),
        ("datasets", {"events": 1, "alerts": 1}),
        ("datasets", {"events": 1, "alerts": 1, "supplements": 2}),
        ("datasets", {"events": 1, "alerts": 1, "supplements": True}),
        ("datasets", {"events": 1, "alerts": 1, "supplements": 1, "sessions": 1}),
        ("identity_window_days", -1),
        ("identity_window_days", 31.0),
        ("identity_window_days", 10**9),
    ],
)
def test_an_archive_of_another_kind_is_not_known(name: str, value: Any) -> None:
    said = {key: one for key, one in (ARCHIVE | {name: value}).items() if one is not ...}
    assert archive_problem(said).startswith(name)
    assert archive_problem(ARCHIVE | {"zz_unknown": 1}) == ""
