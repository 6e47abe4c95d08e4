"""What a statement cannot want is not opened: every other data file is deleted, and it answers the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from archiver.archive import Archive, AsOf, open_archive
from archiver.query.catalog import Catalog
from archiver.query.narrowing import wanted_by
from archiver.query.pinned import Pinned
from archiver.query.session import open_session
from archiver.store.base import Store
from tests.conftest import S3Place
from tests.services.gateway import Gateway, _Passing
from tests.support import alert, archive_bodies, event, new_archive

DAYS = ("25", "26", "27")
HOURS = ("01", "13")
WORKSPACES = ("a", "b", "c d")


def fill(archive: Archive) -> Archive:
    """Archive events of three workspaces, three days and two hours, each hour in a file of its own."""
    for hour in HOURS:
        bodies = [
            event(
                f"{workspace}-{day}-{hour}",
                workspace=workspace,
                timestamp=f"2026-03-{day}T{hour}:00:00.000000Z",
                actor_id=f"actor-{workspace}",
                action="auth.login_failed",
            )
            for workspace in WORKSPACES
            for day in DAYS
        ]
        archive_bodies(
            archive, *bodies, *(alert(f"alert-{name}-{hour}", workspace=name) for name in WORKSPACES)
        )
    told = event(
        "a-26-13",
        workspace="a",
        timestamp="2026-03-27T02:00:00.000000Z",
        actor_id="actor-a",
        action="auth.login_failed",
        session_id="told later",
    )
    assert archive_bodies(archive, told).counts.supplements == 1
    archive.identities.update()
    return archive


FILES = 18 + 6 + 1  # of events, alerts, supplements
ASKED: list[tuple[str, Any, tuple[str, ...], int]] = [
    ("SELECT id FROM events WHERE workspace = 'b' ORDER BY 1", None, ("workspace=b/",), 6),
    (
        "SELECT id FROM events WHERE workspace_id = 'c d' AND dt = '2026-03-26'",
        None,
        ("c%20d/dt=2026-03-26/",),
        2,
    ),
    (
        "SELECT id, session_id FROM events WHERE dt = '2026-03-25' AND workspace <> 'a'",
        None,
        ("dt=2026-03-25/", "supplements/"),
        7,
    ),
    (
        "SELECT id FROM events WHERE event_time < '2026-03-25 12:00:00' ORDER BY 1",
        None,
        ("dt=2026-03-25/",),
        3,
    ),
    (
        "SELECT * FROM events WHERE id = 'a-26-13'",
        None,
        ("events/workspace=a/dt=2026-03-26/", "supplements/"),
        2,
    ),
    ("SELECT alert_id FROM alerts WHERE workspace = 'b'", None, ("alerts/workspace=b/",), 2),
    ("SELECT * FROM events WHERE id = 'nobody'", None, (), 0),
    (
        "WITH x AS (SELECT * FROM events WHERE dt = '2026-03-25'), "
        "y AS (SELECT * FROM events WHERE dt = '2026-03-26') "
        "SELECT x.id, y.id FROM x, y WHERE x.id < y.id",
        None,
        ("dt=2026-03-25/", "dt=2026-03-26/", "supplements/"),
        13,
    ),
    (
        "query: failed_logins",
        {"since": "2026-03-26", "until": "2026-03-26T20:00", "workspace": "a", "at_least": 1},
        ("workspace=a/dt=2026-03-26/", "supplements/"),
        3,
    ),
]


def statement_of(asked: str, parameters: Any) -> tuple[str, Any]:
    if not asked.startswith("query: "):
        return asked, parameters
    query = Catalog.of(()).get(asked.removeprefix("query: "))
    return query.statement, query.bind(parameters)


def answer(archive: Archive, asked: str, parameters: Any) -> list[dict[str, Any]]:
    with open_session(archive).sql(*statement_of(asked, parameters)) as found:
        return sorted(found.arrow().to_pylist(), key=repr)


def hide(store: Store, keep: Callable[[str], bool]) -> dict[str, bytes]:
    """Delete all data files that are not to be kept; return them."""
    keys = [one.key for top in ("events/", "alerts/", "supplements/") for one in store.list(top)]
    hidden = {key: store.get(key) for key in keys if "/workspace=" in key and not keep(key)}
    store.delete(list(hidden))
    return hidden


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def place(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(f"{request.param}_store")
    return found


@pytest.mark.parametrize("form", ["parquet", "jsonl.gz"])
def test_what_must_be_pruned_may_be_gone(place: Store, form: str) -> None:
    store = place
    archive = fill(new_archive(store, format=form))
    for asked, parameters, kept, count in ASKED:
        before = answer(archive, asked, parameters)
        assert before or not kept, asked
        wants = Pinned.of(archive).files_for(wanted_by(*statement_of(asked, parameters)))
        wanted = {file.key for files in wants.values() for file in files}
        assert all(any(part in key for part in kept) for key in wanted), (asked, wanted)
        hidden = hide(store, wanted.__contains__)
        assert (len(wanted), len(hidden)) == (count, FILES - count), asked
        assert answer(open_archive(store), asked, parameters) == before, asked
        for key, content in hidden.items():
            store.put(key, content)


# --- by id


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return fill(new_archive(tmp_path / "archive"))


def files_by_id(archive: Archive, event_id: str = "b-26-01", more: str = "") -> int:
    wanted = wanted_by(f"SELECT action FROM events WHERE id = $id {more}", {"id": event_id})
    return len(Pinned.of(archive).files_for(wanted)["events"])


def test_the_index_names_the_file_of_an_id(archive: Archive) -> None:
    assert files_by_id(archive) == 1
    assert files_by_id(archive, "nobody") == 0
    assert files_by_id(archive, more="AND dt = '2026-03-25'") == 0


def test_files_that_the_index_does_not_tell_of_may_hold_any_id(archive: Archive) -> None:
    archive_bodies(archive, event("new", workspace="b"), event("other", workspace="a"))
    found = answer(archive, "SELECT id FROM events WHERE id = 'new'", None)
    assert found == [{"id": "new"}]
    assert 1 <= files_by_id(archive, "new") <= 2


def _index_files(archive: Archive, tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "archive/_index").rglob("*") if path.is_file()]


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"rubbish")])
def test_without_an_index_or_with_a_damaged_one_an_id_is_found(
    archive: Archive, tmp_path: Path, damage: Callable[[Path], Any]
) -> None:
    files = _index_files(archive, tmp_path)
    assert files
    for path in files:
        damage(path)
    again = open_archive(archive.store)
    statement = "SELECT id, session_id FROM events WHERE id = 'a-26-13'"
    assert answer(again, statement, None) == [{"id": "a-26-13", "session_id": "told later"}]


def test_an_id_is_looked_up_in_the_snapshot_that_is_asked(archive: Archive) -> None:
    head = archive.ledger.snapshot.sequence
    archive_bodies(archive, event("later"))
    archive.identities.update()
    then = open_archive(archive.store, as_of=AsOf(sequence=head))
    assert answer(then, "SELECT id FROM events WHERE id = 'later'", None) == []
    assert answer(then, "SELECT id FROM events WHERE id = 'b-26-01'", None) == [{"id": "b-26-01"}]
    session = open_session(then)
    archive_bodies(archive, event("still later"))
    with session.sql("SELECT count(*) AS n FROM events WHERE id IN ('b-26-01', 'still later')") as found:
        assert found.arrow().to_pylist() == [{"n": 1}]


# --- requests


class _Noting(_Passing):
    server: Noting

    def _handle(self) -> None:
        self.server.paths.append((self.command, self.path))
        super()._handle()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815  (names of http.server)


class Noting(Gateway):
    """A stub that passes everything on and keeps what was asked."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.RequestHandlerClass = _Noting
        self.paths: list[tuple[str, str]] = []


