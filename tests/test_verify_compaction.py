"""That compaction kept every row is told from the new files and the ledger, when the old files are gone.

The forger here may write everything: files, digests, and the chain behind them.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rfc8785

from archiver import layout
from archiver.archive import Archive, open_archive
from archiver.collect import collect
from archiver.columns import SCHEMAS
from archiver.compact import Policy, compact
from archiver.datafile import Encoding, bodies_digest
from archiver.ledger import commit as protocol
from archiver.ledger.entry import Content, DataFile, Hold, Operation, digest_of
from archiver.ledger.ledger import Ledger
from archiver.store.local import LocalStore
from archiver.verify import content as checking
from archiver.verify import verify
from tests.support import archive_bodies, event, new_archive

NOW = timedelta(0)
Tree = dict[str, Any]
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Commits 1 to 4, compacted by 5; 6 to 9, compacted with that file by 10; old files collected."""
    root = tmp_path_factory.mktemp("compacted") / "archive"
    archive = new_archive(root)
    for half in range(2):
        for number in range(4):
            name = f"{half}{number}"
            archive_bodies(
                archive,
                event(f"{name}-x", timestamp=f"2026-03-26T0{number}:00:00.000000Z"),
                event(f"{name}-y", timestamp=f"2026-03-26T1{number}:00:00.000000Z"),
            )
        compact(archive)
    collect(archive, grace=NOW, keep_snapshots=NOW, force=True)
    for cache in (layout.CHECKPOINTS, layout.INDEX, layout.DELTA_LOG):
        shutil.rmtree(root / cache, ignore_errors=True)
    return root


@pytest.fixture
def root(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "archive"))


def damages(root: Path) -> set[tuple[str, str]]:
    return {(one.word, one.object) for one in verify(LocalStore(root)).damages}


def told(root: Path) -> str:
    return "\n".join(str(one) for one in verify(LocalStore(root)).damages)


def change(root: Path, sequence: int, how: Callable[[Tree], object]) -> None:
    """Change a commit, and chain all that follow anew."""
    head = max(int(path.stem) for path in (root / "_ledger").glob("*.json"))
    for number in range(sequence, head + 1):
        path = root / layout.commit(number)
        tree = json.loads(path.read_bytes())
        if number == sequence:
            how(tree)
        else:
            tree["previous"] = digest_of((root / layout.commit(number - 1)).read_bytes())
        path.write_bytes(rfc8785.dumps(tree))


def compaction(root: Path) -> tuple[int, DataFile]:
    """Return the newest compaction and the file that it added."""
    ledger = Ledger.open(LocalStore(root))
    for commit in reversed(list(ledger.since(-1))):
        if commit.content.operation == "compact":
            return commit.sequence, commit.content.added[0]
    raise AssertionError


def forge(root: Path, how: Callable[[Rows], Rows]) -> DataFile:
    """Put other rows into the compacted file, and make anew whatever digest names them in its commit."""
    sequence, file = compaction(root)
    rows = how(pq.read_table(io.BytesIO((root / file.key).read_bytes()), partitioning=None).to_pylist())
    table = pa.Table.from_pylist(rows, schema=SCHEMAS["events"])
    content = Encoding().encode(table, "events")
    (root / file.key).write_bytes(content)
    new = replace(
        file,
        digest=digest_of(content),
        bytes=len(content),
        rows=len(rows),
        bodies=bodies_digest(table["body"], "parquet"),
    )
    change(root, sequence, lambda tree: tree.update(added=[new.to_json()]))
    return new


def test_what_was_compacted_twice_and_collected_is_intact(root: Path) -> None:
    sequence, file = compaction(root)
    archive = open_archive(LocalStore(root))
    assert (sequence, file.rows) == (10, 16)
    assert list(archive.ledger.snapshot.files) == [file.key]
    assert [info.key for info in archive.store.list("events/workspace")] == [file.key]
    report = verify(archive.store)
    assert (report.damages, report.rows) == ([], 16)


def test_a_row_whose_body_was_changed_is_altered(root: Path) -> None:
    def how(rows: Rows) -> Rows:
        rows[3]["body"] = rows[3]["body"].replace("document.created", "document.shredded")
        rows[3]["action"] = "document.shredded"
        return rows

    file = forge(root, how)
    assert damages(root) == {("altered", file.key)}
    assert "the 2 rows of events/workspace=ws_1/" in told(root)


