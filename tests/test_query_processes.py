"""A connection is made ready on a thread: nobody waits for it for ever, in this process or a child."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import duckdb
import pytest

import archiver
from archiver.errors import QueryError
from archiver.query import session as sessions
from tests.support import archive_bodies, event, new_archive


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("processes") / "archive"
    archive_bodies(new_archive(folder), event("e1"), event("e2"))
    return str(folder)


def count(reader: archiver.Reader) -> int:
    return int(reader.sql("SELECT count(*) AS n FROM events").arrow().to_pylist()[0]["n"])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("opened", ["before", "after"])
def test_a_forked_process_asks_as_its_parent_does(place: str, opened: str) -> None:
    reader = archiver.open(place)  # with a connection made ready, which the child must not take
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        found = -1
        try:
            found = count(reader if opened == "before" else archiver.open(place))
        finally:
            os._exit(0 if found == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert count(reader) == 2


def test_without_a_thread_to_be_had_opening_works_and_asking_says_so(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    sessions._SPARE.take().close()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        reader = archiver.open(place)
        with pytest.raises(QueryError, match="thread"):
            count(reader)
    assert count(reader) == 2


def test_a_connection_that_could_not_be_made_ready_is_made_again(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> duckdb.DuckDBPyConnection:
        raise duckdb.IOException("no memory")

    sessions._SPARE.take().close()
    with monkeypatch.context() as patch:
        patch.setattr(sessions, "_connect", refused)
        reader = archiver.open(place)
        with pytest.raises(QueryError, match="no memory"):
            count(reader)
        sessions.prepare()
    assert count(reader) == 2


def test_what_was_kept_ready_holds_up_no_process_at_its_end(place: str, tmp_path: Path) -> None:
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    told = tmp_path / "told"
    script = f"import archiver; archiver.open({place!r}); open({str(told)!r}, 'w').close()"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert told.exists()
