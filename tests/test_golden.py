"""Golden archives: what an earlier program wrote, every later one reads as it was written down then.

`tests/golden/v1/` holds small archives of version 1 of the format, packed; what each holds, or
what is wrong with it, stands in `expected.json` beside them. They are never built anew.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver.archive import Archive, AsOf, open_archive
from archiver.cli import main as command_line
from archiver.collect import collect
from archiver.compact import Policy, compact
from archiver.delta.publish import publish, rebuild
from archiver.errors import (
    ArchiveNotFoundError,
    ArchiverError,
    ConfigError,
    IntegrityError,
    ObjectNotFoundError,
    QueryError,
)
from archiver.export import export
from archiver.query.session import open_session
from archiver.requeue import entries
from archiver.status import status
from archiver.store.local import LocalStore
from archiver.verify import parse_expected, verify
from archiver.verify.report import WORDS
from tests.golden import independent_reader as reader
from tests.golden import make
from tests.golden.damages import LINES, PARQUET, REFUSED
from tests.support import alert, archive_bodies, event, ids_of, rows_of

V1 = Path(__file__).parent / "golden" / "v1"
DATASETS = ("events", "alerts", "supplements")
Tree = dict[str, Any]
EXPECTED: dict[str, Tree] = json.loads((V1 / "expected.json").read_text(encoding="utf-8"))["archives"]
# What only somebody sees who looks at all of an archive, or knows more than an archive tells.
SEEN_BY_VERIFY_ALONE = {
    "altered-column",
    "cursor-jump",
    "duplicated-event",
    "foreign-object",
    "forked",
    "inserted-data-file",
    "missing-column",
    "missing-event-of-a-supplement",
    "missing-file-of-an-older-snapshot",
    "moved-what-never-was",
    "ordinal-twice",
    "truncated",
}
# What nobody may fold, whatever is asked of the archive.
REFUSED_AT_ONCE = [
    *("altered-commit", "altered-link", "altered-list", "begun-twice", "duplicated-key", "lists-and-files"),
    *("member-twice-in-a-commit", "missing-commit", "missing-first-commit", "missing-list"),
    *("number-below-nothing", "number-beyond-limits", "removed-what-is-not-live"),
    *("time-of-another-form", "true-for-a-number"),
]


def of(verdict: str) -> list[str]:
    return sorted(name for name, expected in EXPECTED.items() if expected["verdict"] == verdict)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the folder of an archive, which nobody may write to."""
    root = tmp_path_factory.mktemp("golden")

    def folder(name: str) -> Path:
        place = root / name
        return place if place.exists() else make.unpack(V1 / f"{name}.zip", place)

    return folder


