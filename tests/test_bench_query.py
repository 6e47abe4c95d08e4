"""The benchmark of questions, at a size that takes seconds: it must run, and what it compares must be so."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from archiver.archive import open_archive
from archiver.store.local import LocalStore
from archiver.verify.run import verify
from tests.bench import bench_query
from tests.bench.asking import Place, Question, copied, questions, same_rows
from tests.bench.many_files import BEHIND_CHECKPOINT, Plan, made
from tests.conftest import S3Place

PLAN = Plan(events=1_200, files=12)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = tmp_path_factory.mktemp("kept")
    with made(PLAN, kept):
        return kept


@pytest.fixture
def folder(kept: Path) -> Path:
    with made(PLAN, kept) as folder:
        return folder


def test_the_archive_is_one_that_verify_accepts(folder: Path) -> None:
    report = verify(LocalStore(folder))

    assert report.damages == []
    files = list(open_archive(LocalStore(folder)).ledger.snapshot.files.select("events"))
    assert (len(files), {file.rows for file in files}) == (PLAN.files, {100})


def test_the_archive_has_its_index_and_its_table_log(folder: Path) -> None:
    archive = open_archive(LocalStore(folder))

    assert archive.identities.forecast().files == 0
    assert archive.ledger.behind_checkpoint[0] <= BEHIND_CHECKPOINT
    assert len(list((folder / "events/_delta_log").glob("*.json"))) >= PLAN.days


def test_an_archive_that_was_kept_is_used_again(kept: Path, folder: Path) -> None:
    before = folder.stat().st_mtime_ns

    with made(PLAN, kept) as again:
        assert again == folder
        assert again.stat().st_mtime_ns == before


def test_an_archive_that_was_made_in_part_is_made_again(tmp_path: Path) -> None:
    plan = Plan(events=20, files=2)
    with made(plan, tmp_path) as folder:
        folder.with_suffix(".json").unlink()
        (folder / "left").write_text("behind")

    with made(plan, tmp_path) as folder:
        assert not (folder / "left").exists()


def test_both_sides_find_the_rows_that_are_asked_for(folder: Path) -> None:
    place = Place("local folder", str(folder))

    for question in questions(folder, PLAN, 2):
        for text in question.texts:
            ours = place.ours(text)
            assert same_rows(ours, place.theirs(text)), question.name
            assert ours.num_rows >= 1


def test_answers_that_differ_end_the_benchmark(folder: Path) -> None:
    class Wrong(Place):
        def ours(self, text: str) -> pa.Table:
            return super().ours(text).slice(1)

    with pytest.raises(SystemExit, match="the two answers differ"):
        bench_query.ask(Wrong("local folder", str(folder)), questions(folder, PLAN, 1)[0])


def test_the_tables_have_a_line_for_each_question_and_each_named_query(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ["--events", str(PLAN.events), "--files", str(PLAN.files), "--repetitions", "0"]
    bench_query.main([*size, "--folder", str(kept), "--only", "compare,named"])

    printed = capsys.readouterr().out
    assert printed.count("| local folder |") == 4
    assert "| local folder | one event by id | 1 |" in printed
    assert "| failed_logins |" in printed


def test_a_question_is_asked_by_whole_processes_too(folder: Path) -> None:
    place = Place("local folder", str(folder))

    *_, line = bench_query.processes(place, questions(folder, PLAN, 1)[:1], 1)

    assert line.startswith("| local folder | one event by id | ")


def test_in_a_bucket_the_requests_of_both_sides_are_counted(folder: Path, s3_bucket: S3Place) -> None:
    server = s3_bucket.server
    asked = questions(folder, PLAN, 1)

    with copied(folder, s3_bucket.location, server.endpoint, server.access_key, server.secret_key) as (
        place,
        meter,
    ):
        *_, compared = bench_query.compare(place, asked)
        *_, counted = bench_query.requests(place, meter, asked)

    assert compared.startswith("| S3 server | events per day and action in a month | ")
    _, _, ours, theirs, _ = counted.split("|")
    listed, read = (int(cell.split(",")[0]) for cell in (theirs, theirs.partition(",")[2]))
    assert listed >= 1
    assert read >= PLAN.files
    assert int(ours.split(",")[1]) >= PLAN.files


def test_a_bar_that_is_missed_is_shown(folder: Path) -> None:
    hard = Question("hard", 1e9, ("SELECT count(*) AS n FROM {events}",) * 2)

    *_, line = bench_query.compare(Place("local folder", str(folder)), [hard])

    assert "**" in line
    assert "(1e+09)" in line
