"""Export gives back what came; what it skips, it does not even read."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
import zstandard
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from archiver import clock
from archiver.archive import Archive, open_archive
from archiver.cli.export import export_command
from archiver.cli.sql import sql_command
from archiver.errors import ConfigError, IntegrityError, ObjectNotFoundError
from archiver.export import export
from archiver.store.base import Store
from archiver.times import parse_when
from tests.support import alert, archive_bodies, event, new_archive

NOON = clock.from_text("2026-03-27T12:00:00.000000Z")


def at(event_id: str, time: str, workspace: str = "ws_1") -> bytes:
    return event(event_id, workspace=workspace, timestamp=f"2026-03-{time}Z")


DAYS = [
    at("early", "26T23:59:59.999999"),
    at("just before", "27T11:59:59.999999"),
    at("noon", "27T12:00:00.000000"),
    at("elsewhere", "27T12:00:00.000000", "ws_0"),
    at("later", "28T00:00:00.000000"),
]


def exported(archive: Archive, **options: Any) -> list[bytes]:
    return list(export(archive, **options))


@pytest.fixture(params=["parquet", "jsonl.gz", "jsonl.zst"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    made = new_archive(tmp_path / "archive", format=request.param)
    archive_bodies(made, *reversed(DAYS), alert("a1"), b"{}")
    return made


def test_bodies_come_as_they_were_delivered_by_day_and_workspace(archive: Archive) -> None:
    early, before, noon, elsewhere, later = DAYS
    assert exported(archive) == [body + b"\n" for body in (early, elsewhere, before, noon, later)]


def test_odd_bytes_come_back_and_only_line_breaks_become_spaces(tmp_path: Path) -> None:
    odd = b' {\r\n\t"event_type" : "event.created",\n"data":{"id":"\\u00e9\\ud83d\\ude00",'
    odd += b'"actor_id":"\xc3\xa9","action":"a.b",'
    odd += b'"x":1.000000000000000000000001e5, "s":"\\n\\r"}\r,'
    odd += b'"workspace_id":"w","timestamp":"2026-03-26T10:15:00Z"}'
    for form in ("parquet", "jsonl.gz", "jsonl.zst"):
        made = new_archive(tmp_path / form, format=form)
        archive_bodies(made, odd)
        assert exported(made) == [odd.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"]


def test_since_is_inclusive_and_until_is_not(archive: Archive) -> None:
    assert exported(archive, since=NOON, workspace="ws_1") == [DAYS[2] + b"\n", DAYS[4] + b"\n"]
    assert exported(archive, until=NOON) == [DAYS[0] + b"\n", DAYS[1] + b"\n"]
    assert exported(archive, since=NOON, until=NOON + 1, workspace="ws_1") == [DAYS[2] + b"\n"]
    assert exported(archive, since=NOON, until=NOON) == []


@given(st.data())
def test_two_halves_of_time_are_the_whole(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    made = _halves(tmp_path_factory)
    cut = data.draw(st.integers(NOON - 3 * 86_400_000_000, NOON + 3 * 86_400_000_000) | st.just(NOON))
    assert sorted(exported(made, until=cut) + exported(made, since=cut)) == sorted(exported(made))


_made: list[Archive] = []


def _halves(factory: pytest.TempPathFactory) -> Archive:
    if not _made:
        made = new_archive(factory.mktemp("halves") / "archive")
        archive_bodies(made, *DAYS)
        _made.append(made)
    return _made[0]


def test_datasets_are_told_apart(archive: Archive) -> None:
    assert exported(archive, dataset="alerts") == [alert("a1") + b"\n"]
    assert exported(archive, dataset="supplements") == []
    archive_bodies(archive, event("noon", timestamp="2026-03-27T12:00:00.000000Z", actor_name="Eve"))
    assert len(exported(archive, dataset="supplements")) == 1
    assert len(exported(archive, dataset="all")) == 7
    with pytest.raises(ConfigError, match="no dataset"):
        export(archive, dataset="quarantine")  # type: ignore[arg-type]


def test_every_store_gives_back_the_same(store: Store) -> None:
    made = new_archive(store)
    archive_bodies(made, *DAYS)
    assert sorted(exported(made)) == sorted(body + b"\n" for body in DAYS)


def test_a_file_that_cannot_match_is_not_read(archive: Archive) -> None:
    for partition in (_folder(archive) / "events/workspace=ws_1").iterdir():
        if partition.name != "dt=2026-03-28":
            next(partition.iterdir()).unlink()
    midnight = clock.from_text("2026-03-28T00:00:00.000000Z")
    assert exported(archive, since=midnight) == [DAYS[4] + b"\n"]
    assert exported(archive, workspace="ws_0") == [DAYS[3] + b"\n"]
    with pytest.raises(ObjectNotFoundError):
        exported(archive)


def test_an_altered_file_is_refused(archive: Archive) -> None:
    (file,) = (_folder(archive) / "events/workspace=ws_0").rglob("*.*")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(IntegrityError, match="expected sha256:"):
        exported(archive)


def test_export_stays_at_the_snapshot_it_began_with(archive: Archive) -> None:
    lines = export(archive)
    first = next(lines)
    archive_bodies(archive, at("new", "29T00:00:00.000000"))
    assert len([first, *lines]) == len(DAYS)


def _folder(archive: Archive) -> Path:
    path = archive.store.local_path("x")
    assert path is not None
    return Path(path).parent


# --- the commands


def test_the_command_writes_a_file_that_appears_when_it_is_whole(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    wanted = b"".join(exported(archive))
    readers = {"a.jsonl": bytes, "a.jsonl.gz": gzip.decompress, "a.jsonl.zst": _unzstd}
    for name, read in readers.items():
        target = tmp_path / "out" / name
        target.write_bytes(b"old")
        told = CliRunner().invoke(export_command, ["-a", str(_folder(archive)), "-o", str(target)])
        assert told.exit_code == 0, told.output
        assert read(target.read_bytes()) == wanted
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(readers)


def _unzstd(content: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(content) as reader:
        return reader.read()


def test_a_failed_export_leaves_the_old_file(archive: Archive, tmp_path: Path) -> None:
    (file,) = (_folder(archive) / "events/workspace=ws_0").rglob("*.*")
    file.unlink()
    target = tmp_path / "out" / "a.jsonl"
    target.parent.mkdir()
    target.write_bytes(b"old")
    told = CliRunner().invoke(export_command, ["-a", str(_folder(archive)), "-o", str(target)])
    assert isinstance(told.exception, ObjectNotFoundError)
    assert target.read_bytes() == b"old"
    assert [path.name for path in target.parent.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("name", ["events/x.jsonl", "x.jsonl", "events/../_ledger/00000000000000000000.json"])
def test_no_result_is_written_into_the_archive(archive: Archive, name: str) -> None:
    place = _folder(archive)
    for command, arguments in ((export_command, []), (sql_command, ["SELECT 1"])):
        told = CliRunner().invoke(command, [*arguments, "-a", str(place), "-o", str(place / name)])
        assert isinstance(told.exception, ConfigError)
        assert "inside the archive" in told.exception.message
    assert open_archive(archive.store).ledger.snapshot.sequence == 1


def test_the_command_takes_times_as_people_write_them(archive: Archive) -> None:
    arguments = ["-a", str(_folder(archive)), "--since", "2026-03-27T12:00Z", "--until", "2026-03-28"]
    told = CliRunner().invoke(export_command, arguments)
    assert told.stdout_bytes == DAYS[3] + b"\n" + DAYS[2] + b"\n"


def test_sql_reads_its_statement_from_a_file_or_stdin(archive: Archive, tmp_path: Path) -> None:
    asked = tmp_path / "q.sql"
    asked.write_text("-- how many\nSELECT count(*) AS n FROM events;\n")
    located = ["-a", str(_folder(archive)), "--format", "csv"]
    for arguments, stdin in ((["--file", str(asked)], None), (["-"], asked.read_text())):
        told = CliRunner().invoke(sql_command, [*located, *arguments], input=stdin)
        assert told.stdout == "n\n5\n"
    both = CliRunner().invoke(sql_command, [*located, "SELECT 1", "--file", str(asked)])
    assert both.exit_code == 2


# --- times


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-03-26", "2026-03-26T00:00:00.000000Z"),
        ("2026-03-26T10:15:00Z", "2026-03-26T10:15:00.000000Z"),
        ("2026-03-26 10:15", "2026-03-26T10:15:00.000000Z"),
        ("2026-03-26T10:15:00.000001+02:00", "2026-03-26T08:15:00.000001Z"),
        ("7d", "2026-03-20T12:00:00.000000Z"),
        ("24h", "2026-03-26T12:00:00.000000Z"),
        ("30m", "2026-03-27T11:30:00.000000Z"),
        ("45 s", "2026-03-27T11:59:15.000000Z"),
        ("2w", "2026-03-13T12:00:00.000000Z"),
        ("now", "2026-03-27T12:00:00.000000Z"),
        ("0001-01-01", "0001-01-01T00:00:00.000000Z"),
    ],
)
def test_a_point_in_time_is_a_date_a_time_or_how_long_ago(text: str, instant: str) -> None:
    assert clock.to_text(parse_when(text, NOON)) == instant


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "7", "d", "-7d", "7y", "2026-13-01", "999999999w", "٧d", "0001-01-01T00:00+02:00"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no point in time"):
        parse_when(text, NOON)