@pytest.fixture
def copied(unpacked: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Give a copy of the folder of an archive, which may be written to."""
    return lambda name: Path(shutil.copytree(unpacked(name), tmp_path / name))


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command as from a shell: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["archiver", *arguments])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        told = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, told.out, told.err

    return call


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def told(archive: Archive) -> Tree:
    """Tell an open archive as `expected.json` does, by our own reader."""
    head = archive.ledger.snapshot
    return {
        "head": head.sequence,
        "head_digest": head.digest,
        "data_format": archive.encoding.format,
        "oldest_readable": head.oldest_readable,
        "holds": sorted(head.holds),
        "totals": head.totals.to_json(),
        "quarantine": {one.name: one.rejection.reason for one in entries(archive)},
        "ids": {dataset: ids_of(archive, dataset) for dataset in DATASETS},
    }


def less(expected: Tree, *names: str) -> Tree:
    return {name: value for name, value in expected.items() if name not in names}


# --- intact ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", of("intact"))
def test_an_intact_archive_is_read_as_it_was_written_down(name: str, unpacked: Callable[[str], Path]) -> None:
    folder, expected = unpacked(name), EXPECTED[name]
    before = content_of(folder)
    archive = open_archive(LocalStore(folder))
    assert told(archive) == less(expected, "verdict", "bodies", "as_of")
    for dataset in DATASETS:
        lines = [line[:-1] for line in export(archive, dataset=dataset)]  # type: ignore[arg-type]
        assert len(lines) == len(expected["ids"][dataset])
    found = status(archive)
    assert {name: volume.rows for name, volume in found.datasets.items()} == {
        name: len(ids) for name, ids in expected["ids"].items() if ids
    }
    for dataset in DATASETS:
        answer = open_session(archive).sql(f"SELECT count(*) AS n FROM {dataset}").arrow().to_pylist()
        assert answer == [{"n": len(expected["ids"][dataset])}]
    assert content_of(folder) == before, "reading wrote something"


@pytest.mark.parametrize("name", of("intact"))
def test_every_kept_snapshot_of_an_intact_archive_can_be_asked_for(
    name: str, unpacked: Callable[[str], Path]
) -> None:
    store, expected = LocalStore(unpacked(name)), EXPECTED[name]
    for sequence, ids in expected["as_of"].items():
        archive = open_archive(store, as_of=AsOf(sequence=int(sequence)))
        assert {dataset: ids_of(archive, dataset) for dataset in DATASETS} == ids, sequence
    assert len(expected["as_of"]) == expected["head"] - expected["oldest_readable"] + 1
    for beyond in (expected["oldest_readable"] - 1, expected["head"] + 1):
        with pytest.raises(ConfigError):
            open_archive(store, as_of=AsOf(sequence=beyond))


@pytest.mark.parametrize("name", of("intact"))
def test_an_intact_archive_is_verified_against_the_head_that_was_written_down(
    name: str, unpacked: Callable[[str], Path]
) -> None:
    expected = EXPECTED[name]
    head = parse_expected(f"{expected['head']}:{expected['head_digest']}")
    assert verify(LocalStore(unpacked(name)), expect=[head]).damages == []


@pytest.mark.parametrize("name", of("intact"))
def test_a_reader_written_from_the_specification_alone_reads_the_same(
    name: str, unpacked: Callable[[str], Path]
) -> None:
    assert make.expected_of(unpacked(name)) == EXPECTED[name]


@pytest.mark.parametrize("name", of("intact"))
def test_both_readers_give_the_same_bodies(name: str, unpacked: Callable[[str], Path]) -> None:
    folder = unpacked(name)
    archive, state = open_archive(LocalStore(folder)), reader.follow(folder)
    breaks = bytes.maketrans(b"\r\n", b"  ")
    for dataset in DATASETS:
        ours = sorted(line[:-1] for line in export(archive, dataset=dataset))  # type: ignore[arg-type]
        theirs = sorted(row.body.translate(breaks) for row in reader.rows(folder, state, dataset))
        assert ours == theirs


def bring_up_caches(archive: Archive) -> None:
    archive.ledger.write_checkpoint()
    archive.identities.update()
    if archive.encoding.format == "parquet":
        try:
            publish(archive)
        except IntegrityError:  # a Delta log that does not tell what the ledger tells is not gone on with
            rebuild(archive)


@pytest.mark.parametrize("name", of("intact"))
def test_a_later_program_goes_on_in_an_old_archive(name: str, copied: Callable[[str], Path]) -> None:
    folder, expected = copied(name), EXPECTED[name]
    store = LocalStore(folder)
    known = expected["ids"]
    again = [event("twice", workspace="ws_1")] if "twice" in known["events"] else []
    for number in (1, 2):
        archive = open_archive(store)
        report = archive_bodies(archive, event(f"new-{number}"), alert(f"new-alert-{number}"), *again)
        assert report.counts.archived == 2
        assert report.counts.duplicates == len(again), "an archived event was not known again"
    done = compact(open_archive(store), Policy(min_files=2))
    assert done.files_after < done.files_before
    bring_up_caches(open_archive(store))
    now = open_archive(store)
    before = now.ledger.snapshot.sequence
    assert collect(now, grace=timedelta(0), keep_snapshots=timedelta(0), force=True).superseded
    assert ids_of(now) == sorted([*known["events"], "new-1", "new-2"])
    assert ids_of(now, "alerts") == sorted([*known["alerts"], "new-alert-1", "new-alert-2"])
    assert ids_of(now, "supplements") == known["supplements"]
    written_down = parse_expected(f"{expected['head']}:{expected['head_digest']}")
    assert verify(store, expect=[written_down]).damages == []
    state = reader.follow(folder)
    assert (state.head, state.oldest_readable) == (before + 1, before)
    assert len(list(reader.rows(folder, state))) == len(known["events"]) + 2


def test_caches_that_are_damaged_or_incomplete_change_no_answer() -> None:
    whole = EXPECTED["caches"]
    for name in ("caches-damaged", "caches-incomplete"):
        for member in ("ids", "totals", "quarantine", "holds", "oldest_readable"):
            assert EXPECTED[name][member] == whole[member], name


def test_the_caches_of_the_golden_archives_are_there_and_damaged_where_they_are_said_to_be(
    unpacked: Callable[[str], Path],
) -> None:
    names = {path.relative_to(unpacked("caches")) for path in make.caches_in(unpacked("caches"))}
    assert {path.parts[0] for path in names} == {"_ledger", "_index", "events"}
    damaged = {
        path.relative_to(unpacked("caches-damaged")) for path in make.caches_in(unpacked("caches-damaged"))
    }
    incomplete = make.caches_in(unpacked("caches-incomplete"))
    assert len(damaged) == len(names)
    assert 0 < len(incomplete) < len(names)


# --- damaged, and refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", of("damaged"))
def test_every_damage_is_named_by_its_word_and_its_object(name: str, unpacked: Callable[[str], Path]) -> None:
    expected = EXPECTED[name]
    heads = [parse_expected(text) for text in expected["expect"]]
    report = verify(LocalStore(unpacked(name)), expect=heads)
    assert {(one.word, one.object) for one in report.damages} == {
        (word, key) for word, key in expected["damages"]
    }
    if heads:
        assert verify(LocalStore(unpacked(name))).is_intact, "it needs no expected head to be seen"


@pytest.mark.parametrize("name", ["altered-commit", "altered-body-in-compaction", "truncated"])
def test_the_command_that_finds_damage_exits_with_20(
    name: str, unpacked: Callable[[str], Path], run: Callable[..., tuple[int, str, str]]
) -> None:
    heads = [part for text in EXPECTED[name]["expect"] for part in ("--expect", text)]
    code, out, _ = run("verify", "--json", "--archive", str(unpacked(name)), *heads)
    assert code == 20
    assert {one["object"] for one in json.loads(out)["damages"]} == {
        key for _, key in EXPECTED[name]["damages"]
    }


@pytest.mark.parametrize("name", REFUSED_AT_ONCE)
def test_a_ledger_that_cannot_be_folded_is_refused_before_anything_is_read(
    name: str, unpacked: Callable[[str], Path]
) -> None:
    with pytest.raises((IntegrityError, ArchiveNotFoundError)) as raised:
        open_archive(LocalStore(unpacked(name)))
    assert raised.value.hint


@pytest.mark.parametrize("name", of("damaged"))
def test_reading_a_damaged_archive_gives_what_it_holds_or_an_error_of_ours(
    name: str, unpacked: Callable[[str], Path]
) -> None:
    error = None
    try:
        archive = open_archive(LocalStore(unpacked(name)))
        for dataset in DATASETS:
            list(export(archive, dataset=dataset))  # type: ignore[arg-type]
        list(entries(archive))
    except ArchiverError as raised:
        error = raised
    absent = isinstance(error, ObjectNotFoundError) and name.startswith("missing-")
    assert error is None or absent or error.exit_code == 20


@pytest.mark.parametrize("name", of("damaged"))
def test_a_reader_by_the_specification_refuses_what_it_can_see(
    name: str, unpacked: Callable[[str], Path]
) -> None:
    folder = unpacked(name)
    if name in SEEN_BY_VERIFY_ALONE:
        make.told(folder, reader.follow(folder))
        return
    with pytest.raises(reader.Refused):
        make.told(folder, reader.follow(folder))


def test_a_missing_column_is_refused_and_not_taken_for_null(unpacked: Callable[[str], Path]) -> None:
    archive = open_archive(LocalStore(unpacked("missing-column")))
    with pytest.raises(IntegrityError, match="found no user_agent"):
        rows_of(archive)
    with pytest.raises(QueryError):
        open_session(archive).sql("SELECT user_agent FROM events").arrow()


def test_there_is_an_archive_for_every_word_of_verify() -> None:
    words = {word for name in of("damaged") for word, _ in EXPECTED[name]["damages"]}
    assert words == set(WORDS)


def commands(folder: Path, spool: Path) -> Iterator[list[str]]:
    place = ["--archive", str(folder)]
    yield ["status", *place]
    yield ["sql", "SELECT count(*) FROM events", *place]
    yield ["export", *place]
    yield ["run", "--spool", str(spool), *place]
    yield ["compact", *place]
    yield ["collect", *place]
    yield ["upgrade", *place]


@pytest.mark.parametrize("name", of("refused"))
def test_an_archive_of_another_version_is_refused_by_all_and_nothing_is_written(
    name: str, copied: Callable[[str], Path], run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    folder, spool = copied(name), tmp_path / "spool"
    spool.mkdir()
    (spool / "one.jsonl").write_bytes(event("one") + b"\n")
    before = content_of(folder)
    for command in commands(folder, spool):
        code, out, err = run(*command)
        assert code == EXPECTED[name]["exit_code"], (command, err)
        assert out == ""
        assert "error: " in err
        assert "hint: " in err
    code, out, _ = run("verify", "--archive", str(folder))
    assert code == 20
    assert "DAMAGED" in out
    assert content_of(folder) == before
    assert (spool / "one.jsonl").exists()


@pytest.mark.parametrize("name", of("refused"))
def test_a_reader_by_the_specification_refuses_another_version(
    name: str, unpacked: Callable[[str], Path]
) -> None:
    with pytest.raises(reader.Refused):
        reader.follow(unpacked(name))


# --- today's program --------------------------------------------------------------------------------------


def test_what_todays_program_writes_folds_to_what_is_written_down(tmp_path: Path) -> None:
    built = {}
    for name, folder in make.build_intact(tmp_path):
        built[name] = make.expected_of(folder)
        assert verify(LocalStore(folder)).damages == [], name
    assert sorted(built) == of("intact")
    for name, found in built.items():
        assert less(found, "head_digest") == less(EXPECTED[name], "head_digest"), name


def test_todays_damages_are_named_as_those_that_are_written_down(tmp_path: Path) -> None:
    built = {name: expected for name, _, expected in make.build_damaged(tmp_path)}
    assert sorted(built) == of("damaged") == sorted(PARQUET | LINES)
    for name, found in built.items():
        words = sorted(word for word, _ in found["damages"])
        assert words == sorted(word for word, _ in EXPECTED[name]["damages"]), name
    assert of("refused") == sorted(REFUSED)


def test_golden_archives_stay_small() -> None:
    packed = list(V1.glob("*.zip"))
    assert sorted(path.stem for path in packed) == sorted(EXPECTED)
    assert sum(path.stat().st_size for path in packed) < 1_500_000