@pytest.fixture
def noting(s3_bucket: S3Place) -> Iterator[Noting]:
    with Noting.before(s3_bucket.server.endpoint) as gateway:
        assert isinstance(gateway, Noting)
        yield gateway


def test_in_a_bucket_nothing_is_listed_and_no_other_object_is_asked_for(
    s3_bucket: S3Place, noting: Noting
) -> None:
    fill(new_archive(s3_bucket.store()))
    archive = open_archive(s3_bucket.store(endpoint_url=noting.endpoint))
    for asked, parts, most in (
        ("SELECT * FROM events WHERE id = 'b-26-01'", ("workspace%3Db/dt%3D2026-03-26",), 8),
        ("SELECT id FROM events WHERE actor_id = 'actor-b' AND dt = '2026-03-26'", ("dt%3D2026-03-26",), 24),
        ("SELECT action, count(*) FROM events WHERE dt LIKE '2026-03-%' GROUP BY 1", ("events/",), 72),
    ):
        noting.paths.clear()
        assert answer(archive, asked, None)
        of_data = [
            (method, path)
            for method, path in noting.paths
            if "/events/" in path.replace("%2F", "/") or "prefix=" in path
        ]
        assert not [path for _, path in of_data if "list-type" in path and "_index" not in path], asked
        data = [path.replace("=", "%3D") for _, path in of_data if "list-type" not in path]
        assert data
        assert all(any(part in path for part in parts) for path in data), (asked, data)
        assert len(data) <= most, (asked, len(data))
