"""Versions of what this runs on."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib import metadata

from archiver import __version__
from archiver.store.health import Check

OLDEST_PYTHON = (3, 11)
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?>=([0-9.]+)", re.ASCII)


def check_versions(
    requirements: Sequence[str] | None = None, python: tuple[int, ...] = tuple(sys.version_info[:3])
) -> Check:
    """Hold installed versions against those that this package asks for.

    Args:
        requirements: As in the package's metadata; None for its own.
    """
    if requirements is None:
        try:
            requirements = metadata.requires("archiver") or ()
        except metadata.PackageNotFoundError:
            return Check("versions", "skipped", "run from a source tree: not installed as a package")
    old = []
    if python < OLDEST_PYTHON:
        old.append(f"Python {_text(python)} (3.11 or later)")
    told = [f"archiver {__version__}", f"Python {_text(python)}"]
    for requirement in requirements:
        found = _REQUIREMENT.match(requirement)
        if found is None or "extra ==" in requirement:
            continue
        name, least = found.groups()
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            old.append(f"{name} is absent ({least} or later)")
            continue
        told.append(f"{name} {version}")
        if _numbers(version) < _numbers(least):
            old.append(f"{name} {version} ({least} or later)")
    if old:
        fix = "install anew into an environment of its own: pip install . in the program's folder"
        return Check("versions", "failed", ", ".join(old), fix)
    return Check("versions", "ok", ", ".join(told))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", version)[:3])


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
