"""A run and a forwarding under Debian's cron, by a real crontab, as the documents tell."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import archiver
from archiver.forward.folders import make_folders
from archiver.store.local import LocalStore
from tests.faults.check import check_archive, spool_is_empty
from tests.forward.spooling import bodies, seal
from tests.services.hook import HookStandIn
from tests.support import event

CRONTABS = Path("/etc/cron.d")
LONGEST_WAIT_SECONDS = 75.0


def _missing() -> str:
    """Say why no real cron can be used here; empty if it can."""
    if os.geteuid() != 0:
        return "a real cron needs root, to install a crontab; run the tests as root"
    if shutil.which("cron") is None or not CRONTABS.is_dir():
        return "no cron: run `make services`"
    return ""


@pytest.fixture
def cron() -> Iterator[Path]:
    """A crontab's path that a running cron looks at; the file and our cron are gone afterwards."""
    if reason := _missing():
        if os.environ.get("ARCHIVER_REQUIRE_CRON") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    crontab = CRONTABS / f"archiver-test-{secrets.token_hex(4)}"
    # Where another cron runs already, this one ends at once, and the other reads the crontab.
    daemon = subprocess.Popen(["cron", "-f"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield crontab
    finally:
        crontab.unlink(missing_ok=True)
        daemon.kill()
        daemon.wait(timeout=30)


def test_a_crontab_archives_and_forwards_what_the_spool_holds(cron: Path, tmp_path: Path) -> None:
    spool, location, log = tmp_path / "spool", tmp_path / "archive", tmp_path / "log"
    report = tmp_path / "report.json"
    spool.mkdir()
    make_folders([spool], "siem")
    (spool / "a.jsonl").write_bytes(b"\n".join(event(f"e{number}") for number in range(20)))
    seal(spool, bodies(20, 5))
    program = f"{sys.executable} -m archiver"
    run = f"{program} run --spool {spool} --archive {location} --settle 0"
    siem = HookStandIn()
    with siem.serving():
        config = tmp_path / "archiver.toml"
        config.write_text(
            f"""
            [spool]
            folders = ["{spool}"]
            [forward]
            state = "{tmp_path / "state"}"
            [destinations.siem]
            type = "http"
            url = "{siem.url}/in"
            """
        )
        draft = cron.with_name(f".{cron.name}")
        draft.write_text(
            f"PYTHONPATH={Path(archiver.__file__).parents[1]}\n"
            f"* * * * * root {run} --log-format json --report {report} >>{log} 2>&1\n"
            f"* * * * * root {program} forward --config {config} >>{log}.forward 2>&1\n"
        )
        draft.chmod(0o644)
        draft.rename(cron)  # cron reads no half of it
        deadline = time.monotonic() + LONGEST_WAIT_SECONDS
        while not (report.exists() and len(siem.bodies) == 5):
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        cron.unlink()

    said = log.read_text() if log.exists() else "cron started nothing"
    assert report.exists(), said
    assert json.loads(report.read_bytes())["archived"] == 25
    records = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert [one["commit"] for one in records if one["message"] == "committed"] == [1], said
    check_archive(LocalStore(location), events={f"e{number}" for number in range(25)})
    assert spool_is_empty(spool)
    assert siem.bodies == bodies(20, 5), (tmp_path / "log.forward").read_text()
