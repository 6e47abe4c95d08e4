"""Coming back from a stopped stream, as docs/receiving.md tells: the gap is filled, nothing is there twice.

The vendor's API is a stand-in: it gives pages, newest first, with a cursor that loses events of one
instant at the page's edge, and says at times that there were too many requests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from archiver.archive import open_archive
from archiver.config import Settings
from archiver.query.session import open_session
from archiver.runs import run_sources
from archiver.store.local import LocalStore
from tests.faults.check import check_archive
from tests.integration.proxies import DEPLOY
from tests.integration.test_deploy_systemd import deliver
from tests.services.receiving import ReceiverProcess

BEGIN = datetime(2026, 3, 26, 10, tzinfo=UTC)
TOKEN = "imk_for_the_tests"


def text(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def happened(number: int) -> datetime:
    """When event `number` was created: seven in each instant, so that pages end between equals."""
    return BEGIN + timedelta(seconds=number // 7)


def of_api(number: int) -> dict[str, Any]:
    return {
        "id": f"e{number}",
        "actor": {"id": "user_1", "name": "Clerk 1"},
        "action": "document.created",
        "created_at": text(happened(number)),
    }


def of_webhook(number: int) -> bytes:
    data = {"id": f"e{number}", "actor_id": "user_1", "actor_name": "Clerk 1", "action": "document.created"}
    return json.dumps(
        {
            "event_type": "event.created",
            "data": data,
            "workspace_id": "ws_1",
            "timestamp": text(happened(number)),
        }
    ).encode()


class Api(BaseHTTPRequestHandler):
    """The stand-in."""

    requests = 0

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        Api.requests += 1
        if Api.requests % 5 == 2:
            self.send_response(429)
            self.send_header("Retry-After", "0")
            self.end_headers()
            return
        assert self.headers["Authorization"] == f"Bearer {TOKEN}"
        asked = {name: value[0] for name, value in parse_qs(urlsplit(self.path).query).items()}
        found = [one for one in map(of_api, range(1000)) if asked["from"] <= one["created_at"] <= asked["to"]]
        found.sort(key=lambda one: one["created_at"], reverse=True)
        if "cursor" in asked:
            found = [one for one in found if one["created_at"] < asked["cursor"]]
        page = found[: int(asked["limit"])]
        more = len(found) > len(page)
        told = {
            "has_more": more,
            "next_cursor": page[-1]["created_at"] if more else None,
            "total": len(found),
        }
        content = json.dumps({"data": page, "pagination": told}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def api() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/api/v1/events"
        server.shutdown()
        thread.join()


def fetch(api: str, since: datetime, until: datetime, to: Path) -> None:
    command = [sys.executable, str(DEPLOY / "fetch_gap.py"), "--api", api, "--workspace", "ws_1"]
    with to.open("wb") as lines:
        subprocess.run(
            [*command, "--from", text(since), "--to", text(until)],
            stdout=lines,
            stderr=subprocess.PIPE,
            env={**os.environ, "IMMUTABLE_TOKEN": TOKEN},
            check=True,
            timeout=120,
        )


def test_a_gap_is_filled_from_the_api_and_nothing_is_there_twice(api: str, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    numbers = range(600)
    gap = range(200, 560)
    with ReceiverProcess(spool) as receiver:
        for number in numbers:
            if number not in gap and number % 10 == 0:
                assert deliver(receiver.port, of_webhook(number)) == 204
        assert receiver.terminate() == 0
    store = LocalStore(tmp_path / "archive")
    run_sources(store, Settings(archive=str(tmp_path / "archive"), spools=(str(spool),), workers=0))

    # From well before the gap to well behind it.
    fetch(api, happened(100), happened(599), spool / ".gap.jsonl")
    (spool / ".gap.jsonl").rename(spool / "gap.jsonl")
    settings = Settings(archive=str(tmp_path / "archive"), spools=(str(spool),), workers=0, settle_seconds=0)
    report = run_sources(store, settings)

    delivered = {number for number in numbers if number not in gap and number % 10 == 0}
    fetched = {number for number in range(1000) if happened(100) <= happened(number) <= happened(599)}
    assert report.counts.read == len(fetched)
    assert report.counts.archived == len(fetched - delivered)
    # What the webhook had brought is recognised; the API told one member more.
    assert report.counts.duplicates + report.counts.supplements == len(fetched & delivered)
    assert report.counts.quarantined == 0
    check_archive(store, events={f"e{number}" for number in fetched | delivered})
    with open_session(open_archive(store)).sql(
        "SELECT count(*) AS n FROM events WHERE event_time BETWEEN "
        f"TIMESTAMPTZ '{text(happened(200))}' AND TIMESTAMPTZ '{text(happened(559))}'"
    ) as answer:
        inside = [number for number in fetched if happened(200) <= happened(number) <= happened(559)]
        assert answer.arrow().to_pylist() == [{"n": len(inside)}]


def test_an_api_that_refuses_ends_the_fetch_with_an_error(tmp_path: Path) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            self.send_error(403)

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        with pytest.raises(subprocess.CalledProcessError) as refused:
            fetch(f"http://127.0.0.1:{server.server_address[1]}/", BEGIN, happened(700), tmp_path / "lines")
        server.shutdown()
        thread.join()
    assert b"403" in refused.value.stderr
    assert TOKEN.encode() not in refused.value.stderr
