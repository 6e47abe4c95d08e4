"""Streams against the vendor's plan, which allows some for each workspace; and which of them could go.

Two streams that cover the same workspaces bring each event twice: the archive keeps one and counts
the other as duplicate. One stream and `[destinations]` feed as many receivers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeVar

from archiver.config import PLANS, Settings
from archiver.store.health import Check
from archiver.streams import Stream

_T = TypeVar("_T")

ALL: Final = "all workspaces"
_SHOWN: Final = 5


def check_plan(settings: Settings) -> Iterator[Check]:
    """Count the configured streams of each workspace against the plan; nothing without a plan or streams."""
    if settings.plan is None or not settings.streams:
        return
    allowed = PLANS[settings.plan]
    counted = streams_of_workspaces(settings.streams)
    above = {name: found for name, found in counted.items() if allowed is not None and len(found) > allowed}
    most = max(map(len, counted.values()))
    spare = unnecessary(settings.streams)
    name = f"plan {settings.plan}"
    limit = "as many streams as you like" if allowed is None else f"{allowed} a workspace"
    could_go = _could_go(settings.streams, spare)
    if above:
        shown = "; ".join(f"{one}: {len(found)} ({', '.join(found)})" for one, found in _first(above))
        more = f"; and {len(above) - _SHOWN} workspaces more" if len(above) > _SHOWN else ""
        fix = could_go or "none covers what another one does: take a larger plan, or give a stream up"
        yield Check(name, "failed", f"it allows {limit}, and configured are, of {shown}{more}", fix)
    else:
        told = f"{most} of {len(settings.streams)} configured streams at most are of one workspace: {limit}"
        yield Check(name, "ok", f"{told}; {could_go}" if could_go else told)


def streams_of_workspaces(streams: Mapping[str, Stream]) -> dict[str, list[str]]:
    """Return the streams that bring each workspace's events; a stream that names none brings all."""
    named = sorted({workspace for stream in streams.values() for workspace in stream.workspaces})
    found = {
        workspace: [
            name
            for name, stream in streams.items()
            if not stream.workspaces or workspace in stream.workspaces
        ]
        for workspace in named
    }
    general = [name for name, stream in streams.items() if not stream.workspaces]
    if general:
        found[ALL] = general
    return found


def unnecessary(streams: Mapping[str, Stream]) -> dict[str, str]:
    """Return the streams that bring nothing which a stream that stays does not; each with that one.

    Of several that cover the same workspaces the first one stays.
    """
    names = list(streams)

    def breadth(name: str) -> tuple[bool, int, int]:
        covered = streams[name].workspaces
        return bool(covered), -len(set(covered)), names.index(name)

    kept: list[str] = []
    found: dict[str, str] = {}
    for name in sorted(names, key=breadth):
        wider = next((one for one in kept if _covers(streams[one], streams[name])), None)
        if wider is None:
            kept.append(name)
        else:
            found[name] = wider
    return {name: found[name] for name in names if name in found}


def _covers(wide: Stream, narrow: Stream) -> bool:
    if not wide.workspaces:
        return True
    return bool(narrow.workspaces) and set(narrow.workspaces) <= set(wide.workspaces)


def _could_go(streams: Mapping[str, Stream], spare: Mapping[str, str]) -> str:
    if not spare:
        return ""
    left = {name: stream for name, stream in streams.items() if name not in spare}
    most = max(map(len, streams_of_workspaces(left).values()))
    shown = ", ".join(f"{name} (its workspaces are those of {other})" for name, other in _first(spare))
    more = f" and {len(spare) - _SHOWN} more" if len(spare) > _SHOWN else ""
    return (
        f"unnecessary: {shown}{more}; one stream and [destinations] reach as many receivers, and"
        f" {len(left)} would be left, {most} of one workspace at most; a stream that is of certain workspaces"
        ' alone says so: workspaces = ["…"]'
    )


def _first(found: Mapping[str, _T]) -> list[tuple[str, _T]]:
    return list(found.items())[:_SHOWN]
