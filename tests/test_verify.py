"""Every kind of damage, done to an intact archive, is named: its word and its object."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rfc8785
from click.testing import CliRunner

from archiver import layout
from archiver.archive import Archive, init_archive, open_archive
from archiver.attempt import Attempt
from archiver.block import Block
from archiver.cli.verify import verify_command
from archiver.datafile import Encoding, bodies_digest
from archiver.errors import ArchiveNotFoundError, ConfigError, IntegrityError, StoreError
from archiver.generate import Delivery, deliveries
from archiver.judging import Judges
from archiver.ledger import commit as protocol
from archiver.ledger.entry import Commit, Counts, DataFile, digest_of
from archiver.progress import Silent
from archiver.store.base import Store
from archiver.store.local import LocalStore
from archiver.validate import Rules
from archiver.verify import MEANINGS, VerifyReport, parse_expected, verify
from archiver.verify.content import IDENTITY
from archiver.verify.identities import Workspace
from archiver.verify.report import WORDS, Findings

Tree = dict[str, Any]


def deliver(archive: Archive, items: Iterable[Delivery]) -> Commit:
    """Archive deliveries as one batch, by the pipeline's own parts."""
    items = list(items)
    bodies = [one.body for one in items]
    count = len(bodies)
    block = Block(
        0, bodies, list(range(count)), [0] * count, [one.received_at for one in items], [None] * count
    )
    attempt = Attempt(archive, layout.new_attempt() + "0000", source="spool", inputs=["one"])
    with Judges(Rules(source="spool"), workers=0) as judges:
        attempt.work(judges.judge([block], total_bytes=0), Silent())
    done = protocol.commit(
        archive.ledger, attempt.content(operation="append", source={"name": "spool"}), seen=attempt.seen
    )
    assert isinstance(done, protocol.Committed)
    return done.commit


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of four commits: rows of all datasets, quarantine files, one list of files."""
    root = tmp_path_factory.mktemp("verify") / "archive"
    archive = init_archive(LocalStore(root), rounds=0)
    items = list(
        deliveries(events=900, seed=7, workspaces=3, days=2, invalid=0.05, supplements=0.03, duplicates=0.02)
    )
    with pytest.MonkeyPatch.context() as patch:
        deliver(archive, items[:300])
        deliver(archive, items[300:600])
        patch.setattr("archiver.attempt.LONGEST_INLINE_LIST", 2)
        deliver(archive, items[600:])
    return root


@pytest.fixture
def root(built: Path, tmp_path: Path) -> Path:
    """A copy to do damage to."""
    return Path(shutil.copytree(built, tmp_path / "archive"))


@pytest.fixture
def ledger(root: Path) -> Chained:
    return Chained(root)


class Chained:
    """The commits in a folder, to be read, changed and chained anew."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, sequence: int) -> Path:
        return self.root / layout.commit(sequence)

    @property
    def head(self) -> int:
        return max(int(path.stem) for path in (self.root / "_ledger").glob("*.json"))

    def tree(self, sequence: int) -> Tree:
        tree: Tree = json.loads(self.path(sequence).read_bytes())
        return tree

    def write(self, sequence: int, tree: Tree) -> None:
        self.path(sequence).write_bytes(rfc8785.dumps(tree))

    def change(self, sequence: int, change: Callable[[Tree], object]) -> None:
        """Change a commit, and chain all that follow anew, as somebody who may write everything would."""
        tree = self.tree(sequence)
        change(tree)
        self.write(sequence, tree)
        for following in range(sequence + 1, self.head + 1):
            tree = self.tree(following)
            tree["previous"] = digest_of(self.path(following - 1).read_bytes())
            self.write(following, tree)

    def append(self, operation: str = "append", **members: Any) -> str:
        """Add a commit at the end; return its key."""
        head = self.head
        tree = {
            **self.tree(head),
            "sequence": head + 1,
            "previous": digest_of(self.path(head).read_bytes()),
            "operation": operation,
            "batch": f"{head:032x}",
            "attempt": layout.new_attempt(),
            "source": {},
            "inputs": [],
            "counts": Counts().to_json(),
            **{name: [] for name in ("added", "lists", "removed", "quarantined", "moved", "fenced")},
            **members,
        }
        self.write(head + 1, tree)
        return layout.commit(head + 1)

    def file(self, number: int = 0, *, dataset: str = "events", sequence: int = 1) -> DataFile:
        """One of the data files that a commit adds."""
        files = [DataFile.from_json(one) for one in self.tree(sequence)["added"] if one["dataset"] == dataset]
        return files[number]

    def quarantine(self, sequence: int = 1) -> str:
        return str(self.tree(sequence)["quarantined"][0]["key"])

    def list(self, sequence: int = 3) -> str:
        return str(self.tree(sequence)["lists"][0]["key"])

    def replace_file(self, file: DataFile, table: pa.Table, **recorded: Any) -> None:
        """Put other rows into a data file; digests and size are recorded anew in the ledger."""
        content = Encoding().encode(table, file.partition.dataset)
        (self.root / file.key).write_bytes(content)
        recorded.setdefault("bodies", bodies_digest(table["body"], "parquet"))
        new = replace(file, digest=digest_of(content), bytes=len(content), **recorded)

        def swap(tree: Tree) -> None:
            tree["added"] = [new.to_json() if one["key"] == file.key else one for one in tree["added"]]

        self.change(1, swap)

    def rows(self, file: DataFile) -> pa.Table:
        return pq.read_table(io.BytesIO((self.root / file.key).read_bytes()), partitioning=None)


