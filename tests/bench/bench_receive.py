"""How fast deliveries are made durable, beside the same server that only answers. Prints Markdown tables.

    python -m tests.bench.bench_receive [--rounds 7] [--deliveries 40000] [--million 1000000] [--quick]
                                        [--only compare,memory,large,many]

In each round, one after the other over 32 kept connections: the peer, the receiver, the peer
again, and a loop that writes one frame and fsyncs it, in the same folder. The peer is the
receiver's own server, with its guard and routing, whose door reads the body and answers 204.
The tables have medians over the rounds. Compare ratios, not times. The server, the client and
the disk share the machine's cores: with two of them the client has most of the second one.

memory: a million deliveries to one process. large: 32 bodies of 20 MiB at once. many: 1,000
connections. `--quick` is a check in under a minute.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archiver.segment import frame_head
from archiver.signature import HEADER, Secrets
from tests.bench.bench import HERE, say
from tests.bench.load import PATH

CONNECTIONS = 32
BODY_BYTES = 600
MIB = 1 << 20
SECRET = secrets.token_hex(16)
PARTS = ("compare", "memory", "large", "many")


@dataclass(slots=True)
class Server:
    """A server in a process of its own."""

    process: subprocess.Popen[bytes]
    port: int

    def memory(self, name: str = "VmRSS") -> int:
        """Return resident memory in bytes; with `VmHWM` its peak."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
        raise LookupError(name)

    def cpu_seconds(self) -> float:
        times = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")

    def histogram(self, name: str) -> list[tuple[float, int]]:
        """Return upper bound and cumulated count of each bucket that its /metrics page tells."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as page:
            lines = page.read().decode().splitlines()
        found = [line for line in lines if line.startswith(f"{name}_bucket{{")]
        bounds = [float(line.partition('le="')[2].partition('"')[0]) for line in found]
        counts = [int(float(line.split()[-1])) for line in found]
        return list(zip(bounds, counts, strict=True))


@contextmanager
def running(command: list[str]) -> Iterator[Server]:
    """Start a server that prints its URL, and end it as a service manager does."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, cwd=HERE.parents[1], env=_environment()
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline().decode()
        if not line:
            raise SystemExit(f"{command[0]} did not start")
        yield Server(process, int(line.rpartition(":")[2]))
    finally:
        process.terminate()
        process.wait(timeout=60)
        process.stdout.close()


def receiver(spool: Path) -> list[str]:
    """Return the command line of a receiver, less `python -m`."""
    where = ["--spool", str(spool), "--listen", "127.0.0.1:0"]
    return ["archiver", "receive", "--quiet", *where, "--max-connections", "2048"]


def _environment() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ARCHIVER_")}
    return {**clean, "ARCHIVER_WEBHOOK_SECRET": SECRET}


def load(port: int, deliveries: int, *, connections: int = CONNECTIONS, first: int = 0) -> dict[str, float]:
    """Deliver from a process of its own; every answer must be 204."""
    command = [sys.executable, "-m", "tests.bench.load", "--port", str(port), "--bytes", str(BODY_BYTES)]
    command += ["--deliveries", str(deliveries), "--connections", str(connections), "--first", str(first)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, cwd=HERE.parents[1], env=_environment(), check=True, text=True
    )
    told: dict[str, float] = json.loads(done.stdout)
    return told


def write_and_fsync(folder: Path, times: int) -> list[float]:
    """Append one frame and fsync it, `times` times; return the seconds of each."""
    body = b"x" * BODY_BYTES
    frame = frame_head(body, 0, "webhook") + body
    path = folder / ".loop"
    took = []
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(times):
            started = time.perf_counter()
            os.write(handle, frame)
            os.fsync(handle)
            took.append(time.perf_counter() - started)
    finally:
        os.close(handle)
        path.unlink()
    return took


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


