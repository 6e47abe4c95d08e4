"""Senders under whom a receiver suffers faults, and the one check of what came of their deliveries."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from archiver.archive import open_archive
from archiver.config import Settings
from archiver.pipeline import RunReport
from archiver.query.session import open_session
from archiver.requeue import entries
from archiver.runs import run_sources
from archiver.segment import Frame, read_frames
from archiver.signature import HEADER
from archiver.store.local import LocalStore
from tests.faults.check import check_archive, spool_is_empty
from tests.faults.runs import finish, kill_after, start_run
from tests.services.process import wait_until
from tests.services.receiving import SIGNER
from tests.support import event

LONGEST_ANSWER_SECONDS: Final = 60
TORN: Final = frozenset({"torn_frame"})
# What a loss of power puts behind the durable bytes may look like a frame at first.
SPOILED: Final = TORN | {"damaged_frame"}


@dataclass
class Senders:
    """Threads that deliver over kept connections, each delivery with an id of its own.

    What was not acknowledged is, as a draw decides, sent again until it is, or given up.

    Attributes:
        urls: Where to, at this moment; a thread uses one as long as it can.
        sent: Ids of which at least a byte may have been sent.
        acknowledged: Ids whose 2xx was read to its end.
        statuses: How often each was answered.
        unanswered: Requests that were sent whole, over a connection that was then closed without an answer.
        retry_after: The headers that came with 503.
    """

    urls: Callable[[], Sequence[str]]
    threads: int = 8
    seed: int = 0
    prefix: str = "e"
    pause_seconds: float = 0.0
    large: float = 0.03
    sent: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    unanswered: list[str] = field(default_factory=list)
    retry_after: set[str | None] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._deliver, args=(number,), daemon=True)
            for number in range(self.threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let each thread finish the delivery that it is at."""
        self._end.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(LONGEST_ANSWER_SECONDS)

    def wait_for(self, count: int, status: int = 204) -> None:
        """Wait until so many more answers with this status came."""
        wanted = self.statuses[status] + count
        wait_until(f"{count} times {status}; {self.statuses}", lambda: self.statuses[status] >= wanted)

    def _deliver(self, number: int) -> None:
        draw = random.Random(self.seed * 1000 + number)
        connection: http.client.HTTPConnection | None = None
        event_id, made = "", 0
        while not self._end.is_set():
            urls = self.urls()
            url = urls[(number + draw.randrange(2)) % len(urls)] if connection is None else ""
            if not event_id:
                made += 1
                event_id = f"{self.prefix}{number}-{made}"
            body = _body(event_id, draw, large=self.large)
            whole = False
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(
                        url.partition("//")[2], timeout=LONGEST_ANSWER_SECONDS
                    )
                    connection.connect()
                self.sent.add(event_id)
                connection.request("POST", "/webhook", body, {HEADER: SIGNER.sign(body)})
                whole = True
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                if connection is not None:
                    connection.close()
                    connection = None
                if whole:
                    self.unanswered.append(event_id)
                time.sleep(draw.uniform(0.001, 0.02))
                event_id = event_id if draw.random() < 0.5 else ""
                continue
            self.statuses[answer.status] += 1
            if answer.will_close:
                connection.close()
                connection = None
            if 200 <= answer.status < 300:
                self.acknowledged.add(event_id)
                event_id = ""
            else:
                self.retry_after.add(answer.headers.get("Retry-After"))
                event_id = event_id if draw.random() < 0.5 else ""
                time.sleep(0.01)
            if self.pause_seconds:
                time.sleep(self.pause_seconds)
        if connection is not None:
            connection.close()


