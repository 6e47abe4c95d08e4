"""The moto server, a test double of S3: quick, forgiving, and checks no signatures."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services import process


@contextmanager
def moto_server() -> Iterator[str]:
    """Start a moto server in a process of its own and give its endpoint."""
    (port,) = process.free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="archiver-moto-") as folder:
        output = Path(folder) / "moto.out"
        server = process.start(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], output=output
        )
        try:
            process.wait_for_http(f"{endpoint}/moto-api/data.json", server, output=output, seconds=60)
            yield endpoint
        finally:
            process.stop([server])