def check(root: Path, **options: Any) -> VerifyReport:
    return verify(LocalStore(root), **options)


def found(report: VerifyReport) -> set[tuple[str, str]]:
    return {(damage.word, damage.object) for damage in report.damages}


def flip(path: Path, at: int = -30) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


# --- nothing wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize("quick", [False, True])
def test_an_intact_archive_has_no_damage_and_its_numbers_are_told(root: Path, quick: bool) -> None:
    report = check(root, quick=quick)
    assert report.is_intact
    assert found(report) == set()
    assert report.notes == []
    totals = open_archive(LocalStore(root)).ledger.snapshot.totals
    assert totals.supplements > 0
    assert totals.quarantined > 0
    assert report.rows == totals.archived + totals.supplements
    assert report.commits == 4
    assert report.objects == sum(1 for path in root.rglob("*") if path.is_file()) - 4
    report.raise_if_damaged()


def test_verify_writes_nothing(root: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*"))
    check(root)
    assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*")) == before


@pytest.mark.parametrize("form", ["jsonl.gz", "jsonl.zst"])
def test_an_intact_archive_of_json_lines_has_no_damage(tmp_path: Path, form: Any) -> None:
    archive = init_archive(LocalStore(tmp_path / "lines"), Encoding(form, 3), rounds=0)
    deliver(archive, deliveries(events=200, seed=3, workspaces=2, days=1, supplements=0.05))
    assert found(check(tmp_path / "lines")) == set()


def test_a_place_without_a_ledger_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ArchiveNotFoundError):
        check(tmp_path / "nothing")


def test_caches_and_objects_of_interrupted_runs_are_notes_and_no_damage(root: Path, ledger: Chained) -> None:
    folder = (root / ledger.file().key).parent
    (folder / f"{'0' * 32}-{layout.new_attempt()}-0.parquet").write_bytes(b"left behind")
    for cache in ("_index/a", "_ledger/checkpoints/b", "events/_delta_log/0.json", "_probe/c"):
        (root / cache).parent.mkdir(parents=True, exist_ok=True)
        (root / cache).write_bytes(b"x")
    report = check(root)
    assert found(report) == set()
    assert any(note.startswith("waiting for collect: 1 object, 11 bytes") for note in report.notes)
    assert any("4 objects, 4 bytes of caches" in note for note in report.notes)


# --- objects -----------------------------------------------------------------------------------------


def data_of(ledger: Chained) -> str:
    return ledger.file().key


@pytest.mark.parametrize("which", [data_of, Chained.quarantine, Chained.list])
def test_a_flipped_byte_makes_an_object_altered(
    root: Path, ledger: Chained, which: Callable[[Chained], str]
) -> None:
    flip(root / which(ledger))
    assert found(check(root)) == {("altered", which(ledger))}


@pytest.mark.parametrize("which", [data_of, Chained.quarantine, Chained.list])
@pytest.mark.parametrize("quick", [False, True])
def test_an_absent_object_is_missing(
    root: Path, ledger: Chained, which: Callable[[Chained], str], quick: bool
) -> None:
    (root / which(ledger)).unlink()
    assert ("missing", which(ledger)) in found(check(root, quick=quick))
    assert {word for word, _ in found(check(root, quick=quick))} == {"missing"}


