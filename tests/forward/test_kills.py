"""SIGKILL of a real `archiver forward --follow` under load: nothing is lost, and little is repeated."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from archiver.forward.folders import folder_of
from tests.forward.spooling import bodies, seal
from tests.services.bulk import BulkStandIn
from tests.services.hook import HookStandIn

BATCH = 50
SEGMENTS, EVENTS_A_SEGMENT = 40, 75


def _settings(folder: Path, elastic: str, hook: str) -> Path:
    path = folder / "archiver.toml"
    path.write_text(
        f"""
        [archive]
        location = "{folder / "archive"}"
        [spool]
        folders = ["{folder / "spool"}"]
        [destinations.elastic]
        type = "elastic"
        url = "{elastic}"
        index = "logs-audit-default"
        batch_events = {BATCH}
        [destinations.hook]
        type = "http"
        url = "{hook}/in"
        batch = "lines"
        batch_events = {BATCH}
        """
    )
    return path


def _start(config: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "archiver", "forward", *options, "--config", str(config), "--quiet"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "NO_COLOR": "1"}
    )


def _slow(seconds: float, standin: BulkStandIn | HookStandIn) -> None:
    """Let each request take a while, so that a kill finds one on its way."""
    real = standin.answer

    def answer(asked):  # type: ignore[no-untyped-def]
        reply = real(asked)
        time.sleep(seconds)
        return reply

    standin.answer = answer  # type: ignore[method-assign]


@pytest.mark.timeout(120)
def test_each_event_arrives_however_often_it_is_killed(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    draw = random.Random(seed)
    spool = tmp_path / "spool"
    spool.mkdir()
    elastic, hook = BulkStandIn(keeps_requests=False), HookStandIn(keeps_requests=False)
    for standin in (elastic, hook):
        _slow(0.005, standin)
    with elastic.serving(), hook.serving():
        config = _settings(tmp_path, elastic.url, hook.url)
        first = _start(config)
        told, _ = first.communicate(timeout=60)
        assert first.returncode == 0, told

        def deliver() -> None:
            for number in range(SEGMENTS):
                seal(spool, bodies(number * EVENTS_A_SEGMENT, EVENTS_A_SEGMENT))
                time.sleep(0.04)

        loading = threading.Thread(target=deliver)
        loading.start()
        killed = 0
        for _ in range(4):
            before = elastic.requests + hook.requests
            process = _start(config, "--follow")
            deadline = time.monotonic() + 30
            while elastic.requests + hook.requests < before + 4 and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(draw.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += process.returncode == -signal.SIGKILL
        loading.join()
        last = _start(config, "--json")
        out, _ = last.communicate(timeout=60)
        assert last.returncode == 0, out
    wanted = {f"e{number}" for number in range(SEGMENTS * EVENTS_A_SEGMENT)}
    found = Counter(json.loads(body)["data"]["id"] for body in hook.bodies)
    assert found.keys() == wanted, f"seed {seed}"
    # Only what was on its way when it was killed.
    assert found.total() - len(wanted) <= killed * BATCH, f"seed {seed}"
    assert killed == 4
    assert len(elastic.documents()) == len(wanted)
    assert len(elastic.arrived) == len(wanted)
    for name in ("elastic", "hook"):
        assert list(folder_of(spool, name).iterdir()) == []