def _body(event_id: str, draw: random.Random, *, large: float) -> bytes:
    """The same for an id each time; now and then one that takes several writes and pages."""
    size = random.Random(event_id).choice((20_000, 200_000)) if draw.random() < large else 0
    note = random.Random(event_id).randbytes(size // 2).hex()
    return event(event_id, workspace=f"w{len(event_id) % 3}", **({"note": note} if note else {}))


def deliver_once(url: str, event_id: str, body: bytes | None = None) -> tuple[int, str | None]:
    """Send one delivery; return the status and its Retry-After."""
    connection = http.client.HTTPConnection(url.partition("//")[2], timeout=LONGEST_ANSWER_SECONDS)
    try:
        content = event(event_id) if body is None else body
        connection.request("POST", "/webhook", content, {HEADER: SIGNER.sign(content)})
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get("Retry-After")
    finally:
        connection.close()


def readiness(url: str) -> tuple[int, str]:
    """Ask /readyz; return status and text."""
    connection = http.client.HTTPConnection(url.partition("//")[2], timeout=LONGEST_ANSWER_SECONDS)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def archive_all(spool: Path, location: Path) -> RunReport:
    """Run the archive in this process."""
    settings = Settings(spools=(str(spool),), settle_seconds=0, workers=0, publish_delta=False)
    return run_sources(LocalStore(location), settings)


def check_received(
    spool: Path,
    location: Path,
    *,
    acknowledged: set[str],
    sent: set[str],
    reasons: frozenset[str] = TORN,
    whole: bool = True,
) -> Counter[str]:
    """Archive what the spool holds, and hold the archive against what senders were told.

    Everything acknowledged is there once, everything else that was sent at most once, nothing
    else is; only stretches of bytes, for one of `reasons`, are in quarantine; the spool is
    empty, and another run finds nothing.

    Args:
        whole: Whether to verify the archive, too.

    Returns:
        How many were quarantined for which reason.
    """
    report = archive_all(spool, location)
    assert report.problems == []
    assert spool_is_empty(spool), sorted(spool.iterdir())
    assert not list(spool.glob(".*.live"))
    assert archive_all(spool, location).commits == []
    archive = open_archive(LocalStore(location))
    with open_session(archive).sql("SELECT id, count(*) AS count FROM events GROUP BY id") as answer:
        rows = answer.arrow()
    found = dict(zip(rows["id"].to_pylist(), rows["count"].to_pylist(), strict=True))
    lost = acknowledged - found.keys()
    assert not lost, f"{len(lost)} of {len(acknowledged)} acknowledged are lost: {sorted(lost)[:5]}"
    assert not found.keys() - sent, "what nobody sent is there"
    twice = [one for one, count in found.items() if count != 1]
    assert not twice, f"twice: {twice[:5]}"
    quarantined: Counter[str] = Counter(entry.rejection.reason for entry in entries(archive))
    assert quarantined.keys() <= reasons, quarantined
    assert archive.ledger.snapshot.totals.adds_up()
    if whole:
        check_archive(LocalStore(location), events=set(found))
    return quarantined


def ids_in(folder: Path) -> set[str]:
    """Return the ids of all deliveries in a folder's sealed segments; torn tails are passed over."""
    found = set()
    for path in folder.glob("*.seg"):
        with path.open("rb") as file:
            found |= {
                json.loads(one.body)["data"]["id"] for one in read_frames(file) if isinstance(one, Frame)
            }
    return found


@contextmanager
def runs_beside(spool: Path, location: Path, killing: random.Random | None = None) -> Iterator[None]:
    """Archive again and again, in processes of their own, while the block lasts.

    Args:
        killing: Draws when each of them is killed, if it has not ended by then; None lets them end.
    """
    end = threading.Event()
    codes: list[int] = []
    said: list[str] = []

    def work() -> None:
        while not end.is_set():
            run = start_run(spool, str(location))
            if killing is not None and kill_after(run, killing.uniform(0.2, 2.0)):
                continue
            code, _, err = finish(run) if killing is None else (run.returncode, "", "")
            codes.append(code)
            said.append(err)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
    assert set(codes) <= {0, 3}, said