def test_a_truncated_file_is_altered_even_to_a_quick_check(root: Path, ledger: Chained) -> None:
    path = root / data_of(ledger)
    path.write_bytes(path.read_bytes()[:-1])
    assert found(check(root, quick=True)) == {("altered", data_of(ledger))}


def test_a_quick_check_reads_no_object(root: Path, ledger: Chained) -> None:
    flip(root / data_of(ledger))
    assert check(root, quick=True).is_intact


def test_two_files_with_their_contents_swapped_are_both_altered(root: Path, ledger: Chained) -> None:
    one, two = root / ledger.file(0).key, root / ledger.file(1).key
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert found(check(root)) == {("altered", ledger.file(0).key), ("altered", ledger.file(1).key)}


def test_a_foreign_object_is_named_with_its_control_characters_shown(root: Path) -> None:
    (root / "events" / "no\nte.txt").write_bytes(b"hello")
    (root / "_ledger" / "42.json").write_bytes(b"{}")
    report = check(root)
    assert found(report) == {("foreign", "events/no\nte.txt"), ("foreign", "_ledger/42.json")}
    assert "\n" not in "".join(str(damage) for damage in report.damages)
    assert any(damage["object"] == "events/no\\x0ate.txt" for damage in report.to_json()["damages"])


@pytest.mark.parametrize("which", [data_of, Chained.quarantine, Chained.list])
def test_an_object_under_a_committed_attempts_name_is_inserted(
    root: Path, ledger: Chained, which: Callable[[Chained], str]
) -> None:
    key = which(ledger)
    name = key.rpartition("/")[2]
    origin = layout.origin_of(key)
    assert origin is not None
    tail = name.removeprefix(f"{origin.batch}-{origin.attempt}-").replace("0", "77", 1).replace("1", "78")
    other = f"{key.rpartition('/')[0]}/{origin.batch}-{origin.attempt}-9{tail}"
    shutil.copy(root / key, root / other)
    assert found(check(root)) == {("inserted", other)}


def test_superseded_files_may_be_absent_only_below_the_oldest_readable_commit(
    root: Path, ledger: Chained
) -> None:
    gone = ledger.file().key
    ledger.append("expire", removed=[gone], oldest_readable=0)
    assert check(root).is_intact
    (root / gone).unlink()
    assert found(check(root)) == {("missing", gone)}
    ledger.change(4, lambda tree: tree.update(oldest_readable=4))
    assert check(root).is_intact


def test_an_object_that_the_store_does_not_give_is_not_called_damaged(root: Path, ledger: Chained) -> None:
    class Sick(LocalStore):
        def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
            if key == data_of(ledger):
                raise StoreError(f"{key}: the disk reports an error")
            return super().get(key, start=start, length=length)

    report = verify(Sick(root))
    assert not report.damages
    assert not report.is_intact
    assert data_of(ledger) in report.unreadable[0]
    with pytest.raises(StoreError):
        report.raise_if_damaged()


# --- rows --------------------------------------------------------------------------------------------


def doubled(table: pa.Table) -> pa.Table:
    """The table, its last row twice under another id."""
    row = table.slice(table.num_rows - 1).to_pylist()[0]
    other = "11111111-2222-4333-8444-555555555555"
    row["body"], row["id"] = row["body"].replace(row["id"], other), other
    return pa.concat_tables([table, pa.Table.from_pylist([row], schema=table.schema)])


def test_a_row_added_to_a_file_makes_it_altered(root: Path, ledger: Chained) -> None:
    file = ledger.file()
    (root / file.key).write_bytes(Encoding().encode(doubled(ledger.rows(file)), "events"))
    assert found(check(root)) == {("altered", file.key)}


def test_a_row_added_with_the_digest_made_anew_is_inserted(root: Path, ledger: Chained) -> None:
    file = ledger.file()
    ledger.replace_file(file, doubled(ledger.rows(file)))
    assert found(check(root)) == {("inserted", file.key)}


def test_a_row_added_and_recorded_but_not_counted_is_miscounted(root: Path, ledger: Chained) -> None:
    file = ledger.file()
    ledger.replace_file(file, doubled(ledger.rows(file)), rows=file.rows + 1)
    assert found(check(root)) == {("miscounted", layout.commit(1))}


