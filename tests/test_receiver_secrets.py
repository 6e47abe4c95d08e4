"""Rotation of secrets in a running receiver, refusals for want of room, and what it never writes anywhere."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from archiver.signature import Secrets
from tests.services.certificates import self_signed
from tests.services.raw_http import Wire, ask, deliver, head
from tests.services.receiving import SECRET, SIGNER, ReceiverProcess, bodies_of

OLD, NEW = (f"{word} secret, which nobody may see anywhere" for word in ("the old", "the new"))


def answered(receiver: ReceiverProcess, secret: str, path: str = "/webhook") -> int:
    body = secrets.token_bytes(16)
    reply = ask(receiver.port, head(body, path=path, signature=Secrets([secret.encode()]).sign(body)) + body)
    assert reply is not None
    return reply.status


def reload(receiver: ReceiverProcess, told: str) -> None:
    """Send SIGHUP and wait until the receiver says what came of it."""
    before = receiver.said.read_text().count(told)
    receiver.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 30
    while receiver.said.read_text().count(told) == before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_several_secrets_are_good_at_once(tmp_path: Path) -> None:
    words = ("--secret-env", "A", "--secret-env", "B")
    with ReceiverProcess(
        tmp_path / "spool", words=words, environment={"A": OLD, "B": f"{NEW}\n{NEW}2"}
    ) as receiver:
        assert [answered(receiver, one) for one in (OLD, NEW, NEW + "2", SECRET)] == [204, 204, 204, 401]


def test_sighup_reads_the_secrets_again_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(OLD)
    with ReceiverProcess(tmp_path / "spool", words=("--secret-file", str(file), "--verbose")) as receiver:
        assert [answered(receiver, one) for one in (OLD, NEW)] == [204, 401]
        file.write_text(f"{OLD}\n{NEW}\n")
        reload(receiver, "read again")
        assert [answered(receiver, one) for one in (OLD, NEW)] == [204, 204]
        file.write_text(NEW)
        reload(receiver, "secrets and certificate read again")
        assert [answered(receiver, one) for one in (OLD, NEW)] == [401, 204]
        for broken in ("", "too short", f"{OLD}\nshort"):
            file.write_text(broken)
            reload(receiver, "nothing was read again")
            assert [answered(receiver, one) for one in (OLD, NEW)] == [401, 204]
        file.unlink()
        reload(receiver, "nothing was read again")
        assert [answered(receiver, one) for one in (OLD, NEW)] == [401, 204]
        assert receiver.terminate() == 0
        said = receiver.said.read_text()
        assert OLD not in said
        assert NEW not in said


def test_the_documented_rotation_also_works_on_a_file_whose_last_line_has_no_end(tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "docs" / "receiving.md").read_text()
    told = re.search(r"`(printf .* NEW >>)(/\S+)`", text)
    assert told is not None
    file = tmp_path / "secret"
    file.write_text(OLD)
    with ReceiverProcess(tmp_path / "spool", words=("--secret-file", str(file))) as receiver:
        command = told[1].replace("NEW", shlex.quote(NEW)) + shlex.quote(str(file))
        subprocess.run(["sh", "-c", command], check=True)
        reload(receiver, "secrets in force: webhook 2")
        assert [answered(receiver, one) for one in (OLD, NEW)] == [204, 204]


def test_a_connection_that_was_open_before_a_rotation_is_judged_by_the_new_secrets(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    with ReceiverProcess(tmp_path / "spool", words=("--secret-file", str(file))) as receiver:
        with Wire(receiver.port) as wire:
            before = wire.send(head(b"x") + b"x").reply()
            file.write_text(NEW)
            reload(receiver, "read again")
            after = wire.send(head(b"x") + b"x").reply()
        assert before is not None
        assert after is not None
        assert (before.status, after.status) == (204, 401)


def test_sighup_reads_the_certificate_again_and_keeps_the_old_one_if_the_new_one_is_broken(
    tmp_path: Path,
) -> None:
    import ssl  # noqa: PLC0415

    first, second = self_signed(tmp_path, "localhost"), self_signed(tmp_path, "second.example.com")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(first.chain.read_bytes())
    key.write_bytes(first.key.read_bytes())
    words = ("--tls-cert", str(chain), "--tls-key", str(key))

    def serves(certificate: Path, port: int) -> bool:
        trusting = ssl.create_default_context(cafile=str(certificate))
        trusting.check_hostname = False
        try:
            return deliver(port, b"x", tls=trusting) == 204
        except ssl.SSLCertVerificationError:
            return False

    with ReceiverProcess(tmp_path / "spool", words=words) as receiver:
        assert receiver.url.startswith("https://")
        assert serves(first.chain, receiver.port)
        chain.write_bytes(second.chain.read_bytes())  # its key is not there yet
        reload(receiver, "nothing was read again")
        assert serves(first.chain, receiver.port)
        key.write_bytes(second.key.read_bytes())
        reload(receiver, "read again")
        assert serves(second.chain, receiver.port)
        assert not serves(first.chain, receiver.port)


def test_each_stream_has_its_own_secrets_path_and_spool(tmp_path: Path) -> None:
    config = tmp_path / "archiver.toml"
    (tmp_path / "own").mkdir()
    config.write_text(
        '[streams.one]\nsecret_env = "ONE"\n'
        '[streams.two]\npath = "/in/2"\nsecret_env = "TWO"\nspool = "own"\n'
    )
    with ReceiverProcess(
        tmp_path / "spool", words=("--config", str(config)), environment={"ONE": OLD, "TWO": NEW}
    ) as receiver:
        asked = [(secret, path) for path in ("/one", "/in/2", "/two") for secret in (OLD, NEW)]
        assert [answered(receiver, *one) for one in asked] == [204, 401, 401, 204, 404, 404]
        metrics = receiver.metrics()
        assert metrics['archiver_deliveries_total{outcome="stored",stream="one"}'] == 1
        assert metrics['archiver_deliveries_total{outcome="stored",stream="two"}'] == 1
        assert receiver.terminate() == 0
    assert len(bodies_of(tmp_path / "spool")) == len(bodies_of(tmp_path / "own")) == 1


def test_with_too_little_room_on_the_disk_deliveries_are_503_with_retry_after(tmp_path: Path) -> None:
    words = ("--min-free-bytes", str(1 << 60))
    with ReceiverProcess(tmp_path / "spool", words=words) as receiver:
        for _ in range(3):
            reply = ask(receiver.port, head(b"{}") + b"{}")
            assert reply is not None
            assert reply.status == 503
            assert int(reply.headers["Retry-After"]) > 0
        # Who cannot sign learns nothing of it.
        assert answered(receiver, NEW) == 401
        ready = ask(receiver.port, head(path="/readyz", method="GET"))
        alive = ask(receiver.port, head(path="/healthz", method="GET"))
        assert ready is not None
        assert alive is not None
        assert (ready.status, alive.status) == (503, 200)
        assert b"nearly full" in ready.content
        assert receiver.terminate() == 0
    assert bodies_of(tmp_path / "spool") == []


def test_a_mistake_of_ours_is_a_503_and_logged_without_the_body(tmp_path: Path) -> None:
    body = b"a body that nobody may see in a log"
    with ReceiverProcess(tmp_path / "spool", module="tests.services.mistaken_receiver") as receiver:
        reply = ask(receiver.port, head(body) + body)
        assert reply is not None
        assert reply.status == 503
        assert reply.headers["Retry-After"]
        receiver.wait_for_log("a delivery of webhook failed: UnicodeDecodeError at ")
        assert deliver(receiver.port, b"another") == 503
        assert receiver.process.poll() is None
        said = receiver.said.read_text()
    assert "body" not in said.replace("_body", "")
    assert "Traceback" not in said


def wrote(tmp_path: Path, *words: str, **environment: str) -> tuple[int, str]:
    """Run a receiver that cannot start; return its exit code and all that it wrote."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ARCHIVER_")}
    done = subprocess.run(
        [sys.executable, "-m", "archiver", "receive", "--verbose", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
        env={
            **clean,
            "ARCHIVER_WEBHOOK_SECRET": SECRET,
            "SHORT": "hush",
            **environment,
            "PYTHONPATH": str(Path.cwd()),
        },
    )
    return done.returncode, done.stdout + done.stderr


def test_whatever_is_configured_wrongly_no_secret_is_written(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "file").write_text(SECRET + "\nhush")
    good = ("--spool", "spool", "--listen", "127.0.0.1:0")
    with ReceiverProcess(tmp_path / "other") as running:
        for words in (
            (*good, "--secret-env", "SHORT"),
            (*good, "--secret-env", "ARCHIVER_WEBHOOK_SECRET", "--secret-file", "file"),
            (*good, "--secret-file", "gone", "--log-format", "json"),
            (*good, "--tls-cert", "file", "--tls-key", "file"),
            (*good, "--path", "none", "--json"),
            ("--spool", "spool", "--listen", f"127.0.0.1:{running.port}"),
            ("--spool", "spool", "--listen", "192.0.2.1:1"),
            ("--spool", "gone"),
        ):
            code, output = wrote(tmp_path, *words)
            assert code == 2, output
            assert SECRET not in output
            assert "hush" not in output
            assert "Traceback" not in output


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_running_receiver_writes_no_secret_and_no_signature(tmp_path: Path, form: str) -> None:
    words = ("--verbose", "--log-format", form)
    with ReceiverProcess(tmp_path / "spool", words=words) as receiver:
        metrics = ask(receiver.port, head(path="/metrics", method="GET"))
        statuses = [answered(receiver, SECRET), answered(receiver, NEW)]
        assert statuses == [204, 401]
        assert deliver(receiver.port, SECRET.encode()[:10]) == 204
        reload(receiver, "read again")
        assert SECRET not in Path(f"/proc/{receiver.process.pid}/cmdline").read_text()
        assert receiver.process.stdout is not None
        receiver.process.send_signal(signal.SIGTERM)
        assert receiver.process.wait(60) == 0
        wrote = receiver.process.stdout.read().decode() + receiver.said.read_text()
    assert metrics is not None
    wrote += metrics.content.decode()
    wrote += "".join(path.read_text() for path in (tmp_path / "spool/.streams").iterdir())
    assert SECRET not in wrote
    assert SIGNER.sign(b"")[:6] not in wrote
