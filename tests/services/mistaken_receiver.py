"""The command line, with a receiver that makes a mistake when it stores: an error that quotes the body."""

from __future__ import annotations

import sys
from typing import Any

from archiver.cli.main import main
from archiver.receiver.writer import SpoolWriter


async def mistaken(self: SpoolWriter, body: bytes, stream: str) -> None:
    raise UnicodeDecodeError("utf-8", bytes(body), 0, 1, f"in {body!r}")


if __name__ == "__main__":
    store: Any = mistaken
    SpoolWriter.store = store  # type: ignore[method-assign]
    sys.argv[0] = "archiver"
    main()