def test_a_row_taken_out_with_the_digest_made_anew_is_missing(root: Path, ledger: Chained) -> None:
    file = ledger.file()
    table = ledger.rows(file)
    ledger.replace_file(file, pa.concat_tables([table.slice(0, 1), table.slice(2)]))
    damages = found(check(root))
    assert ("missing", file.key) in damages
    assert {word for word, _ in damages} == {"missing"}  # a supplement may miss its event, too


def changed(table: pa.Table, name: str, value: Any) -> pa.Table:
    """The table with another value in the second row of one column."""
    rows = table.to_pylist()
    rows[1][name] = value
    return pa.Table.from_pylist(rows, schema=table.schema)


@pytest.mark.parametrize(("name", "value"), [("id", "another"), ("action", "another"), ("extra", "{}")])
def test_a_column_that_does_not_follow_from_the_body_makes_the_file_altered(
    root: Path, ledger: Chained, name: str, value: str
) -> None:
    file = min((ledger.file(n) for n in range(3)), key=lambda one: one.rows)
    table = ledger.rows(file).slice(0, 20)
    times = table["event_time"].cast(pa.int64())
    tree_counts = file.rows - table.num_rows
    ledger.replace_file(
        file,
        changed(table, name, value),
        rows=table.num_rows,
        min_us=times[0].as_py(),
        max_us=times[-1].as_py(),
    )
    ledger.change(1, lambda tree: _count_less(tree, tree_counts))
    report = check(root)
    assert ("altered", file.key) in found(report)
    assert "row 1" in next(one.found for one in report.damages if one.object == file.key)


def test_an_id_that_is_not_that_of_its_body_is_found_in_every_row(root: Path, ledger: Chained) -> None:
    file = max((ledger.file(n) for n in range(3)), key=lambda one: one.rows)
    assert file.rows > 64  # so that the sample leaves row 1 out
    ledger.replace_file(file, changed(ledger.rows(file), "id", "another"))
    assert ("altered", file.key) in found(check(root))


def _count_less(tree: Tree, rows: int) -> None:
    tree["counts"]["archived"] -= rows
    tree["counts"]["read"] -= rows


def test_a_body_that_is_no_event_makes_the_file_altered(root: Path, ledger: Chained) -> None:
    file = ledger.file()
    table = ledger.rows(file)
    first = json.loads(table["body"][0].as_py())
    del first["data"]["action"]
    rows = table.to_pylist()
    rows[0]["body"] = json.dumps(first)
    ledger.replace_file(file, pa.Table.from_pylist(rows, schema=table.schema))
    assert found(check(root)) == {("altered", file.key)}


def test_a_row_in_the_partition_of_another_workspace_makes_the_file_altered(
    root: Path, ledger: Chained
) -> None:
    workspaces = {ledger.file(n).partition.workspace for n in range(3)}
    file = ledger.file()
    other = next(iter(workspaces - {file.partition.workspace}), "ws_other")
    rows = ledger.rows(file).to_pylist()
    rows[0]["body"] = rows[0]["body"].replace(rows[0]["workspace_id"], other)
    rows[0]["workspace_id"] = other
    ledger.replace_file(file, pa.Table.from_pylist(rows, schema=ledger.rows(file).schema))
    assert found(check(root)) == {("altered", file.key)}


def test_a_file_of_rubbish_with_a_fitting_digest_is_altered(root: Path, ledger: Chained) -> None:
    file = ledger.file()
    (root / file.key).write_bytes(b"PAR1 no parquet PAR1")

    def record(tree: Tree) -> None:
        entry = next(one for one in tree["added"] if one["key"] == file.key)
        entry.update(digest=digest_of(b"PAR1 no parquet PAR1"), bytes=20)

    ledger.change(1, record)
    assert ("altered", file.key) in found(check(root))


def test_times_that_a_commit_records_wrongly_are_miscounted(root: Path, ledger: Chained) -> None:
    file = ledger.file()
    ledger.replace_file(file, ledger.rows(file), max_us=file.max_us + 1)
    assert found(check(root)) == {("miscounted", file.key)}


def _rewrite_quarantine(root: Path, ledger: Chained, change: Callable[[list[bytes]], list[bytes]]) -> str:
    key = ledger.quarantine()
    content = gzip.compress(b"".join(change(gzip.decompress((root / key).read_bytes()).splitlines(True))))
    (root / key).write_bytes(content)
    ledger.change(
        1, lambda tree: tree["quarantined"][0].update(digest=digest_of(content), bytes=len(content))
    )
    return key


