"""A stand-in that takes all that is posted to it, as fast as one thread can, and counts it.

    python -m tests.bench.taker --kind splunk

Answers what the kind's API answers when all is well. It looks at events no closer than it must to
count them: it is there so that the sender's own costs are measured. Prints its URL; `GET /` tells what
it took: events, requests, bytes on the wire.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import threading
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import BinaryIO

LARGEST_BODY_BYTES = 64 << 20


def _lines(body: bytes) -> int:
    return body.count(b"\n")


def _array(body: bytes) -> int:
    return len(json.loads(body))  # not orjson, which refuses lone surrogates


def _datadog(body: bytes) -> int:
    return body.count(b'{"ddsource":')  # in a text its quotes would be escaped


@lru_cache
def _bulk(count: int) -> bytes:
    items = ",".join(['{"create":{"status":201}}'] * count)
    return b'{"errors":false,"items":[%b]}' % items.encode()


# How many events a body has, the status, and the answer to so many.
KINDS: dict[str, tuple[Callable[[bytes], int], int, Callable[[int], bytes]]] = {
    "splunk": (_lines, 200, lambda _: b'{"text":"Success","code":0}'),
    "elastic": (lambda body: _lines(body) // 2, 200, _bulk),
    "datadog": (_datadog, 202, lambda _: b"{}"),
    "logstash": (_array, 200, lambda _: b"ok"),
    "http": (_lines, 200, lambda _: b""),
}


class Taken:
    """What was taken so far."""

    def __init__(self) -> None:
        self.events = self.requests = self.bytes = 0

    def told(self) -> bytes:
        return json.dumps({"events": self.events, "requests": self.requests, "bytes": self.bytes}).encode()


def serve(connection: socket.socket, kind: str, taken: Taken) -> None:
    """Answer the requests of one connection until it is closed."""
    counted, status, answer = KINDS[kind]
    with connection, connection.makefile("rb", 1 << 20) as reader:
        while True:
            method, length, is_gzip = _head(reader)
            if not method:
                return
            if method == "GET":
                connection.sendall(_reply(200, taken.told()))
                continue
            body = reader.read(length)
            if is_gzip:
                body = zlib.decompressobj(31).decompress(body, LARGEST_BODY_BYTES)
            count = counted(body)
            taken.events += count
            taken.requests += 1
            taken.bytes += length
            connection.sendall(_reply(status, answer(count)))


def _head(reader: BinaryIO) -> tuple[str, int, bool]:
    """Read a request's head; return its method, the length of its body, and whether that is compressed."""
    method = reader.readline().partition(b" ")[0].decode("latin-1")
    length, is_gzip = 0, False
    while line := reader.readline().strip().lower():
        name, _, value = line.partition(b":")
        if name == b"content-length":
            length = int(value)
        elif name == b"content-encoding":
            is_gzip = value.strip() == b"gzip"
    return method, length, is_gzip


def _reply(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def main() -> None:
    """Listen on a free port of 127.0.0.1 until standard input is closed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=list(KINDS), required=True)
    kind = parser.parse_args().kind
    taken = Taken()
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=serve, args=(connection, kind, taken), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
