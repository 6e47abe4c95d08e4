"""Deliveries as fast as a server takes them: signed beforehand, over connections that are kept.

    python -m tests.bench.load --port 8080 [--connections 32] [--deliveries 40000] [--bytes 600] [--first 0]

The secret is in ARCHIVER_WEBHOOK_SECRET. Each connection sends its next delivery when the
last one is answered. One thread over epoll and bare sockets: a client of an HTTP library
would take more of the machine than the server does, and be what is measured. Prints one JSON
document; an answer that is not 204 ends it with exit code 1.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import select
import socket
import time
from collections.abc import Iterator

from archiver.signature import HEADER, Secrets

PATH = "/webhook"


def requests(secrets: Secrets, first: int, count: int, size: int) -> list[bytes]:
    """Return signed requests with bodies of `size` bytes, no two alike."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    padding = b"x" * (size - 40)
    found = []
    for number in range(first, first + count):
        body = b'{"id":"%030d","p":"%b"}' % (number, padding[: size - 46])
        body += b" " * (size - len(body))
        found.append(
            f"{head}{HEADER}: {secrets.sign(body)}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
    return found


def drive(port: int, connections: int, wanted: list[bytes]) -> tuple[float, list[float]]:
    """Send all of `wanted`; return the seconds it took, and those of each from its sending to its answer.

    The first delivery of each connection is not measured: a server whose event loop is busy
    takes new connections one by one, and what is asked here is what it does with those it has.
    """
    poll = select.epoll()
    open_sockets: dict[int, socket.socket] = {}
    left: Iterator[bytes] = iter(wanted)
    for _, first in zip(range(connections), left, strict=False):
        one = socket.create_connection(("127.0.0.1", port))
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        open_sockets[one.fileno()] = one
        poll.register(one, select.EPOLLIN)
        one.sendall(first)
        _answered(one)
    sent_at = dict.fromkeys(open_sockets, 0.0)
    took: list[float] = []
    clock = time.perf_counter
    unanswered = 0
    started = clock()
    for handle, one in open_sockets.items():
        request = next(left, None)
        if request is None:
            break
        sent_at[handle] = clock()
        one.sendall(request)
        unanswered += 1
    while unanswered:
        for handle, _ in poll.poll():
            one = open_sockets[handle]
            _answered(one)
            now = clock()
            took.append(now - sent_at[handle])
            request = next(left, None)
            if request is None:
                unanswered -= 1
                continue
            sent_at[handle] = now
            one.sendall(request)
    seconds = clock() - started
    for one in open_sockets.values():
        one.close()
    return seconds, took


def _answered(one: socket.socket) -> None:
    """Read an answer. It is so short that it always comes in one piece."""
    answer = one.recv(4096)
    if not answer.startswith(b"HTTP/1.1 204 ") or not answer.endswith(b"\r\n\r\n"):
        raise SystemExit(f"answered {answer[:200]!r}")


def main() -> None:
    """Drive, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--deliveries", type=int, default=40_000)
    parser.add_argument("--bytes", type=int, default=600)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    secrets = Secrets([os.environ["ARCHIVER_WEBHOOK_SECRET"].encode()])
    wanted = requests(secrets, given.first, given.deliveries, given.bytes)
    gc.disable()
    before = time.process_time()
    seconds, took = drive(given.port, given.connections, wanted)
    took.sort()
    told = {
        "deliveries": len(took),
        "seconds": seconds,
        "per_second": len(took) / seconds,
        "p50_ms": took[len(took) // 2] * 1e3,
        "p99_ms": took[len(took) * 99 // 100] * 1e3,
        "max_ms": took[-1] * 1e3,
        "cpu_us": (time.process_time() - before) / len(took) * 1e6,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