@pytest.mark.parametrize(
    ("word", "change"),
    [
        ("missing", lambda lines: lines[1:]),
        ("altered", lambda lines: lines[::-1]),
        ("altered", lambda lines: [b"{}\n", *lines[1:]]),
        ("inserted", lambda lines: [*lines, lines[-1].replace(b'"ordinal":', b'"ordinal":99')]),
    ],
)
def test_entries_of_a_quarantine_file_are_counted_and_ordered(
    root: Path, ledger: Chained, word: str, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    key = _rewrite_quarantine(root, ledger, change)
    assert found(check(root)) == {(word, key)}


# --- identities -----------------------------------------------------------------------------------------


def test_an_id_archived_again_by_a_hand_made_commit_is_duplicated(root: Path, ledger: Chained) -> None:
    key = _archive_again(root, ledger, ledger.file())
    report = check(root)
    assert found(report) == {("duplicated", key)}
    assert ledger.file().key in report.damages[0].found


def _archive_again(root: Path, ledger: Chained, file: DataFile) -> str:
    batch, attempt, place = "ab" * 16, layout.new_attempt(), file.partition
    key = f"{file.key.rpartition('/')[0]}/{batch}-{attempt}-0.parquet"
    shutil.copy(root / file.key, root / key)
    assert place.dataset == "events"
    ledger.append(
        batch=batch,
        attempt=attempt,
        added=[replace(file, key=key).to_json()],
        counts=Counts(read=file.rows, archived=file.rows).to_json(),
    )
    return key


def test_repeats_beyond_the_window_are_a_note(root: Path, ledger: Chained) -> None:
    ledger.change(0, lambda tree: tree["archive"].update(identity_window_days=0))
    file = ledger.file()
    rows = ledger.rows(file).to_pylist()
    # The last row's id, again in the first row: hours apart, and the window is zero.
    rows[0]["body"], rows[0]["id"] = rows[0]["body"].replace(rows[0]["id"], rows[-1]["id"]), rows[-1]["id"]
    ledger.replace_file(file, pa.Table.from_pylist(rows, schema=ledger.rows(file).schema))
    report = check(root)
    assert {word for word, _ in found(report)} <= {"missing"}  # of supplements whose event is further away
    assert any(note.startswith("1 rows repeat an id") for note in report.notes)


def test_a_supplement_without_its_event_is_missing_it(root: Path, ledger: Chained) -> None:
    archive = open_archive(LocalStore(root))
    keys = {
        file.key for file in archive.ledger.snapshot.files.values() if file.partition.dataset == "supplements"
    }
    events = [
        file.key for file in archive.ledger.snapshot.files.values() if file.partition.dataset == "events"
    ]
    ledger.append("compact", removed=events)  # takes all events away and puts nothing in their place
    damages = found(check(root))
    assert {("missing", key) for key in keys} <= damages
    assert ("miscounted", layout.commit(4)) in damages


@pytest.mark.parametrize("most_rows", [1_000_000, 100])
def test_repeats_are_found_alike_in_memory_and_through_temporary_files(
    root: Path, ledger: Chained, most_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "archiver.verify.objects.Workspace",
        lambda findings, days: Workspace(findings, days, most_rows=most_rows),
    )
    key = _archive_again(root, ledger, ledger.file())
    report = check(root)
    assert {word for word, _ in found(report)} == {"duplicated"}
    counted = sum(int(one.found.partition(" ")[0]) for one in report.damages)
    assert counted == ledger.file().rows
    assert {one.object for one in report.damages} == {key}


def test_hashes_that_collide_are_no_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "archiver.verify.identities.identity_hashes", lambda ids, _: np.zeros(len(ids), dtype=np.uint64)
    )
    report = VerifyReport()
    workspace = Workspace(Findings(report), 31)
    rows = np.zeros(2, IDENTITY)
    workspace.add(rows)
    content = Encoding().encode(
        pa.table({"id": ["a", "b"], "event_time": pa.array([0, 0], pa.timestamp("us", tz="UTC"))}), "events"
    )
    key = layout.data_file("events", "w", date(1970, 1, 1), "0" * 32, "1" * 28, 0, "parquet")
    workspace.check([DataFile(key, "", 0, 2, 0, 0)], [1], lambda _: content, all_read=True)
    assert report.damages == []


