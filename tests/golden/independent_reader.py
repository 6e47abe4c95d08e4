"""A reader of archives, written from docs/format.md alone. It imports nothing of archiver.

    python independent_reader.py FOLDER [AS_OF]      every body, one a line; numbers go to stderr

It follows the chain, folds a snapshot, holds every object that the snapshot needs against its
digest and its rows against their entry, and follows compacted rows back to the files they were
first in. What it may not read, it refuses. If this reader and the specification disagree, one
of both is wrong; the tests hold it against archiver.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

Tree = dict[str, Any]
OPERATIONS = {"init", "append", "requeue", "fence", "compact", "expire", "hold"}
TAKING_IN = {"append", "requeue"}
FORMATS = {"parquet", "jsonl.gz", "jsonl.zst"}
DATASETS = {"events": 1, "alerts": 1, "supplements": 1}
SAID_BY = {
    "added": {"append", "requeue", "compact"},
    "lists": {"append", "requeue", "compact"},
    "removed": {"compact", "expire"},
    "quarantined": {"append"},
    "moved": {"requeue"},
    "fenced": {"fence"},
    "hold": {"hold"},
}
COUNTED = ("archived", "supplements", "duplicates", "quarantined")
KEY = re.compile(
    r"(events|alerts|supplements)/workspace=([A-Za-z0-9_.~%-]{1,200})/dt=(\d{4}-\d\d-\d\d)/"
    r"([0-9a-f]{32}-[0-9a-f]{28}-\d+)\.(parquet|jsonl\.gz|jsonl\.zst)"
)
INSTANT = re.compile(
    r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Refused(Exception):  # noqa: N818 - a verdict
    """What is there is no archive of version 1, or not a whole one."""


def demand(holds: object, what: str) -> None:
    if not holds:
        raise Refused(what)


@dataclass
class File:
    """A data file as its entry tells it, and the commit that added it."""

    entry: Tree
    dataset: str
    workspace: str
    day: str
    stem: str
    form: str
    added_by: int
    operation: str


@dataclass
class Row:
    workspace: str
    id: str
    event_time: int  # microseconds since 1970
    body: bytes
    columns: Tree = field(default_factory=dict)  # of Parquet: all of them


@dataclass
class Snapshot:
    """Section 4: what the commits up to `head` say."""

    head: int = -1
    digest: str = ""
    committed_at: str = ""
    oldest_readable: int = 0
    archive: Tree = field(default_factory=dict)
    files: dict[str, File] = field(default_factory=dict)  # the live ones
    stems: dict[str, File] = field(default_factory=dict)  # every one that was ever added
    origins: dict[str, set[str]] = field(default_factory=dict)  # stem of a compacted file -> stems
    quarantine: list[tuple[int, Tree]] = field(default_factory=list)
    moved: set[tuple[int, int]] = field(default_factory=set)
    fenced: set[str] = field(default_factory=set)
    batches: set[str] = field(default_factory=set)
    holds: dict[str, Tree] = field(default_factory=dict)
    totals: Tree = field(default_factory=lambda: dict.fromkeys(("read", *COUNTED), 0))


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def digest_of_bodies(bodies: list[bytes]) -> str:
    lengths = hashlib.sha256(b"".join(len(body).to_bytes(8, "little") for body in bodies)).digest()
    return digest_of(lengths + hashlib.sha256(b"".join(bodies)).digest())


def parse(content: bytes, what: str) -> Tree:
    """Section 3: canonical JSON. For what commits hold, that is sorted members and no white space."""
    tree: Tree = json.loads(content)
    again = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    demand(again == content, f"{what} is not canonical")
    return tree


def named(folder: Path, entry: Tree) -> bytes:
    """Return the bytes of an object that a commit names with digest and size."""
    try:
        content = (folder / entry["key"]).read_bytes()
    except FileNotFoundError:
        raise Refused(f"{entry['key']} is missing") from None
    demand(len(content) == entry["bytes"], f"{entry['key']} is of another size")
    demand(digest_of(content) == entry["digest"], f"{entry['key']} has another digest")
    return content


# --- sections 1 to 4: the chain, and the snapshot that it folds to ----------------------------------


def follow(folder: Path, as_of: int | None = None) -> Snapshot:
    """Fold the commits, up to `as_of` or to the head. The whole chain is followed either way."""
    there = sorted(int(path.stem) for path in (folder / "_ledger").glob("[0-9]" * 20 + ".json"))
    demand(there, "no archive is here")
    demand(there == list(range(len(there))), "the chain has a gap")
    state = Snapshot()
    for sequence in there:
        fold(folder, state, sequence)
    if as_of is None:
        return state
    demand(as_of in there, f"there is no commit {as_of}")
    demand(as_of >= state.oldest_readable, f"commit {as_of} is not readable any more")
    wanted = Snapshot()
    for sequence in range(as_of + 1):
        fold(folder, wanted, sequence)
    return wanted


def fold(folder: Path, state: Snapshot, sequence: int) -> None:
    what = f"commit {sequence}"
    content = (folder / "_ledger" / f"{sequence:020d}.json").read_bytes()
    commit = parse(content, what)
    check_place(state, commit, sequence, what)
    entries = list(commit["added"])
    for listed in commit["lists"]:
        part = parse(named(folder, listed), listed["key"])["added"]
        demand(len(part) == listed["entries"], f"{listed['key']} has another number of entries")
        entries += part
    gone = []
    for key in commit["removed"]:
        demand(key in state.files, f"{what} removes what is not live")
        gone.append(state.files.pop(key))
    if commit["operation"] == "expire":
        for file in gone:
            demand(not any(covers(hold, file) for hold in state.holds.values()), f"{what}: held")
    added = [file_of(entry, commit, state) for entry in entries]
    for file in added:
        demand(file.stem not in state.stems, f"{what} adds a file again")
        state.stems[file.stem] = state.files[file.entry["key"]] = file
    check_counts(commit, added, what)
    if commit["operation"] == "compact":
        check_compaction(state, gone, added, what)
    for pair in commit["moved"]:
        name = (pair["commit"], pair["ordinal"])
        demand(name not in state.moved, f"{what} moves an entry again")
        state.moved.add(name)
    if "hold" in commit:
        state.holds.pop(commit["hold"]["name"], None)
        if not commit["hold"]["released"]:
            state.holds[commit["hold"]["name"]] = commit["hold"]
    state.quarantine += [(sequence, entry) for entry in commit["quarantined"]]
    state.fenced.update(commit["fenced"])
    state.batches.add(commit["batch"])
    for name in state.totals:  # what is moved out of the quarantine is not read anew
        if commit["operation"] == "append" or name in ("archived", "supplements", "duplicates"):
            state.totals[name] += commit["counts"][name]
    state.totals["quarantined"] -= len(commit["moved"])
    state.head, state.digest = sequence, digest_of(content)
    state.committed_at, state.oldest_readable = commit["committed_at"], commit["oldest_readable"]


def check_place(state: Snapshot, commit: Tree, sequence: int, what: str) -> None:
    """What makes it the next commit of this chain, and of a kind that we know."""
    demand(commit["format"] == 1 and commit["format"] is not True, f"{what} is of another format")
    demand(commit["operation"] in OPERATIONS, f"{what} has an unknown operation")
    demand(commit["sequence"] == sequence, f"{what} has another number")
    demand(commit["previous"] == state.digest, f"{what} does not follow the commit before it")
    demand(commit["committed_at"] >= state.committed_at, f"{what} is older than the one before it")
    demand(state.oldest_readable <= commit["oldest_readable"] <= sequence, f"{what}: oldest_readable")
    demand((sequence == 0) == ("archive" in commit) == (commit["operation"] == "init"), f"{what}: init")
    demand(commit["batch"] not in state.batches, f"{what} repeats a batch")
    demand(commit["attempt"] not in state.fenced, f"{what} is of a fenced attempt")
    for member, operations in SAID_BY.items():
        demand(not commit.get(member) or commit["operation"] in operations, f"{what} has {member}")
    demand(not (commit["lists"] and commit["added"]), f"{what} has lists of files and files")
    if sequence == 0:
        state.archive = commit["archive"]
        demand(state.archive["data_format"] in FORMATS, "an unknown data format")
        demand(state.archive["partitioning"] == ["workspace", "dt"], "an unknown partitioning")
        demand(state.archive["datasets"] == DATASETS, "unknown datasets")


def file_of(entry: Tree, commit: Tree, state: Snapshot) -> File:
    found = KEY.fullmatch(entry["key"])
    demand(found is not None, f"{entry['key']} is no data file")
    assert found is not None
    dataset, escaped, day, stem, form = found.groups()
    demand(stem.startswith(f"{commit['batch']}-{commit['attempt']}-"), f"{entry['key']} is another's")
    demand(entry["dataset"] == dataset, f"{entry['key']} is of another dataset")
    demand(form == state.archive["data_format"], f"{entry['key']} is of another format")
    date.fromisoformat(day)
    return File(entry, dataset, unquote(escaped), day, stem, form, commit["sequence"], commit["operation"])


def check_counts(commit: Tree, added: list[File], what: str) -> None:
    counts = commit["counts"]
    demand(all(is_count(counts[name]) for name in ("read", *COUNTED)), f"{what}: a count that is none")
    demand(counts["read"] == sum(counts[name] for name in COUNTED), f"{what}: counts do not add up")
    rows = dict.fromkeys(DATASETS, 0)
    for file in added:
        rows[file.dataset] += file.entry["rows"]
    if commit["operation"] in TAKING_IN:
        demand(counts["archived"] == rows["events"] + rows["alerts"], f"{what}: archived")
        demand(counts["supplements"] == rows["supplements"], f"{what}: supplements")
    else:
        demand(counts["read"] == 0, f"{what} reads nothing, but counts")
    if commit["operation"] == "requeue":
        demand(counts["read"] == len(commit["moved"]), f"{what}: moved")
    demand(
        counts["quarantined"] == sum(one["entries"] for one in commit["quarantined"]), f"{what}: quarantined"
    )


def is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53


def covers(hold: Tree, file: File) -> bool:
    return (
        hold["workspace"] in (None, file.workspace)
        and (hold["since"] is None or file.entry["max"] >= hold["since"])
        and (hold["until"] is None or file.entry["min"] < hold["until"])
    )


def check_compaction(state: Snapshot, gone: list[File], added: list[File], what: str) -> None:
    """The same rows: by number here; by their bodies when the file is read (`check_origins`)."""
    places = {(file.dataset, file.workspace, file.day) for file in (*gone, *added)}
    for place in places:
        old = [file for file in gone if (file.dataset, file.workspace, file.day) == place]
        new = [file for file in added if (file.dataset, file.workspace, file.day) == place]
        rows = [sum(file.entry["rows"] for file in files) for files in (old, new)]
        demand(rows[0] == rows[1], f"{what} has other rows than what it removes")
        first = set().union(*(state.origins.get(file.stem, {file.stem}) for file in old))
        demand(len(new) <= 1, f"{what} adds several files to a partition")
        for file in new:
            state.origins[file.stem] = first


# --- sections 5 to 7: what is in the files ----------------------------------------------------------


def rows(folder: Path, state: Snapshot, dataset: str = "events") -> Iterator[Row]:
    """Yield the rows of the live files, each file held against its entry."""
    for key in sorted(state.files):
        file = state.files[key]
        if file.dataset == dataset:
            try:
                found = list(_parquet(folder, file) if file.form == "parquet" else _lines(folder, file))
            except (pa.ArrowException, zstandard.ZstdError, OSError, ValueError, LookupError) as error:
                raise Refused(f"{key} cannot be read: {error}") from error
            check_file(state, file, found)
            yield from found


def _parquet(folder: Path, file: File) -> Iterator[Row]:
    with pq.ParquetFile(io.BytesIO(named(folder, file.entry))) as opened:
        table = opened.read(use_threads=False)
    name = "alert_id" if file.dataset == "alerts" else "id"
    times = table["event_time"].cast("int64").to_pylist()
    for columns, at in zip(table.to_pylist(), times, strict=True):
        yield Row(columns["workspace_id"], columns[name], at, columns["body"].encode(), columns)


def _lines(folder: Path, file: File) -> Iterator[Row]:
    content = named(folder, file.entry)
    if file.form == "jsonl.gz":
        text = gzip.decompress(content)
    else:
        text = zstandard.ZstdDecompressor().decompressobj().decompress(content)
    demand(text.endswith(b"\n"), f"{file.entry['key']} does not end in a line break")
    for body in text.split(b"\n")[:-1]:
        tree = json.loads(body)
        if "event_type" not in tree:  # a row of a database
            at = instant(tree["occurred_at"] if tree.get("created_at") is None else tree["created_at"])
            yield Row(tree["workspace_id"], tree["id"], at, body)
            continue
        alert = tree["event_type"] == "alert.triggered"
        at = instant(tree["triggered_at" if alert else "timestamp"])
        yield Row(tree["workspace_id"], tree["alert_id"] if alert else tree["data"]["id"], at, body)


def instant(text: str) -> int:
    """Floored to the microsecond."""
    found = INSTANT.fullmatch(text)
    demand(found is not None, f"{text!r} is no time")
    assert found is not None
    offset = "+00:00" if found[4] in "Zz" else found[4]
    whole = (datetime.fromisoformat(f"{found[1]}T{found[2]}{offset}") - EPOCH) // timedelta(microseconds=1)
    return whole + int((found[3] or "").ljust(6, "0")[:6])


def as_text(us: int) -> str:
    return (EPOCH + timedelta(microseconds=us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def check_file(state: Snapshot, file: File, found: list[Row]) -> None:
    key, entry = file.entry["key"], file.entry
    times = [row.event_time for row in found]
    demand(len(found) == entry["rows"] > 0, f"{key} has another number of rows")
    demand(times == sorted(times), f"{key} is not sorted by time")
    demand((as_text(times[0]), as_text(times[-1])) == (entry["min"], entry["max"]), f"{key}: other times")
    demand(all(as_text(at).startswith(file.day) for at in times), f"{key} holds another day")
    demand(all(row.workspace == file.workspace for row in found), f"{key} holds another workspace")
    demand(digest_of_bodies([row.body for row in found]) == entry["bodies"], f"{key} has other bodies")
    if file.form == "parquet":
        check_origins(state, file, found)


def check_origins(state: Snapshot, file: File, found: list[Row]) -> None:
    """A row was first archived in this file, or in one whose entry its bodies still prove."""
    key = file.entry["key"]
    by_origin: dict[str | None, list[bytes]] = {}
    for row in found:
        by_origin.setdefault(row.columns["origin"], []).append(row.body)
    if file.operation != "compact":
        demand(set(by_origin) == {None}, f"{key} claims rows of other files")
        return
    demand(set(by_origin) == state.origins[file.stem], f"{key} holds rows of other files than it replaced")
    for origin, bodies in by_origin.items():
        first = state.stems[origin or ""].entry
        demand(len(bodies) == first["rows"], f"{key}: not all rows of {origin}")
        demand(digest_of_bodies(bodies) == first["bodies"], f"{key}: other bodies than {origin} had")


# --- section 10: the quarantine ---------------------------------------------------------------------


def quarantine(folder: Path, state: Snapshot) -> Iterator[tuple[str, Tree]]:
    """Yield name and members of what is in quarantine."""
    for sequence, entry in state.quarantine:
        lines = gzip.decompress(named(folder, entry)).split(b"\n")[:-1]
        demand(len(lines) == entry["entries"], f"{entry['key']} has another number of entries")
        told = [json.loads(line) for line in lines]
        ordinals = [one["ordinal"] for one in told]
        demand(ordinals == sorted(set(ordinals)), f"{entry['key']} is not in order")
        for one in told:
            if (sequence, one["ordinal"]) not in state.moved:
                yield f"{sequence}:{one['ordinal']}", one


def main() -> None:
    folder = Path(sys.argv[1])
    state = follow(folder, int(sys.argv[2]) if len(sys.argv) > 2 else None)
    for dataset in DATASETS:
        found = list(rows(folder, state, dataset))
        sys.stdout.buffer.writelines(
            row.body.translate(bytes.maketrans(b"\r\n", b"  ")) + b"\n" for row in found
        )
        print(f"{dataset}: {len(found)} rows", file=sys.stderr)
    print(f"quarantine: {len(list(quarantine(folder, state)))} entries", file=sys.stderr)
    print(f"head: {state.head}:{state.digest}", file=sys.stderr)


if __name__ == "__main__":
    main()
