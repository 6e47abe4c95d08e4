"""The HTTP client: bounded in bytes and in time, and silent about what is secret."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from archiver.errors import ConfigError
from archiver.http import Answer, Client, NoAnswer


@contextmanager
def answering(*pieces: bytes, pause: float = 0.0, repeats: int = 1) -> Iterator[str]:
    """Listen on a free port; send these bytes to whoever asks, whatever is asked, and hang up."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        try:
            asking, _ = listening.accept()
        except OSError:
            return
        with asking:
            asking.recv(65_536)
            try:
                for piece in [pieces[0], *pieces[1:] * repeats]:
                    asking.sendall(piece)
                    time.sleep(pause)
            except OSError:
                pass  # whoever asked has given up

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/in"
    finally:
        listening.close()
        thread.join(5)


def post(url: str, **parts: object) -> Answer | NoAnswer:
    return Client(url, **parts).post("", b"{}", {}, most_answer_bytes=100)  # type: ignore[arg-type]


def test_an_answer_is_read_to_its_bound_and_no_further() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000) as url:
        found = post(url)
    assert isinstance(found, Answer)
    assert (found.status, found.content, found.is_whole) == (200, b"x" * 100, False)


def test_an_answer_of_just_the_bound_is_whole() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100) as url:
        found = post(url)
    assert isinstance(found, Answer)
    assert (len(found.content), found.is_whole) == (100, True)


def test_an_answer_that_drips_does_not_hold_for_ever() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"
    began = time.monotonic()
    with answering(head, b"x", pause=0.02, repeats=90) as url:
        found = post(url, timeout_seconds=0.1)
    assert isinstance(found, Answer)
    assert not found.is_whole
    assert time.monotonic() - began < 1.5


def test_an_answer_that_is_cut_short_has_its_status() -> None:
    with answering(b"HTTP/1.1 202 Accepted\r\nContent-Length: 50\r\n\r\n{") as url:
        found = post(url)
    assert isinstance(found, Answer)
    assert (found.status, found.content, found.is_whole) == (202, b"{", False)


def test_what_is_no_http_is_no_answer() -> None:
    with answering(b"220 mail.example.com ESMTP\r\n") as url:
        found = post(url)
    assert isinstance(found, NoAnswer)
    assert found.silence == "reset"


def test_a_query_is_shown_nowhere_and_sent() -> None:
    client = Client("http://127.0.0.1:9/in?key=hidden")
    assert "hidden" not in client.shown
    with pytest.raises(ConfigError) as caught:
        Client("http://user:hidden@127.0.0.1/in")
    assert "hidden" not in str(caught.value)


def test_an_interim_answer_is_none_and_the_final_one_is_not_that_of_the_next_request() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    asked = threading.Event()

    def serve() -> None:
        asking, _ = listening.accept()
        with asking:
            asking.recv(65_536)
            asking.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            asked.wait(5)
            with contextlib.suppress(OSError):
                asking.recv(65_536)
                asking.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    client = Client(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout_seconds=0.2)
    first = client.post("", b"1", {})
    asked.set()
    second = client.post("", b"2", {})
    listening.close()
    thread.join(5)
    assert isinstance(first, NoAnswer)
    assert isinstance(second, NoAnswer)
    assert "103" in first.told


def test_a_large_body_may_take_longer_than_a_silence_may_last() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    body = b"x" * 20_000_000  # more than the system holds for both of them

    def serve() -> None:
        asking, _ = listening.accept()
        with asking:
            left = len(body)
            for pause in [0.04] * 10 + [0.0]:
                some = left - 1_000_000
                while left > (some if pause else 0) and (piece := asking.recv(1 << 20)):
                    left -= len(piece)
                time.sleep(pause)
            asking.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    began = time.perf_counter()
    found = Client(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout_seconds=0.15).post("", body, {})
    listening.close()
    thread.join(5)
    assert isinstance(found, Answer)
    assert time.perf_counter() - began > 0.2


def test_a_body_that_is_not_taken_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = Client(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout_seconds=0.1)
        found = client.post("", b"x" * 8_000_000, {})
    assert isinstance(found, NoAnswer)
    assert found.silence == "timeout"