# --- the chain --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sequence", [0, 1, 2])
def test_a_commit_with_a_changed_number_is_altered(root: Path, ledger: Chained, sequence: int) -> None:
    tree = ledger.tree(sequence)
    tree["committed_at"] = tree["committed_at"][:-2] + ("1Z" if tree["committed_at"][-2] != "1" else "0Z")
    ledger.write(sequence, tree)
    damages = found(check(root, quick=True))
    assert ("altered", layout.commit(sequence)) in damages
    # Only where nothing stands behind the next commit may that be the altered one.
    assert damages - {("altered", layout.commit(sequence))} <= {("altered", layout.commit(3))}
    if sequence < 2:
        assert len(damages) == 1


def test_a_changed_link_blames_the_commit_that_holds_it(root: Path, ledger: Chained) -> None:
    tree = ledger.tree(1)
    tree["previous"] = digest_of(b"another")
    ledger.write(1, tree)
    assert found(check(root, quick=True)) == {("altered", layout.commit(1))}


@pytest.mark.parametrize("sequence", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "change", [lambda old: old + b"\n", lambda old: old[:-1], lambda old: b"", lambda old: b"[]"]
)
def test_a_commit_of_other_bytes_is_altered(
    root: Path, ledger: Chained, sequence: int, change: Callable[[bytes], bytes]
) -> None:
    ledger.path(sequence).write_bytes(change(ledger.path(sequence).read_bytes()))
    assert ("altered", layout.commit(sequence)) in found(check(root, quick=True))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sequence", "1"),
        ("sequence", 7),
        ("format", 2),
        ("counts", {}),
        ("counts", dict.fromkeys(Counts().to_json(), "x")),
        ("added", [{"key": "../../etc/passwd"}]),
        ("quarantined", [{"key": 1, "digest": "", "bytes": 0, "entries": 0}]),
        ("lists", [{"key": "../x", "digest": "", "bytes": 0, "entries": 1}]),
        ("source", []),
        ("inputs", [1]),
        ("moved", [{"commit": 1, "ordinal": None}]),
        ("removed", [7]),
        ("previous", None),
        ("batch", 5),
        ("operation", "rewrite"),
        ("archive", {"id": "x"}),
        ("oldest_readable", 9),
    ],
)
def test_a_commit_that_means_nothing_is_altered_and_the_check_goes_on(
    root: Path, ledger: Chained, name: str, value: Any
) -> None:
    ledger.change(2, lambda tree: tree.update({name: value}))
    flip(root / ledger.file().key)
    damages = found(check(root))
    assert ("altered", layout.commit(2)) in damages
    assert ("altered", ledger.file().key) in damages


def test_a_gap_is_a_missing_commit(root: Path, ledger: Chained) -> None:
    ledger.path(2).unlink()
    damages = found(check(root))
    assert ("missing", layout.commit(2)) in damages


def test_several_absent_commits_are_told_in_one_line(root: Path, ledger: Chained) -> None:
    ledger.path(0).unlink()
    ledger.path(1).unlink()
    report = check(root, quick=True)
    assert ("missing", layout.commit(0)) in found(report)
    assert "nor are the 1 after it" in report.damages[0].found


def test_a_ledger_cut_short_looks_whole_unless_its_head_is_expected(root: Path, ledger: Chained) -> None:
    before = check(root)
    ledger.path(3).unlink()
    cut = check(root)
    assert cut.is_intact
    assert any("waiting for collect" in note for note in cut.notes)
    expected = parse_expected(before.expectation)
    assert found(check(root, expect=[expected])) == {("truncated", layout.commit(3))}
    with pytest.raises(IntegrityError, match="truncated 1"):
        check(root, expect=[expected]).raise_if_damaged()


def test_a_ledger_written_anew_is_forked_when_a_commit_is_expected(root: Path, ledger: Chained) -> None:
    before = [(n, digest_of(ledger.path(n).read_bytes())) for n in range(4)]
    ledger.change(1, lambda tree: tree.update(inputs=[{"name": "forged", "digest": "", "bytes": 0}]))
    assert check(root).is_intact
    forked = found(check(root, expect=before))
    assert forked == {("forked", layout.commit(n)) for n in (1, 2, 3)}


