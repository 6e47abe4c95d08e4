"""The units of docs/deploy, and the protocols that they rely on: passed sockets, notifications, signals."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from archiver.signature import HEADER, Secrets
from tests.integration.proxies import DEPLOY, replaced
from tests.services.receiving import SIGNER, ReceiverProcess, bodies_of
from tests.support import event

UNITS = [
    "archiver-forward.service",
    "archiver-receive.service",
    "archiver-receive.socket",
    "archiver-run.service",
    "archiver-run.timer",
]
RESTARTS = 3
SENDERS = 4

# A stand-in for systemd: gives the socket as handle 3, as sd_listen_fds(3) tells, and becomes the command.
PASSING = """
import os, sys
os.dup2(int(sys.argv[1]), 3, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def held() -> Iterator[socket.socket]:
    """A listening socket that outlives the receivers, as that of a socket unit."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(4096)
        yield listening


def receiver_on(held: socket.socket, spool: Path, **environment: str) -> ReceiverProcess:
    # It would fail at the address that it is told, if it listened there.
    return ReceiverProcess(
        spool,
        listen="192.0.2.1:1",
        start_with=(sys.executable, "-c", PASSING, str(held.fileno())),
        pass_fds=(held.fileno(),),
        environment=environment,
    )


def deliver(port: int, body: bytes, signer: Secrets = SIGNER) -> int:
    """Deliver by a connection of its own, once."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", "/webhook", body, {HEADER: signer.sign(body)})
        answer = connection.getresponse()
        answer.read()
        return answer.status


def test_a_receiver_takes_the_socket_that_it_is_passed(held: socket.socket, tmp_path: Path) -> None:
    port = held.getsockname()[1]
    with receiver_on(held, tmp_path / "spool") as receiver:
        assert receiver.url == f"http://127.0.0.1:{port}"
        assert deliver(port, event("e1")) == 204
        assert receiver.terminate() == 0
    assert bodies_of(tmp_path / "spool") == [event("e1")]


def test_a_socket_that_was_passed_to_another_process_is_left_alone(tmp_path: Path) -> None:
    told = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    with ReceiverProcess(tmp_path / "spool", environment=told) as receiver:
        assert deliver(receiver.port, event("e1")) == 204


def test_a_restart_on_a_passed_socket_refuses_no_delivery(held: socket.socket, tmp_path: Path) -> None:
    """Four senders without a second try, each delivery by a connection of its own."""
    port = held.getsockname()[1]
    spool = tmp_path / "spool"
    ended = threading.Event()
    sent: list[list[tuple[bytes, int | str]]] = [[] for _ in range(SENDERS)]

    def send(number: int) -> None:
        while not ended.is_set():
            body = event(f"e{number}-{len(sent[number])}")
            try:
                sent[number].append((body, deliver(port, body)))
            except (OSError, http.client.HTTPException) as error:
                sent[number].append((body, repr(error)))

    senders = [threading.Thread(target=send, args=(number,)) for number in range(SENDERS)]
    receiver = receiver_on(held, spool).start()
    for one in senders:
        one.start()
    try:
        for _ in range(RESTARTS):
            before = [len(one) for one in sent]
            while any(len(one) < count + 20 for one, count in zip(sent, before, strict=True)):
                ended.wait(0.02)
            assert receiver.terminate() == 0
            receiver = receiver_on(held, spool).start()
    finally:
        ended.set()
        for one in senders:
            one.join(timeout=60)
        receiver.terminate()
    everything = [pair for one in sent for pair in one]
    assert [pair for pair in everything if pair[1] != 204] == []
    assert sorted(bodies_of(spool)) == sorted(body for body, _ in everything)


def test_systemd_is_told_when_deliveries_are_accepted_and_when_no_more(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(60)
        receiver = ReceiverProcess(
            tmp_path / "spool", environment={"NOTIFY_SOCKET": str(tmp_path / "notify")}
        )
        with receiver:
            assert heard.recv(4096) == b"READY=1"
            assert deliver(receiver.port, event("e1")) == 204
            assert receiver.terminate() == 0
            assert heard.recv(4096) == b"STOPPING=1"


def test_a_reload_reads_the_secrets_of_a_file_again(tmp_path: Path) -> None:
    old, new = b"the old secret of the stream", b"the new secret of the stream"
    file = tmp_path / "secret"
    file.write_bytes(old)
    with ReceiverProcess(tmp_path / "spool", words=("--secret-file", str(file))) as receiver:
        assert deliver(receiver.port, b"{}", Secrets([old])) == 204
        assert deliver(receiver.port, b"{}", Secrets([new])) == 401
        file.write_bytes(new + b"\n" + old + b"\n")
        receiver.process.send_signal(signal.SIGHUP)
        receiver.wait_for_log("read again")
        assert deliver(receiver.port, b"{}", Secrets([new])) == 204
        assert deliver(receiver.port, b"{}", Secrets([old])) == 204


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, of which only the program's path is replaced: systemd looks whether it is there."""
    folder = tmp_path / "units"
    folder.mkdir()
    program = tmp_path / "archiver"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in UNITS:
        text = (DEPLOY / name).read_text()
        if name.endswith(".service"):
            text = replaced(text, ("/opt/archiver/bin/archiver", str(program)))
        (folder / name).write_text(text)
    return folder


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze")
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=60, check=False)


def test_systemd_finds_nothing_wrong_in_the_units(units: Path) -> None:
    done = analyze("verify", "--man=no", *(str(units / name) for name in UNITS))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("name", "most"),
    [("archiver-receive.service", 20), ("archiver-run.service", 25), ("archiver-forward.service", 25)],
)
def test_the_services_expose_little_of_the_machine(units: Path, name: str, most: int) -> None:
    """systemd's own measure, in tenths: below 50 is "OK"; a service without any of this has 96."""
    done = analyze("security", "--offline=true", f"--threshold={most}", "--no-pager", str(units / name))
    assert done.returncode == 0, done.stdout
