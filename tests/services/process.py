"""Starting servers that do not outlive the tests, whatever ends the tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


class ServiceError(Exception):
    """A test service did not come up; the message ends with what it wrote."""


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on at this moment."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def wait_until(what: str, holds: Callable[[], object], seconds: float = 60) -> None:
    """Wait until `holds()` is true; `what` is said if it never is."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.01)


def _bound(command: Sequence[str], *, user: str | None, signal_name: str = "KILL") -> list[str]:
    """Put `setpriv` before a command: the kernel ends it when the thread that started it ends.

    Without setpriv (it is of Linux) a server outlives tests that are killed.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        if user:
            raise ServiceError(f"setpriv (of util-linux) is not there to become {user}")
        return [*command]
    become = ["--reuid", user, "--regid", "nogroup", "--clear-groups"] if user else []
    return [setpriv, "--pdeathsig", signal_name, *become, "--", *command]


def start(
    command: Sequence[str],
    *,
    output: Path,
    user: str | None = None,
    environment: Mapping[str, str] | None = None,
    at_our_end: str = "KILL",
) -> subprocess.Popen[bytes]:
    """Start a server in the background; what it writes goes to `output`.

    Where the tests are killed, it gets the signal `at_our_end`.
    """
    with output.open("ab") as file:
        return subprocess.Popen(
            _bound(command, user=user, signal_name=at_our_end),
            cwd=output.parent,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )


def run(
    command: Sequence[str], *, folder: Path, user: str | None = None, stdin: str = "", seconds: float = 60
) -> str:
    """Run a command to its end and return its output."""
    try:
        done = subprocess.run(
            _bound(command, user=user),
            cwd=folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ServiceError(f"{command[0]} took more than {seconds:.0f} s") from None
    if done.returncode:
        raise ServiceError(f"{' '.join(command[:3])} … ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Kill servers whose state nobody needs, by their process ids, and wait for them."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
    for process in processes:
        process.wait(timeout=30)


def wait_for_http(url: str, process: subprocess.Popen[bytes], *, output: Path, seconds: float) -> None:
    """Wait until something answers at `url`, whatever it says."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                said = output.read_text(errors="replace")[-2000:]
                raise ServiceError(f"no answer at {url}: {said}") from None
            time.sleep(0.05)


def wait_for_port(port: int, process: subprocess.Popen[bytes], *, output: Path, seconds: float) -> None:
    """Wait until somebody accepts connections at a port of loopback."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                said = output.read_text(errors="replace")[-2000:]
                raise ServiceError(f"nobody listens at port {port}: {said}") from None
            time.sleep(0.02)
