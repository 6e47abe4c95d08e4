"""HTTP by hand: bytes as a test wants them, over one TCP connection, and what comes back."""

from __future__ import annotations

import http.client
import socket
import ssl
from dataclasses import dataclass
from typing import Self

from archiver.signature import HEADER
from tests.services.receiving import SIGNER


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    content: bytes


class Wire:
    """One connection to a port of loopback."""

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None, seconds: float = 30) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")

    def send(self, content: bytes) -> Self:
        """Send what the other side takes; whether it closed tells the reply."""
        try:
            self.socket.sendall(content)
        except (ConnectionError, ssl.SSLError):
            pass
        return self

    def reply(self, method: str = "POST") -> Reply | None:
        """Return the next answer; None if the connection was closed without one."""
        found = http.client.HTTPResponse(self.socket, method=method)
        try:
            found.begin()
            return Reply(found.status, found.headers, found.read())
        except (http.client.RemoteDisconnected, ConnectionError, ssl.SSLError):
            return None
        finally:
            found.close()

    def is_closed(self, seconds: float = 30) -> bool:
        """Wait until the other side closes; what it still sends is thrown away."""
        self.socket.settimeout(seconds)
        try:
            while self.socket.recv(65_536):
                pass
        except TimeoutError:
            return False
        except (ConnectionError, ssl.SSLError):
            pass
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def head(
    body: bytes | None = None,
    *lines: str,
    path: str = "/webhook",
    method: str = "POST",
    version: str = "1.1",
    signature: str | None = "",
) -> bytes:
    """Return a request's head; with a body the head states its length and its good signature.

    Args:
        signature: Instead of the good one; None for no such header.
    """
    told = [f"{method} {path} HTTP/{version}", "Host: receiver.example.com"]
    if body is not None:
        told.append(f"Content-Length: {len(body)}")
    if signature is not None:
        told.append(f"{HEADER}: {signature or SIGNER.sign(body or b'')}")
    return "\r\n".join([*told, *lines, "", ""]).encode("latin-1")


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))


def signed(body: bytes) -> str:
    """The line that signs a body of which the head does not state the length."""
    return f"{HEADER}: {SIGNER.sign(body)}"


def ask(port: int, content: bytes, method: str = "POST") -> Reply | None:
    """Send one request over a connection of its own."""
    with Wire(port) as wire:
        return wire.send(content).reply(method)


def deliver(port: int, body: bytes, *, tls: ssl.SSLContext | None = None, seconds: float = 30) -> int | None:
    """Deliver a body as the sender would, over a connection of its own; None if it was closed."""
    with Wire(port, tls=tls, seconds=seconds) as wire:
        reply = wire.send(head(body) + body).reply()
        return reply and reply.status