def test_a_row_left_out_and_another_doubled_are_both_named(root: Path) -> None:
    def how(rows: Rows) -> Rows:
        lost, doubled = rows[4], rows[5]
        assert lost["origin"] != doubled["origin"]
        copy = {**doubled, "id": "new", "body": doubled["body"].replace(doubled["id"], "new")}
        rest = [row for row in rows if row is not lost] + [copy]
        return sorted(rest, key=lambda row: row["event_time"])

    sequence, before = compaction(root)
    file = forge(root, how)
    found = told(root)
    assert damages(root) == {("altered", file.key)}
    assert found.count("altered: ") == 2
    assert "found 1 rows" in found
    assert "found 3 rows" in found
    assert (sequence, before.key) == (10, file.key)


def test_a_row_said_to_be_of_another_file_is_altered(root: Path) -> None:
    def how(rows: Rows) -> Rows:
        rows[0]["origin"], rows[1]["origin"] = rows[1]["origin"], rows[0]["origin"]
        return rows

    file = forge(root, how)
    assert damages(root) == {("altered", file.key)}


def test_rows_of_a_file_that_never_was_are_inserted(root: Path) -> None:
    stranger = f"{'a' * 32}-{'b' * 28}-0"

    def how(rows: Rows) -> Rows:
        rows[2]["origin"] = stranger
        return rows

    file = forge(root, how)
    assert damages(root) == {("altered", file.key), ("inserted", file.key)}
    assert stranger in told(root)


def test_a_whole_file_left_out_is_missing_even_if_the_counts_are_made_to_fit(root: Path) -> None:
    gone: list[str] = []

    def how(rows: Rows) -> Rows:
        gone.append(rows[0]["origin"])
        return [row for row in rows if row["origin"] != gone[0]]

    file = forge(root, how)
    assert damages(root) == {("missing", file.key), ("miscounted", layout.commit(10))}
    assert gone[0] in told(root)


def test_rows_without_an_origin_are_altered(root: Path) -> None:
    def how(rows: Rows) -> Rows:
        return [{**row, "origin": None} for row in rows]

    file = forge(root, how)
    assert damages(root) == {("altered", file.key), ("missing", file.key)}


def test_rows_in_another_order_are_altered(root: Path) -> None:
    def how(rows: Rows) -> Rows:
        mine = [row for row in rows if row["origin"] == rows[0]["origin"]]
        one, other = mine[0], mine[1]
        for name in one.keys() - {"event_time"}:
            one[name], other[name] = other[name], one[name]
        return rows

    file = forge(root, how)
    assert ("altered", file.key) in damages(root)
    assert "the 2 rows of events/workspace=ws_1/" in told(root)


def test_an_origin_in_a_file_that_no_compaction_wrote_is_altered(tmp_path: Path) -> None:
    archive = new_archive(tmp_path / "a")
    archive_bodies(archive, event("a"))
    (file,) = archive.ledger.snapshot.files.values()
    rows = pq.read_table(io.BytesIO(archive.store.get(file.key)), partitioning=None).to_pylist()
    table = pa.Table.from_pylist([{**row, "origin": "x"} for row in rows], schema=SCHEMAS["events"])
    content = Encoding().encode(table, "events")
    (tmp_path / "a" / file.key).write_bytes(content)
    new = replace(file, digest=digest_of(content), bytes=len(content))
    change(tmp_path / "a", 1, lambda tree: tree.update(added=[new.to_json()]))
    assert damages(tmp_path / "a") == {("altered", file.key)}


def _swap(new: DataFile, tree: Tree) -> None:
    tree["added"] = [new.to_json()]


def test_bodies_that_the_ledger_does_not_know_are_altered_in_both_formats(tmp_path: Path) -> None:
    for data_format in ("parquet", "jsonl.gz"):
        place = tmp_path / data_format
        archive = new_archive(place, format=data_format)
        archive_bodies(archive, event("a"))
        (file,) = archive.ledger.snapshot.files.values()
        new = replace(file, bodies=digest_of(b"other"))
        change(place, 1, partial(_swap, new))
        assert damages(place) == {("altered", file.key)}


# --- commits ---------------------------------------------------------------------------------------


def _commit(archive: Archive, operation: Operation, **parts: Any) -> str:
    content = Content(operation, digest_of(operation.encode())[7:39], layout.new_attempt(), **parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "_misfit", lambda *_: None)
        done = protocol.commit(archive.ledger, content, seen=archive.ledger.snapshot.sequence)
    assert isinstance(done, protocol.Committed)
    return layout.commit(done.commit.sequence)


@pytest.fixture
def four(tmp_path: Path) -> Archive:
    """Two files in each of two partitions."""
    archive = new_archive(tmp_path / "four")
    for number in range(2):
        archive_bodies(archive, event(f"a{number}"), event(f"b{number}", workspace="ws_2"))
    return archive


