"""The contract's part that needs no faults, against real servers where the environment names them.

ARCHIVER_TEST_SPLUNK_URL, …_TOKEN     likewise …_DATADOG_…, …_ELASTIC_…, …_LOGSTASH_…, …_HTTP_…
…_USER, …_PASSWORD                    instead of a token
…_CA_FILE, …_INDEX                    where they are needed
"""

from __future__ import annotations

import json
import os
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest

from archiver.forward.base import Outgoing
from archiver.forward.deadletters import DeadLetters
from archiver.forward.intakes import client_of, intake_of
from archiver.forward.sending import DestinationError, Policy, Sender, Tally
from archiver.forward.settings import Destination, Kind, read_destinations
from tests.forward.contract import AsDelivered, Given
from tests.support import event

_MEMBERS = {"token_env": "TOKEN", "password_env": "PASSWORD"}
_TEXTS = {"user": "USER", "ca_file": "CA_FILE", "index": "INDEX"}


def _destination(kind: str, **changes: Any) -> Destination:
    before = f"ARCHIVER_TEST_{kind.upper()}_"
    url = os.environ.get(f"{before}URL")
    if url is None:
        pytest.skip(f"no {before}URL: a real one is not installed here")
    members: dict[str, Any] = {"type": kind, "url": url}
    members |= {key: before + name for key, name in _MEMBERS.items() if before + name in os.environ}
    members |= {key: os.environ[before + name] for key, name in _TEXTS.items() if before + name in os.environ}
    return read_destinations("here", {"real": members | changes}, Path.cwd())["real"]


def _events(count: int) -> list[Outgoing]:
    run, now = secrets.token_hex(4), datetime.now(UTC)
    at_us = int(now.timestamp() * 1_000_000)
    made = []
    for number in range(count):
        name = f"test-{run}-{number}"
        text = f"<b>{number}</b>\n\u2028 \x7f \0 \U0001f600"
        body = event(name, workspace="ws_test", timestamp=now.isoformat(), actor_name=text)
        made.append(
            Outgoing(
                body, "events", name, "ws_test", "event.created", "document.created", at_us, at_us, number
            )
        )
    return made


def _sent(folder: Path, destination: Destination, events: list[Outgoing]) -> Tally:
    client, reader = client_of(destination), Given(events)
    letters = DeadLetters(folder / "deadletters")
    sender = Sender(
        "real", intake_of(destination), client, AsDelivered(), letters, policy=Policy(give_up_after=30.0)
    )
    try:
        assert sender.send(reader)
    finally:
        client.close()
    assert [letter.answer for letter in letters.letters()] == []
    return sender.tally


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_real_server_takes_all_events_plain_and_compressed_and_refuses_a_wrong_token(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = _destination(kind)
    for is_compressed in (False, True):
        events = _events(120)
        changed = _destination(kind, gzip=is_compressed, batch_events=50)
        assert _sent(tmp_path, changed, events).taken == 120
        if kind == "elastic":
            assert _sent(tmp_path, changed, events).already == 120
            assert _found(changed, events) == 120
    if destination.token is None and destination.password is None:
        return
    for name in ("TOKEN",) if destination.token is not None else ("PASSWORD",):
        monkeypatch.setenv(f"ARCHIVER_TEST_{kind.upper()}_{name}", "00000000-0000-0000-0000-000000000000")
    with pytest.raises(DestinationError) as error:
        _sent(tmp_path, _destination(kind), _events(1))
    assert error.value.hint


def _found(destination: Destination, events: list[Outgoing]) -> int:
    """How many documents Elasticsearch finds by the events' own ids."""
    client = client_of(destination)
    index = destination.options.get("index", "logs-audit-default")
    told = json.dumps({"query": {"terms": {"event.id": [one.id for one in events]}}}).encode()
    headers = {**intake_of(destination)._headers, "Content-Type": "application/json"}  # type: ignore[attr-defined]
    count, deadline = 0, time.monotonic() + 30
    while count < len(events) and time.monotonic() < deadline:
        client.post(f"/{index}/_refresh", b"", headers)
        answer = client.post(f"/{index}/_count", told, headers)
        count = json.loads(getattr(answer, "content", b"{}")).get("count", 0)
    client.close()
    return count
