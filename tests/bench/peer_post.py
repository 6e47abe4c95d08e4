"""The floor that the sender is measured against: segments to HTTP, and nothing more.

    python -m tests.bench.peer_post FOLDER URL

Reads the same sealed segments and posts the same bytes as `archiver forward` does to a destination
of type `http` with `batch = "lines"`: as delivered, one a line, a thousand in a request, one request
after the other. It checks neither frames nor events, knows no ids, forwards what is invalid too, remembers
nothing, and repeats nothing. Prints what it took as JSON.
"""

from __future__ import annotations

import json
import resource
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import urllib3

BATCH_EVENTS = 1_000
_HEADER = struct.Struct("<IHHqI")
_MAGIC_BYTES = 8
_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")


def bodies(path: Path) -> Iterator[bytes]:
    """Yield the bodies of a segment."""
    content = path.read_bytes()
    place = _MAGIC_BYTES
    while place < len(content):
        length, stream, *_ = _HEADER.unpack_from(content, place)
        place += _HEADER.size + stream
        yield content[place : place + length]
        place += length


def post(folder: Path, url: str) -> int:
    """Post all segments of a folder; return how many bodies that were."""
    pool = urllib3.connection_from_url(url)
    sent = 0
    batch: list[bytes] = []
    headers = {"Content-Type": "application/x-ndjson"}
    for path in sorted(folder.glob("*.seg")):
        for body in bodies(path):
            batch.append(body.translate(_LINE_BREAKS))
            if len(batch) == BATCH_EVENTS:
                sent += _posted(pool, batch, headers)
    return sent + _posted(pool, batch, headers)


def _posted(pool: urllib3.HTTPConnectionPool, batch: list[bytes], headers: dict[str, str]) -> int:
    count = len(batch)
    if count:
        answer = pool.urlopen("POST", "/", body=b"\n".join(batch) + b"\n", headers=headers, retries=False)
        if answer.status != 200:
            raise SystemExit(f"answered {answer.status}")
        batch.clear()
    return count


def main() -> None:
    folder, url = sys.argv[1:]
    began, cpu = time.perf_counter(), time.process_time()
    sent = post(Path(folder), url)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"taken": sent, "seconds": seconds, "cpu_seconds": cpu_seconds, "peak_bytes": peak}))


if __name__ == "__main__":
    main()
