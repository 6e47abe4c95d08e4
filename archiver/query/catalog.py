"""Where the named queries lie: beside the package when installed, in the checkout otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from archiver.errors import ConfigError

_INSTALLED: Final = Path(__file__).parent.parent / "queries"
_CHECKOUT: Final = Path(__file__).parent.parent.parent / "queries"


def queries_folder() -> Path:
    """Return the folder of `*.sql` files that came with the program."""
    return _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT


def query_path(name: str) -> Path:
    """Return the file of a named query.

    Raises:
        ConfigError: There is none of that name.
    """
    path = queries_folder() / f"{name}.sql"
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in queries_folder().glob("*.sql")))
        raise ConfigError(f"no query is called {name!r}", hint=f"there are: {known}")
    return path