def test_an_expected_commit_that_was_altered_alone_is_not_called_forked(root: Path, ledger: Chained) -> None:
    expected = (1, digest_of(ledger.path(1).read_bytes()))
    tree = ledger.tree(1)
    tree["inputs"] = [{"name": "forged", "digest": "", "bytes": 0}]
    ledger.write(1, tree)
    assert {word for word, _ in found(check(root, expect=[expected]))} == {"altered"}


def test_what_was_expected_and_is_there_is_no_damage(root: Path, ledger: Chained) -> None:
    assert check(root, expect=[(n, digest_of(ledger.path(n).read_bytes())) for n in range(4)]).is_intact


@pytest.mark.parametrize("text", ["", "42", "42:abc", "-1:sha256:" + "0" * 64, "x:sha256:" + "0" * 64])
def test_an_expected_commit_of_another_form_is_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_expected(text)


@pytest.mark.parametrize("count", ["read", "archived", "supplements", "duplicates", "quarantined"])
def test_a_count_changed_in_a_ledger_chained_anew_is_miscounted(
    root: Path, ledger: Chained, count: str
) -> None:
    ledger.change(1, lambda tree: tree["counts"].update({count: tree["counts"][count] + 1}))
    assert found(check(root, quick=True)) == {("miscounted", layout.commit(1))}


def test_counts_that_add_up_but_are_not_the_rows_are_miscounted(root: Path, ledger: Chained) -> None:
    def shift(tree: Tree) -> None:
        tree["counts"]["archived"] -= 1
        tree["counts"]["duplicates"] += 1

    ledger.change(1, shift)
    assert found(check(root, quick=True)) == {("miscounted", layout.commit(1))}


def test_a_time_that_goes_back_makes_the_commit_altered(root: Path, ledger: Chained) -> None:
    ledger.change(2, lambda tree: tree.update(committed_at="2001-01-01T00:00:00.000000Z"))
    assert found(check(root, quick=True)) == {("altered", layout.commit(2))}


def test_removing_what_is_not_live_makes_the_commit_altered(root: Path, ledger: Chained) -> None:
    key = ledger.append("expire", removed=["events/workspace=x/dt=2020-01-01/none.parquet"])
    assert found(check(root, quick=True)) == {("altered", key)}


def test_a_commit_of_a_fenced_attempt_is_inserted(root: Path, ledger: Chained) -> None:
    attempt = layout.new_attempt()
    ledger.append("fence", fenced=[attempt])
    key = ledger.append(attempt=attempt)
    assert found(check(root, quick=True)) == {("inserted", key)}


def test_a_batch_in_two_commits_is_duplicated(root: Path, ledger: Chained) -> None:
    key = ledger.append(batch=ledger.tree(1)["batch"])
    assert found(check(root, quick=True)) == {("duplicated", key)}


def test_a_cursor_that_does_not_go_on_where_it_stood_makes_the_commit_altered(
    root: Path, ledger: Chained
) -> None:
    ledger.append(source={"name": "table", "before": None, "after": "a"})
    ledger.append(source={"name": "table", "before": "a", "after": "b"})
    key = ledger.append(source={"name": "table", "before": "a", "after": "c"})
    assert found(check(root, quick=True)) == {("altered", key)}


def test_a_file_with_another_attempts_name_makes_the_commit_altered(root: Path, ledger: Chained) -> None:
    file = ledger.file().to_json()
    counts = Counts(read=file["rows"], archived=file["rows"]).to_json()
    key = ledger.append(added=[file], counts=counts)
    assert found(check(root, quick=True)) == {("altered", key)}


def _requeue(ledger: Chained, *moved: tuple[int, int], counts: Counts | None = None) -> str:
    counts = counts or Counts(read=len(moved), duplicates=len(moved))
    entries = [{"commit": commit, "ordinal": ordinal} for commit, ordinal in moved]
    return ledger.append("requeue", moved=entries, counts=counts.to_json())


def _quarantined(root: Path, ledger: Chained) -> int:
    first = gzip.decompress((root / ledger.quarantine()).read_bytes()).splitlines()[0]
    return int(json.loads(first)["ordinal"])


def test_an_entry_is_moved_once_and_only_if_it_was_there(root: Path, ledger: Chained) -> None:
    ordinal = _quarantined(root, ledger)
    _requeue(ledger, (1, ordinal))
    assert check(root).is_intact
    again = _requeue(ledger, (1, ordinal))
    absent = _requeue(ledger, (1, 100_000), (0, 3))
    assert found(check(root)) == {("duplicated", again), ("missing", absent)}


