"""Progress, told without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Something that shows how far a long piece of work has come. Called from one thread at a time."""

    def start(self, what: str, total_bytes: int | None) -> None:
        """A piece of work begins; `total_bytes` is how much it will read, if that is known."""
        ...

    def advance(self, *, bytes_done: int = 0, rows: int = 0) -> None:
        """So much more was done."""
        ...

    def finish(self) -> None:
        """The piece of work is done."""
        ...


class Silent:
    """Tells nobody."""

    def start(self, what: str, total_bytes: int | None) -> None:
        pass

    def advance(self, *, bytes_done: int = 0, rows: int = 0) -> None:
        pass

    def finish(self) -> None:
        pass