@dataclass(slots=True)
class Seen:
    """What was measured of one server, a number a round."""

    per_second: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    client_us: list[float] = field(default_factory=list)

    def drive(self, server: Server, deliveries: int, number: int) -> None:
        before = server.cpu_seconds()
        told = load(server.port, deliveries, first=number * deliveries)
        self.cpu_us.append((server.cpu_seconds() - before) / deliveries * 1e6)
        self.per_second.append(told["per_second"])
        self.p50_ms.append(told["p50_ms"])
        self.p99_ms.append(told["p99_ms"])
        self.client_us.append(told["cpu_us"])

    def row(self, name: str) -> str:
        median = statistics.median
        low, high = min(self.per_second), max(self.per_second)
        return (
            f"| {name} | {median(self.per_second):,.0f} ({low:,.0f}–{high:,.0f}) | {median(self.p50_ms):.2f} "
            f"| {median(self.p99_ms):.2f} | {median(self.cpu_us):.0f} | {median(self.client_us):.0f} |"
        )


def compare(folder: Path, rounds: int, deliveries: int) -> None:
    """The bars: requests a second, and the slowest hundredth."""
    peer_seen, seen = Seen(), Seen()
    loop: list[float] = []
    ratios, allowed = [], []
    with running(["tests.bench.bench_receive", "--step", "peer"]) as peer, running(receiver(folder)) as ours:
        load(peer.port, deliveries // 4)
        load(ours.port, deliveries // 4)
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            peer_seen.drive(peer, deliveries // 2, number)
            seen.drive(ours, deliveries, number)
            peer_seen.drive(peer, deliveries // 2, number)
            took = write_and_fsync(folder, 2_000)
            loop += took
            ratios.append(seen.per_second[-1] / statistics.mean(peer_seen.per_second[-2:]))
            bound = statistics.mean(peer_seen.p99_ms[-2:]) + 5 * quantile(took, 0.99) * 1e3
            allowed.append(seen.p99_ms[-1] / bound)
        groups = ours.histogram("archiver_deliveries_per_fsync")
        syncs = ours.histogram("archiver_fsync_seconds")
    print("| server | requests/s (range) | p50 ms | p99 ms | CPU µs a request | CPU µs of the client |")
    print("|---|--:|--:|--:|--:|--:|")
    print(peer_seen.row("peer: 204 after reading the body"))
    print(seen.row("receiver: 204 when durable"))
    print()
    # The bars themselves: medians against medians; single rounds are at the mercy of the machine.
    speed = statistics.median(seen.per_second) / statistics.median(peer_seen.per_second)
    bound = statistics.median(peer_seen.p99_ms) + 5 * quantile(loop, 0.99) * 1e3
    slowest = statistics.median(seen.p99_ms) / bound
    print("| bar | wanted | reached | single rounds |")
    print("|---|--:|--:|--:|")
    print(f"| requests/s, × peer | ≥ 0.5 | {speed:.2f} | {_told(ratios)} |")
    print(f"| p99, × (peer's p99 + 5 × write and fsync's) | ≤ 1 | {slowest:.2f} | {_told(allowed)} |")
    print()
    print("| fsync | p50 ms | p90 ms | p99 ms | max ms |")
    print("|---|--:|--:|--:|--:|")
    parts = " | ".join(f"{quantile(loop, part) * 1e3:.3f}" for part in (0.5, 0.9, 0.99, 1.0))
    print(f"| write and fsync of one frame, alone, {len(loop):,} times | {parts} |")
    bounds = " | ".join(f"≤ {_bound(syncs, part) * 1e3:g}" for part in (0.5, 0.9, 0.99, 1.0))
    print(f"| fsync of a group under load, {syncs[-1][1]:,} times | {bounds} |")
    print()
    print(f"Deliveries that shared an fsync: half of the groups at most {_bound(groups, 0.5):g}.\n")


def _told(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def _bound(buckets: list[tuple[float, int]], part: float) -> float:
    return next(bound for bound, count in buckets if count >= buckets[-1][1] * part)


def memory(folder: Path, rounds: int, deliveries: int) -> None:
    """Does it grow? Resident memory over many deliveries to one process."""
    seen: list[int] = []
    step = 50_000
    with running(receiver(folder)) as ours:
        for first in range(0, deliveries, step):
            seen.append(_delivered(ours, min(step, deliveries - first), first))
            for path in folder.glob("*.seg"):  # as `run` does, so that the disk does not fill
                path.unlink()
        peak = ours.memory("VmHWM")
    tenth = max(len(seen) // 10, 1)
    print("| deliveries to one process | MiB after the first tenth | after the last | peak |")
    print("|--:|--:|--:|--:|")
    print(f"| {deliveries:,} | {seen[tenth - 1] / MIB:.1f} | {seen[-1] / MIB:.1f} | {peak / MIB:.1f} |\n")


def _delivered(server: Server, count: int, first: int) -> int:
    say(f"deliveries from {first:,}")
    load(server.port, count, first=first)
    return server.memory()


def large(folder: Path, rounds: int, deliveries: int) -> None:
    """What 32 large bodies at once take."""
    body = secrets.token_bytes(MIB) * 20
    signature = Secrets([SECRET.encode()]).sign(body)
    statuses: list[int] = []

    def deliver(port: int) -> None:
        # As a sender does: a refusal is tried again after the time that it names.
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            connection.request("POST", PATH, body, {HEADER: signature})
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
            connection.close()
            if answer.status != 503:
                return
            time.sleep(float(answer.headers["Retry-After"]))

    with running(receiver(folder)) as ours:
        before = ours.memory()
        started = time.perf_counter()
        threads = [threading.Thread(target=deliver, args=(ours.port,)) for _ in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - started
        load(ours.port, 2_000)
        after, peak = ours.memory(), ours.memory("VmHWM")
    refused = statuses.count(503)
    if len(statuses) - refused != statuses.count(204):
        raise SystemExit(f"answered {statuses}")
    print("| bodies of 20 MiB at once | seconds | answered 503 first | MiB before | peak | after |")
    print("|--:|--:|--:|--:|--:|--:|")
    sizes = " | ".join(f"{size / MIB:.0f}" for size in (before, peak, after))
    print(f"| {CONNECTIONS} | {seconds:.1f} | {refused} | {sizes} |\n")


def many(folder: Path, rounds: int, deliveries: int) -> None:
    """What a thousand connections take, and whether they slow it down."""
    print("| connections | requests/s | p50 ms | p99 ms | MiB |")
    print("|--:|--:|--:|--:|--:|")
    with running(receiver(folder)) as ours:
        load(ours.port, deliveries // 4)
        for connections in (32, 1_000):
            told = load(ours.port, deliveries, connections=connections)
            numbers = f"{told['per_second']:,.0f} | {told['p50_ms']:.1f} | {told['p99_ms']:.1f}"
            print(f"| {connections:,} | {numbers} | {ours.memory('VmHWM') / MIB:.0f} |")
    print()


def serve_the_peer() -> None:
    """Answer 204 after reading the body; ends with a signal."""
    import signal  # noqa: PLC0415  (only the peer's process has the server in it)

    import uvloop  # noqa: PLC0415
    from starlette.applications import Starlette  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    from archiver.receiver.guard import Guard, Limits  # noqa: PLC0415
    from archiver.receiver.server import _Server, _sockets, settle_interpreter  # noqa: PLC0415

    class Answering:
        """The door, less all that is measured."""

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            while (await receive()).get("more_body"):
                pass
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    sockets = _sockets("127.0.0.1:0")
    server = _Server(
        Starlette(routes=[Route(PATH, Answering(), methods=["POST"])]), Guard(Limits()), None, sockets
    )

    def stop(*_: object) -> None:
        server.should_exit = True

    signal.signal(signal.SIGTERM, stop)
    print(f"listening on http://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)
    sockets[0].listen()  # who reads that line may connect at once
    settle_interpreter()
    uvloop.run(server.serve())


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--deliveries", type=int, default=40_000)
    parser.add_argument("--million", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--folder", help="on the disk that is to be measured")
    parser.add_argument("--step", choices=["peer"])
    given = parser.parse_args()
    if given.step == "peer":
        serve_the_peer()
        return
    if given.quick:
        given.rounds, given.deliveries, given.million = 3, 10_000, 100_000
    parts: dict[str, Callable[[Path, int, int], None]] = {
        "compare": compare,
        "memory": memory,
        "large": large,
        "many": many,
    }
    print(f"{given.rounds} rounds; load at the start {os.getloadavg()[0]:.1f}.\n")
    for name in given.only.split(","):
        with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
            folder = Path(scratch) / "spool"
            folder.mkdir()
            parts[name](folder, given.rounds, given.million if name == "memory" else given.deliveries)


if __name__ == "__main__":
    main()