def test_rows_that_change_their_partition_in_a_compaction_are_miscounted(four: Archive) -> None:
    """Two rows go in one partition, two come in another: the sum alone would not tell."""
    first = [file.key for file in four.ledger.snapshot.files.select(workspaces=("ws_1",))]
    compact(four, Policy(min_files=2, workspaces=("ws_2",)))
    sequence = four.ledger.snapshot.sequence
    root = Path(four.store.location)
    change(root, sequence, lambda tree: tree.update(removed=first))
    found = {one for one in damages(root) if one[0] == "miscounted"}
    assert found == {("miscounted", layout.commit(sequence))}
    assert told(root).count("miscounted: ") == 2


def test_a_compaction_that_adds_two_files_in_one_partition_is_altered(four: Archive) -> None:
    compact(four, Policy(min_files=2))
    root, sequence = Path(four.store.location), four.ledger.snapshot.sequence
    file = four.ledger.snapshot.files.select(workspaces=("ws_1",))[0]
    second = replace(
        file, key=file.key.replace("-0.parquet", "-7.parquet").replace("-1.parquet", "-7.parquet")
    )
    (root / second.key).write_bytes((root / file.key).read_bytes())
    change(root, sequence, lambda tree: tree["added"].append(second.to_json()))
    assert ("altered", layout.commit(sequence)) in damages(root)
    assert "one new file of events of 'ws_1' on 2026-03-26" in told(root)


def test_files_in_a_commit_that_may_have_none_are_inserted(four: Archive) -> None:
    key = _commit(four, "fence", fenced=(layout.new_attempt(),))
    root = Path(four.store.location)
    (file,) = four.ledger.snapshot.files.select(workspaces=("ws_1",))[:1]
    tree = json.loads((root / key).read_bytes())
    new = file.key.rpartition("/")[0] + f"/{tree['batch']}-{tree['attempt']}-0.parquet"
    (root / new).write_bytes((root / file.key).read_bytes())
    change(root, tree["sequence"], lambda tree: tree.update(added=[replace(file, key=new).to_json()]))
    assert ("inserted", key) in damages(root)


def test_an_expiry_of_what_a_hold_covers_is_altered(four: Archive) -> None:
    _commit(four, "hold", hold=Hold("case-7", workspace="ws_2"))
    keys = tuple(file.key for file in four.ledger.snapshot.files.select(workspaces=("ws_2",)))
    key = _commit(four, "expire", removed=keys)
    assert damages(Path(four.store.location)) == {("altered", key)}
    assert "nothing to expire that the hold case-7 covers" in told(Path(four.store.location))


def test_an_expiry_beside_a_hold_and_after_its_release_is_intact(four: Archive) -> None:
    _commit(four, "hold", hold=Hold("case-7", workspace="ws_2"))
    first = tuple(file.key for file in four.ledger.snapshot.files.select(workspaces=("ws_1",)))
    _commit(four, "expire", removed=first)
    assert damages(Path(four.store.location)) == set()
    content = Content("hold", "c" * 32, layout.new_attempt(), hold=Hold("case-7", released=True))
    protocol.commit(four.ledger, content, seen=four.ledger.snapshot.sequence)
    left = tuple(four.ledger.snapshot.files)
    content = Content("expire", "d" * 32, layout.new_attempt(), removed=left)
    protocol.commit(four.ledger, content, seen=four.ledger.snapshot.sequence)
    assert damages(Path(four.store.location)) == set()


def test_the_proof_goes_row_group_by_row_group(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of one origin lie in several row groups, and are one digest all the same."""
    sequence, file = compaction(root)
    table = pq.read_table(io.BytesIO((root / file.key).read_bytes()), partitioning=None)
    sink = io.BytesIO()
    pq.write_table(table.cast(SCHEMAS["events"]), sink, row_group_size=3, store_schema=False)
    (root / file.key).write_bytes(sink.getvalue())
    new = replace(file, digest=digest_of(sink.getvalue()), bytes=len(sink.getvalue()))
    change(root, sequence, lambda tree: tree.update(added=[new.to_json()]))
    seen: list[int] = []
    original = checking._tables

    def tables(content: bytes, file: DataFile):  # type: ignore[no-untyped-def]
        for part in original(content, file):
            seen.append(part[0].num_rows)
            yield part

    monkeypatch.setattr(checking, "_tables", tables)
    assert damages(root) == set()
    assert seen == [3, 3, 3, 3, 3, 1]
