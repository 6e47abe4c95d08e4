"""A real `archiver receive` in a process of its own, and what it has put into its spool."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import urllib3

from archiver.segment import Frame, read_frames
from archiver.signature import Secrets
from tests.services.process import ServiceError, stop

SECRET = "a secret for the tests, 32 bytes"
SECRET_VARIABLE = "ARCHIVER_WEBHOOK_SECRET"
SIGNER = Secrets([SECRET.encode()])


@dataclass
class ReceiverProcess:
    """A receiver under test.

    Attributes:
        listen: Where; port 0 is a free one, and `url` says which.
        words: More of its command line.
        start_with: Put before the command, to start it in another way.
        module: What is the command line: the real one, or one that a test has changed.
    """

    spool: Path
    listen: str = "127.0.0.1:0"
    words: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    start_with: tuple[str, ...] = ()
    module: str = "archiver"
    pass_fds: tuple[int, ...] = ()
    url: str = ""
    said: Path = field(init=False)
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self, *, wait: bool = True) -> Self:
        """Start it and, unless told otherwise, wait until it says that it accepts deliveries."""
        self.spool.mkdir(exist_ok=True)
        self.said = self.spool.with_name(f"{self.spool.name}.stderr")
        command = [sys.executable, "-m", self.module, "receive", "--spool", str(self.spool), "--json"]
        command += ["--listen", self.listen, *self.words]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ARCHIVER_")}
        with self.said.open("ab") as stderr:
            self.process = subprocess.Popen(
                [*self.start_with, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**clean, SECRET_VARIABLE: SECRET, **self.environment},
                pass_fds=self.pass_fds,
            )
        if wait:
            self.wait_until_it_listens()
        return self

    def wait_until_it_listens(self, seconds: float = 60) -> None:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            self.kill()
            raise ServiceError(f"the receiver did not listen: {self.said.read_text()[-2000:]}")
        self.url = json.loads(line)["url"]

    def wait_for_log(self, text: str, seconds: float = 60) -> None:
        """Wait until it has said `text` on stderr."""
        deadline = time.monotonic() + seconds
        while text not in (said := self.said.read_text()):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise ServiceError(f"the receiver did not say {text!r}: {said[-2000:]}")
            time.sleep(0.02)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def peak_bytes(self) -> int:
        """The most memory that the process has had resident so far (VmHWM)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])

    def metrics(self) -> dict[str, float]:
        """All samples of /metrics, by name and labels as they stand there."""
        content = urllib3.request("GET", f"{self.url}/metrics", timeout=30).data.decode()
        lines = (line.rpartition(" ") for line in content.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def terminate(self) -> int:
        """Ask it to end, as a service manager does, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=60)
        finally:
            self.kill()

    def kill(self) -> None:
        stop([self.process])
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()


def frames_of(spool: Path) -> list[Frame]:
    """Return the deliveries in the sealed segments, oldest first; damage is an error."""
    found: list[Frame] = []
    for path in sorted(spool.glob("*.seg")):
        with path.open("rb") as file:
            for one in read_frames(file):
                assert isinstance(one, Frame), one
                found.append(one)
    return found


def bodies_of(spool: Path) -> list[bytes]:
    return [frame.body for frame in frames_of(spool)]
