"""Which module may import which: dependencies point one way, and big parts stay behind their door."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import archiver

ROOT = Path(archiver.__file__).parent
# From the ground up. A module may import from its own layer and from those above it in this list.
LAYERS = [
    {"", "errors", "clock", "times"},
    {
        "layout",
        "durable",
        "block",
        "columns",
        "progress",
        "segment",
        "spans",
        "signature",
        "database.fetched",
        "http",
        "secret",
    },
    {
        "event",
        "jsontext",
        "judge",
        "refusal",
        "typed",
        "validate",
        "rows",
        "database.bodies",
        "compare",
        "partition",
        "store",
    },
    {
        "streams",
        "forward.settings",
        "database",
        "config",
        "datafile",
        "ledger",
        "sources",
        "live",
        "activity",
        "quarantine",
        "judging",
    },
    {"index", "identity", "write"},
    {"archive", "attempt", "reached"},
    {
        "pipeline",
        "delta",
        "copy",
        "lock",
        "retain",
        "holds",
        "compact",
        "maintain",
        "collect",
        "confirm",
        "requeue",
        "explain",
        "upgrade",
        "status",
        "silence",
        "exposition",
        "ping",
        "verify",
        "query",
        "purge",
        "inspect_source",
        "reconcile",
        "export",
        "generate",
        "synthetic",
        "send",
    },
    {"runs", "forward"},
    {"doctor", "receiver", "reader"},
    {"cli", "__main__"},
]
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}
BEHIND = {
    "adbc_driver_manager": ("database/",),
    "adbc_driver_postgresql": ("database/",),
    "adbc_driver_sqlite": ("database/",),
    "click": ("cli/",),
    "boto3": ("store/s3",),
    "botocore": ("store/s3",),
    "duckdb": ("query/", "doctor/"),
    "jsonschema": ("judge.py",),
    "urllib3": ("http.py", "ping.py"),
    "uvicorn": ("receiver/",),
    "uvloop": ("receiver/",),
    "starlette": ("receiver/",),
    "prometheus_client": ("receiver/",),
    "rich": ("cli/", "query/drawing.py", "query/output.py"),
}


def _modules() -> Iterator[Path]:
    yield from sorted(ROOT.rglob("*.py"))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "archiver":
                yield from (f"archiver.{alias.name}" for alias in node.names)
            else:
                yield node.module


def _part(name: str) -> str:
    """Return the words behind `archiver.` that have a layer; of a version or the like, nothing."""
    first, _, rest = name.partition(".")[2].partition(".")
    both = f"{first}.{rest.partition('.')[0]}"
    if both in LAYER_OF:
        return both
    return "" if first.startswith("__version") else first


@pytest.mark.parametrize("path", list(_modules()), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_below(path: Path) -> None:
    inside = path.relative_to(ROOT)
    if inside.name == "__init__.py" and len(inside.parts) == 1:
        return  # the door of the package: it opens what is asked for
    own = LAYER_OF[_part(".".join(("archiver", *inside.with_suffix("").parts)).removesuffix(".__init__"))]
    above = [
        name for name in _imports(path) if name.split(".")[0] == "archiver" and LAYER_OF[_part(name)] > own
    ]
    assert above == []


@pytest.mark.parametrize("library", BEHIND)
def test_a_library_stays_behind_its_door(library: str) -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in _modules()
        if any(name.split(".")[0] == library for name in _imports(path))
    }
    assert users
    assert [user for user in users if not user.startswith(BEHIND[library])] == []
