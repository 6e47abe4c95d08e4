"""The HTTP client: bounded in bytes and in time, and silent about what is secret."""

from __future__ import annotations

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
