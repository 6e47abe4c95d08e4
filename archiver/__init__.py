"""A batch archival and analytics toolkit for audit events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archiver.reader import open as open  # noqa: A004 - `archiver.open` is what it is called

__all__ = ["__version__", "open"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what reading needs when it is asked for: the command line starts without it."""
    if name != "open":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from archiver.reader import open  # noqa: A004, PLC0415

    return open
