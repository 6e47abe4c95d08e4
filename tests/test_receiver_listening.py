"""Where a receiver accepts connections, and what it says when it cannot."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from archiver.cli.main import main
from archiver.config import Settings
from archiver.errors import ConfigError
from archiver.receiver import serve
from archiver.streams import Receive, Stream
from tests.services.process import free_ports
from tests.services.raw_http import deliver, head
from tests.services.receiving import SECRET, SECRET_VARIABLE, ReceiverProcess, bodies_of

BODY = b'{"event_type": "event.created"}'


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one.getsockname()[1]


@pytest.mark.parametrize(
    ("listen", "hint"),
    [
        ("127.0.0.1:{taken}", "another receiver"),
        ("192.0.2.1:8080", "no address of this machine"),
        ("..:8080", "HOST:PORT"),
        (f"{'a' * 70}.example.com:8080", "HOST:PORT"),
        ("a\0b:8080", "HOST:PORT"),
    ],
)
def test_an_address_that_cannot_be_had_is_refused_with_what_to_do(
    tmp_path: Path, taken: int, listen: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, SECRET)
    settings = Settings(
        spools=(str(tmp_path),),
        streams={"webhook": Stream("/webhook", (SECRET_VARIABLE,))},
        receive=Receive(listen=listen.format(taken=taken)),
    )
    with pytest.raises(ConfigError, match="cannot listen on") as found:
        serve(settings)
    assert hint in (found.value.hint or "")


def test_a_port_below_1024_without_the_right_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", denied)
    monkeypatch.setenv(SECRET_VARIABLE, SECRET)
    settings = Settings(
        spools=(str(tmp_path),),
        streams={"webhook": Stream("/webhook", (SECRET_VARIABLE,))},
        receive=Receive(listen="127.0.0.1:443"),
    )
    with pytest.raises(ConfigError, match="Permission denied") as found:
        serve(settings)
    assert "below 1024" in (found.value.hint or "")


def test_a_receiver_that_says_it_listens_does_so_and_not_beside_another(tmp_path: Path) -> None:
    """Two may be bound to one port: the second must end, and not say that it listens."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    receiver = ReceiverProcess(tmp_path / "spool", address, ("--metrics-listen", address)).start(wait=False)
    try:
        assert receiver.process.wait(timeout=60) == 2
        assert f"cannot listen on {address}" in receiver.said.read_text()
    finally:
        receiver.kill()


def test_folders_that_this_user_may_not_search_are_an_error_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setenv(SECRET_VARIABLE, SECRET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["archiver", "receive", "--check", "--spool", "closed/spool"])
    for method, named in (("is_dir", "closed/spool"), ("is_file", "archiver.toml")):
        monkeypatch.setattr(Path, method, denied)
        with pytest.raises(SystemExit) as found:
            main()
        said = capsys.readouterr().err
        assert found.value.code == 2
        assert named in said
        assert "Permission denied" in said
        assert "hint: " in said


# A stand-in for systemd: gives the sockets from handle 3 on, as sd_listen_fds(3) tells.
PASSING = """
import os, sys
for number, handle in enumerate(sys.argv[2].split(",")):
    os.dup2(int(handle), 3 + number, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=sys.argv[1])
os.execv(sys.argv[3], sys.argv[3:])
"""


def receiver_with(sockets: list[socket.socket], spool: Path, count: str) -> ReceiverProcess:
    handles = [one.fileno() for one in sockets]
    return ReceiverProcess(
        spool,
        listen="192.0.2.1:1",  # would fail
        start_with=(sys.executable, "-c", PASSING, count, ",".join(map(str, handles))),
        pass_fds=tuple(handles),
    )


def test_all_sockets_that_are_passed_are_accepted_from_also_those_of_a_path(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
        socket.create_server(path, family=socket.AF_UNIX) as three,
        receiver_with([one, two, three], tmp_path / "spool", "3") as receiver,
    ):
        assert [deliver(held.getsockname()[1], BODY) for held in (one, two)] == [204, 204]
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(head(BODY) + BODY)
            assert client.recv(4096).startswith(b"HTTP/1.1 204 ")
        assert receiver.terminate() == 0
    assert bodies_of(tmp_path / "spool") == [BODY] * 3


@pytest.mark.parametrize("count", ["9", "two"])
def test_a_wrong_number_of_passed_sockets_is_an_error_and_no_traceback(tmp_path: Path, count: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        receiver = receiver_with([one], tmp_path / "spool", count).start(wait=False)
        try:
            assert receiver.process.wait(timeout=60) == 2
        finally:
            receiver.kill()
    said = receiver.said.read_text()
    assert "LISTEN_FDS" in said
    assert "Traceback" not in said
