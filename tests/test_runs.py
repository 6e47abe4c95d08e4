"""Which archive a spool belongs to, and what a run refuses to go on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from archiver import layout
from archiver.archive import open_archive
from archiver.config import Settings
from archiver.errors import ArchiveNotFoundError, ConfigError, IntegrityError
from archiver.runs import run_sources
from archiver.store.local import LocalStore
from tests.support import event, ids_of


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


def _settings(spool: Path) -> Settings:
    return Settings(spools=(str(spool),), settle_seconds=0, workers=0)


def _deliver(spool: Path, *ids: str) -> None:
    (spool / f"{ids[0]}.jsonl").write_bytes(b"\n".join(event(one) for one in ids))


def test_the_first_run_of_a_spool_creates_the_archive(tmp_path: Path, spool: Path) -> None:
    _deliver(spool, "a")
    report = run_sources(LocalStore(tmp_path / "archive"), _settings(spool))
    assert (report.counts.archived, report.head) == (1, 1)


def test_an_archive_that_is_gone_is_not_created_anew(tmp_path: Path, spool: Path) -> None:
    run_sources(LocalStore(tmp_path / "archive"), _settings(spool))
    _deliver(spool, "a")
    with pytest.raises(ArchiveNotFoundError) as raised:
        run_sources(LocalStore(tmp_path / "mistyped"), _settings(spool))
    assert raised.value.exit_code == 10
    assert str(tmp_path / "archive") in raised.value.message
    assert not (tmp_path / "mistyped").exists()
    assert (spool / "a.jsonl").exists()


def test_a_spool_of_another_archive_is_refused(tmp_path: Path, spool: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    run_sources(LocalStore(tmp_path / "archive"), _settings(spool))
    run_sources(LocalStore(tmp_path / "second"), _settings(other))
    with pytest.raises(ConfigError):
        run_sources(LocalStore(tmp_path / "second"), _settings(spool))


def test_a_ledger_that_lost_a_commit_this_spool_has_seen_is_refused(tmp_path: Path, spool: Path) -> None:
    store = LocalStore(tmp_path / "archive")
    _deliver(spool, "a")
    run_sources(store, _settings(spool))
    store.delete([layout.commit(1)])
    _deliver(spool, "b")
    with pytest.raises(IntegrityError) as raised:
        run_sources(store, _settings(spool))
    assert "truncated" in raised.value.message
    assert (spool / "b.jsonl").exists()


def test_a_ledger_that_was_rewritten_is_refused(tmp_path: Path, spool: Path) -> None:
    store = LocalStore(tmp_path / "archive")
    _deliver(spool, "a")
    run_sources(store, _settings(spool))
    content = store.get(layout.commit(1)).replace(b'"name":"a.jsonl"', b'"name":"z.jsonl"')
    store.put(layout.commit(1), content, mode="overwrite")
    with pytest.raises(IntegrityError) as raised:
        run_sources(store, _settings(spool))
    assert "forked" in raised.value.message


def test_several_spools_feed_one_archive_under_names_of_their_own(tmp_path: Path, spool: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    _deliver(spool, "a", "b")
    _deliver(other, "b", "c")
    settings = Settings(spools=(str(spool), str(other)), settle_seconds=0, workers=0)
    store = LocalStore(tmp_path / "archive")
    report = run_sources(store, settings)
    assert (report.counts.archived, report.counts.duplicates) == (3, 1)
    archive = open_archive(store)
    assert ids_of(archive) == ["a", "b", "c"]
    assert [archive.ledger.read(n).content.source["name"] for n in (1, 2)] == ["spool", "spool-2"]


def test_a_missing_spool_folder_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        run_sources(LocalStore(tmp_path / "archive"), _settings(tmp_path / "nowhere"))
    assert "nowhere" in raised.value.message


def test_collect_status_and_doctor_notice_a_ledger_that_was_cut(tmp_path: Path, spool: Path) -> None:
    from click.testing import CliRunner  # noqa: PLC0415

    from archiver.cli.main import cli  # noqa: PLC0415

    store = LocalStore(tmp_path / "archive")
    _deliver(spool, "a")
    run_sources(store, _settings(spool))
    digest = open_archive(store).ledger.snapshot.digest
    store.delete([layout.commit(1)])
    files = {info.key for info in store.list("events/")}
    place = ["--archive", str(tmp_path / "archive")]
    for guard in (["--spool", str(spool)], ["--expect", f"1:{digest}"]):
        result = CliRunner().invoke(cli, ["collect", *place, "--grace", "0s", "--force", *guard])
        assert isinstance(result.exception, IntegrityError)
    assert {info.key for info in store.list("events/")} == files
    status = CliRunner().invoke(cli, ["status", *place, "--spool", str(spool)])
    assert "WARNING" in status.output
    assert "truncated" in status.output
    doctor = CliRunner().invoke(cli, ["doctor", *place, "--spool", str(spool)])
    assert doctor.exit_code == 1
    assert "truncated" in doctor.output


def test_a_run_tells_what_it_left_in_the_spool(tmp_path: Path, spool: Path) -> None:
    _deliver(spool, "a")
    (spool / "notes.txt").write_text("x")
    settings = Settings(spools=(str(spool),), settle_seconds=60, workers=0)
    report = run_sources(LocalStore(tmp_path / "archive"), settings)
    assert (report.waiting, report.ignored, report.counts.read) == (1, 1, 0)


def test_an_archive_that_another_process_creates_at_this_moment_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It appears between our look for an archive and our look for remains of one."""
    from archiver import archive as module  # noqa: PLC0415

    store = LocalStore(tmp_path / "archive")
    original, created = module._refuse_remains, []

    def later(place: LocalStore) -> None:
        if not created:
            created.append(True)
            created.append(module.init_archive(LocalStore(tmp_path / "archive"), rounds=0).id)
        original(place)

    monkeypatch.setattr(module, "_refuse_remains", later)
    assert module.init_archive(store, exist_ok=True, rounds=0).id == created[1]
