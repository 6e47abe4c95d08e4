"""A batch archival and analytics toolkit for audit events."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archiver.query.result import Events as Events
    from archiver.query.result import Result as Result
    from archiver.reader import Reader as Reader
    from archiver.reader import open as open  # noqa: A004 - `archiver.open` is what it is called

__all__ = ["Events", "Reader", "Result", "__version__", "open"]
__version__ = "0.1.0"

_WHERE = {
    "Events": "archiver.query.result",
    "Reader": "archiver.reader",
    "Result": "archiver.query.result",
    "open": "archiver.reader",
}


def __getattr__(name: str) -> Any:
    """Import what reading needs when it is asked for: the command line starts without it."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