def test_a_requeue_counts_what_it_moves(root: Path, ledger: Chained) -> None:
    key = _requeue(ledger, (1, _quarantined(root, ledger)), counts=Counts(read=2, duplicates=2))
    assert found(check(root)) == {("miscounted", key)}


def test_a_list_that_names_other_files_is_followed_as_far_as_it_can_be_read(
    root: Path, ledger: Chained
) -> None:
    (root / ledger.list()).unlink()
    report = check(root)
    assert found(report) == {("missing", ledger.list())}
    assert any(note.startswith("not judged:") for note in report.notes)


def test_a_commit_added_while_verify_runs_is_no_damage(root: Path) -> None:
    class Busy(LocalStore):
        def list(self, prefix: str = "", *, start_after: str = "") -> Any:
            if not prefix:
                archive = open_archive(LocalStore(root))
                deliver(archive, deliveries(events=20, seed=99, workspaces=1, days=1))
            return super().list(prefix, start_after=start_after)

    report = verify(Busy(root))
    assert found(report) == set()
    assert report.head == 3


# --- all together -------------------------------------------------------------------------------------------


def test_several_damages_at_once_are_all_named(root: Path, ledger: Chained) -> None:
    flip(root / ledger.file(0).key)
    (root / ledger.file(1).key).unlink()
    (root / ledger.quarantine()).unlink()
    (root / "stranger").write_bytes(b"")
    inserted = ledger.file(0).key.replace("-0.parquet", "-4711.parquet")
    (root / inserted).write_bytes(b"")
    again = _archive_again(root, ledger, ledger.file(2))
    ledger.change(2, lambda tree: tree["counts"].update(read=1))
    report = check(root, expect=[(99, "sha256:" + "0" * 64), (3, "sha256:" + "0" * 64)])
    assert found(report) == {
        ("altered", ledger.file(0).key),
        ("missing", ledger.file(1).key),
        ("missing", ledger.quarantine()),
        ("foreign", "stranger"),
        ("inserted", inserted),
        ("duplicated", again),
        ("miscounted", layout.commit(2)),
        ("truncated", layout.commit(99)),
        ("forked", layout.commit(3)),
    }
    assert set(report.words) == set(WORDS) == set(MEANINGS)


def test_the_listing_is_bounded_and_the_count_is_not(root: Path) -> None:
    for number in range(1_050):
        (root / f"foreign-{number}").write_bytes(b"")
    report = check(root, quick=True)
    assert report.damage_count == 1_050
    assert len(report.damages) == 1_000


def test_the_command_exits_with_20_and_names_the_damage(root: Path, ledger: Chained) -> None:
    flip(root / ledger.file().key)
    done = CliRunner().invoke(verify_command, ["--archive", str(root)])
    assert done.exit_code == 20
    assert f"altered: {ledger.file().key}: expected sha256:" in done.stdout
    assert "DAMAGED   altered 1" in done.stdout


def test_the_command_prints_the_head_to_expect_next_time(root: Path, ledger: Chained) -> None:
    done = CliRunner().invoke(verify_command, ["--archive", str(root), "--quick"])
    assert done.exit_code == 0
    told = done.stdout.strip().rpartition("--expect ")[2]
    ledger.path(3).unlink()
    again = CliRunner().invoke(
        verify_command, ["--archive", str(root), "--quick", "--expect", told, "--json"]
    )
    assert again.exit_code == 20
    document = json.loads(again.stdout)
    assert document["message_type"] == "verify_report"
    assert document["words"] == {"truncated": 1}


def test_damage_is_found_alike_on_every_kind_of_store(store: Store) -> None:
    archive = init_archive(store, rounds=0)
    deliver(archive, deliveries(events=60, seed=5, workspaces=2, days=1, invalid=0.1))
    assert found(verify(store)) == set()
    altered, missing = sorted(archive.ledger.snapshot.files)[:2]
    content = bytearray(store.get(altered))
    content[100] ^= 1
    store.put(altered, bytes(content), mode="overwrite")
    store.delete([missing])
    store.put("stranger", b"")
    assert found(verify(store)) == {("altered", altered), ("missing", missing), ("foreign", "stranger")}
