"""Compaction by its command, and behind a run."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from archiver.archive import Archive, open_archive
from archiver.cli.compact import compact_command
from archiver.cli.run import run_command
from archiver.store.local import LocalStore
from tests.compacting import archive, fill
from tests.support import event

__all__ = ["archive"]  # fixtures: pytest finds them here by name


def test_the_command_tells_what_it_did(archive: Archive, tmp_path: Path) -> None:
    fill(archive)
    location = ["--archive", str(tmp_path / "a")]
    dry = CliRunner().invoke(compact_command, [*location, "--dry-run"])
    assert "events  ws_1  2026-03-26  6 files" in dry.output
    assert "would become 1 file" in dry.output
    done = CliRunner().invoke(compact_command, [*location, "--json"])
    assert '"files_after": 1' in done.output
    again = CliRunner().invoke(compact_command, location)
    assert "nothing to compact" in again.output


def test_the_commands_filters_reach_the_policy(archive: Archive, tmp_path: Path) -> None:
    fill(archive)
    options = ["--archive", str(tmp_path / "a"), "--workspace", "ws_1", "--dataset", "events"]
    options += ["--since", "2026-03-26", "--until", "2026-03-27", "--min-age", "0s", "--target", "2MiB"]
    done = CliRunner().invoke(compact_command, options, env={"ARCHIVER_MIN_FILES": "6"})
    assert "6 files" in done.output, done.output
    strange = CliRunner().invoke(compact_command, ["--target", "much"])
    assert strange.exit_code == 2


def test_a_run_may_compact_behind_itself(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    options = ["--archive", str(tmp_path / "a"), "--spool", str(spool), "--settle", "0", "--workers", "0"]
    for number in range(4):
        (spool / "a.jsonl").write_bytes(event(str(number)))
        done = CliRunner().invoke(run_command, [*options, "--compact"])
        assert done.exit_code == 0, done.output
    assert "compacted 4 files into 1" in done.output
    archive = open_archive(LocalStore(tmp_path / "a"))
    assert len(archive.ledger.snapshot.files) == 1
    assert f"head {archive.ledger.snapshot.sequence}  {archive.ledger.snapshot.digest}" in done.output


def test_a_compaction_that_fails_behind_a_run_is_reported_and_the_run_stands(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    options = ["--archive", str(tmp_path / "a"), "--spool", str(spool), "--settle", "0", "--workers", "0"]
    for number in range(4):
        (spool / "a.jsonl").write_bytes(event(str(number), workspace="ws_2"))
        assert CliRunner().invoke(run_command, options).exit_code == 0
    archive = open_archive(LocalStore(tmp_path / "a"))
    (tmp_path / "a" / next(iter(archive.ledger.snapshot.files))).unlink()
    (spool / "a.jsonl").write_bytes(event("last"))
    done = CliRunner().invoke(run_command, [*options, "--compact"])
    assert done.exit_code == 1
    assert "problem: compaction:" in done.output
    assert archive.ledger.refresh().totals.archived == 5
    assert not list(spool.glob("*.jsonl"))
