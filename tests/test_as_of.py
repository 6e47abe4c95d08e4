"""Every reader can be asked about an earlier snapshot, by commit or by time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from archiver import clock
from archiver.archive import AsOf, open_archive
from archiver.cli.main import cli
from archiver.errors import ConfigError
from archiver.ledger import commit as protocol
from archiver.ledger.entry import Content
from archiver.requeue import requeue
from archiver.store.local import LocalStore
from archiver.validate import Rules
from tests.support import MemoryBatch, MemorySource, archive_bodies, event, ids_of, new_archive

NOON = 1_774_526_400_000_000  # 2026-03-26T12:00:00Z


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    """Commits 1 to 3, an hour apart from noon on: two events, one more and rubbish, the rubbish mended."""
    from archiver.pipeline import run  # noqa: PLC0415

    store = LocalStore(tmp_path / "archive")
    now = [NOON]
    monkeypatch.setattr(clock, "now_us", lambda: now[0])
    archive = new_archive(store)

    schema = '{"properties":{"data":{"not":{"required":["late"]}}}}'
    strict = Rules(source="spool", schemas={"events": schema})
    for hour, bodies in enumerate([[event("a"), event("b")], [event("c"), event("d", late=1)]], 1):
        now[0] = NOON + hour * 3_600_000_000
        run(archive, MemorySource([MemoryBatch(bodies)]), rules=strict, workers=0)
    now[0] = NOON + 3 * 3_600_000_000
    requeue(open_archive(store), lambda _: Rules(source="spool"), lambda _: True)
    return store


def _ask(store: LocalStore, *arguments: str) -> Any:
    done = CliRunner().invoke(cli, [*arguments, "-a", store.location], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize(
    ("as_of", "ids"),
    [
        ("0", ""),
        ("1", "ab"),
        ("2", "abc"),
        ("3", "abcd"),
        ("2026-03-26T12:30:00Z", ""),
        ("2026-03-26T13:00:00Z", "ab"),
        ("2026-03-26T14:59:59.999999Z", "abc"),
        ("2026-03-27", "abcd"),
    ],
)
def test_sql_and_export_show_the_events_of_that_snapshot(store: LocalStore, as_of: str, ids: str) -> None:
    told = json.loads(_ask(store, "sql", "SELECT id FROM events ORDER BY id", "--json", "--as-of", as_of))
    assert [row["id"] for row in told["rows"]] == list(ids)
    bodies = _ask(store, "export", "--as-of", as_of).splitlines()
    assert sorted(json.loads(body)["data"]["id"] for body in bodies) == list(ids)


def test_status_and_the_quarantine_are_those_of_that_snapshot(store: LocalStore) -> None:
    def told(as_of: str) -> tuple[int, int, int]:
        found = json.loads(_ask(store, "status", "--json", "--as-of", as_of))
        listed = json.loads(_ask(store, "quarantine", "list", "--json", "--as-of", as_of))
        return found["head"], found["counts"]["archived"], sum(listed["counts"].values())

    assert [told(str(n)) for n in (1, 2, 3)] == [(1, 2, 0), (2, 3, 1), (3, 4, 0)]
    assert "late" in _ask(store, "quarantine", "show", "2:1", "--as-of", "2")


def test_explain_knows_what_was_known_then(store: LocalStore) -> None:
    def what(as_of: str) -> list[str]:
        found = json.loads(_ask(store, "explain", "d", "--json", "--as-of", as_of))
        return [place["what"] for place in found["places"]]

    assert what("2") == ["quarantined"]
    assert what("3") == ["archived"]


def test_the_commits_of_that_snapshot_end_there(store: LocalStore) -> None:
    statement = "SELECT max(sequence) AS last FROM commits"
    told = json.loads(_ask(store, "sql", statement, "--json", "--as-of", "1"))
    assert told["rows"] == [{"last": 1}]


@pytest.mark.parametrize(
    ("as_of", "message"),
    [
        ("4", "there is no commit 4: the newest is 3"),
        ("2026-03-26T11:59:59Z", "did not exist yet at 2026-03-26T11:59:59"),
        ("yesterday", "is no point in time"),
    ],
)
def test_a_snapshot_that_there_is_not_is_a_clear_error(store: LocalStore, as_of: str, message: str) -> None:
    done = CliRunner().invoke(cli, ["export", "-a", store.location, "--as-of", as_of])
    assert isinstance(done.exception, ConfigError)
    assert message in done.exception.message


def test_what_was_let_go_is_refused_by_name(store: LocalStore) -> None:
    content = Content(operation="fence", batch="0" * 32, attempt="0" * 28)
    assert isinstance(
        protocol.commit(open_archive(store).ledger, content, seen=3, oldest_readable=2), protocol.Committed
    )
    assert len(ids_of(open_archive(store, as_of=AsOf(sequence=2)))) == 3
    with pytest.raises(ConfigError, match="commit 1 is no longer readable: 2 is the oldest that is"):
        open_archive(store, as_of=AsOf(sequence=1))


def test_an_archive_opened_as_of_then_stays_there(store: LocalStore) -> None:
    then = open_archive(store, as_of=AsOf(sequence=1))
    archive_bodies(open_archive(store), event("later"))
    assert then.ledger.refresh().sequence == 1
    assert ids_of(then) == ["a", "b"]
