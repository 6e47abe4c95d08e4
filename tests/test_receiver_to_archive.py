"""From a delivery over HTTP to the archive: what was signed is in it or in its quarantine, whole."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from archiver.archive import open_archive
from archiver.requeue import entries
from archiver.store.local import LocalStore
from tests.services.raw_http import ask, chunked, deliver, head
from tests.services.receiving import SIGNER, ReceiverProcess
from tests.support import alert, event, rows_of

CONFIG = """
[archive]
location = "archive"

[spool]
folders = ["spool"]

[streams.everybody]
secret_env = "ARCHIVER_WEBHOOK_SECRET"

[streams.tenant]
secret_env = "ARCHIVER_WEBHOOK_SECRET"
workspaces = ["ws_mine", "ws_also"]
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "archiver.toml").write_text(CONFIG)
    return tmp_path


def archived(place: Path) -> int:
    """Run `archiver run` as cron does, and return its exit code."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ARCHIVER_")}
    command = [sys.executable, "-m", "archiver", "run", "--config", str(place / "archiver.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=clean)
    assert done.returncode in (0, 3), done.stderr
    return done.returncode


def quarantined(place: Path) -> dict[bytes, str]:
    """Return body -> reason of all that is in quarantine."""
    archive = open_archive(LocalStore(place / "archive"))
    return {entry.rejection.body: entry.rejection.reason for entry in entries(archive)}


def test_what_no_reader_would_accept_is_204_and_in_quarantine_byte_for_byte(place: Path) -> None:
    large = b'{"data": "' + secrets.token_hex(1 << 10).encode() * (10 << 10) + b'"}'
    assert len(large) > 20 << 20
    rejected = {
        b"not JSON \0\xff\r\n": "not_utf8",
        b'{"event_type": "event.created"}': "invalid",
        b'{"a": 1, "a": 2}': "duplicate_member",
        large: "invalid",
        event("e4", timestamp="yesterday"): "invalid",
    }
    good = [event("e1"), event("e2", name="\u2028 line\nbreaks \U0001f600"), alert("a1")]
    with ReceiverProcess(place / "spool", words=("--config", str(place / "archiver.toml"))) as receiver:
        for body in (*good, *rejected):
            reply = ask(receiver.port, head(body, path="/everybody") + body)
            assert reply is not None
            assert reply.status == 204
        in_chunks = event("e3")
        told = head(None, "Transfer-Encoding: chunked", path="/everybody", signature=SIGNER.sign(in_chunks))
        assert ask(receiver.port, told + chunked(in_chunks[:9], in_chunks[9:])).status == 204  # type: ignore[union-attr]
        assert deliver(receiver.port, event("never")) == 404
        assert receiver.terminate() == 0
    assert archived(place) == 3
    assert quarantined(place) == rejected
    archive = open_archive(LocalStore(place / "archive"))
    rows = rows_of(archive) + rows_of(archive, "alerts")
    assert sorted(row["body"].encode() for row in rows) == sorted([*good, in_chunks])
    assert {row["source"] for row in rows} == {"spool/everybody"}
    assert all(row["received_at"] is not None for row in rows)


def test_a_stream_writes_only_into_its_workspaces_and_is_answered_204_for_others(place: Path) -> None:
    bodies = {
        name: event(f"e-{name}", workspace=name) for name in ("ws_mine", "ws_also", "ws_other", "WS_MINE")
    }
    with ReceiverProcess(place / "spool", words=("--config", str(place / "archiver.toml"))) as receiver:
        for body in bodies.values():
            reply = ask(receiver.port, head(body, path="/tenant") + body)
            assert reply is not None
            assert reply.status == 204
        body = event("e-all", workspace="ws_other")
        assert ask(receiver.port, head(body, path="/everybody") + body).status == 204  # type: ignore[union-attr]
        assert receiver.terminate() == 0
    assert archived(place) == 3
    assert quarantined(place) == dict.fromkeys((bodies["ws_other"], bodies["WS_MINE"]), "foreign_workspace")
    rows = rows_of(open_archive(LocalStore(place / "archive")))
    assert sorted((row["workspace_id"], row["source"]) for row in rows) == [
        ("ws_also", "spool/tenant"),
        ("ws_mine", "spool/tenant"),
        ("ws_other", "spool/everybody"),
    ]
