"""Destinations: settings and secrets, folders, and how each one stands. Nobody is connected to."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from archiver import clock, live
from archiver.archive import Archive
from archiver.config import Settings
from archiver.doctor.certificate import validities
from archiver.errors import ArchiverError, ConfigError
from archiver.forward.folders import folder_of
from archiver.forward.intakes import client_of, intake_of, url_of
from archiver.forward.payload import Payloads
from archiver.forward.settings import Destination
from archiver.forward.standing import Standing, standing_of
from archiver.http import parsed_url
from archiver.secret import SecretPlace
from archiver.signature import may_be_variable
from archiver.sources.names import printable
from archiver.store.health import Check
from archiver.streams import NAME

LONGEST_LAG_SECONDS: Final = 3_600.0
LONGEST_FAILURE_SECONDS: Final = 3_600.0
_NEAR: Final = 0.8
_CLOCKS_APART_US: Final = 60_000_000
_SOON: Final = timedelta(days=30)
_MOST_FOLDERS: Final = 20


def check_destinations(
    settings: Settings,
    archive: Archive | None,
    spools: Sequence[Path],
    now_us: int,
    *,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Check]:
    """Examine each configured destination, and the folders of those that are configured no more.

    Args:
        archive: The one that some of them read; None: there is none.
        environment: Where secrets are looked for.
    """
    environment = os.environ if environment is None else environment
    for destination in settings.destinations.values():
        yield from _check(settings, destination, archive, spools, now_us, environment)
    for spool in spools:
        yield from _orphans(settings, spool)


def _check(
    settings: Settings,
    destination: Destination,
    archive: Archive | None,
    spools: Sequence[Path],
    now_us: int,
    environment: Mapping[str, str],
) -> Iterator[Check]:
    name = f"destination {destination.name}"
    standing = standing_of(settings, destination, archive, now_us)
    found = [
        _settings(destination, environment),
        _transport(destination),
        *_certificates(destination, now_us),
        _state(settings, destination),
        _archive(destination, archive),
    ]
    if destination.origin == "deliveries":
        found += _folders(destination, spools)
        found.append(_room(destination, standing))
    found += _course(destination, standing, now_us)
    for one in found:
        yield Check(f"{name}: {one.name}", one.status, one.found, one.fix)


def _settings(destination: Destination, environment: Mapping[str, str]) -> Check:
    """Make all that a run makes before it sends, and say nothing of secrets but that they can be read."""
    places = [
        place
        for place in (destination.token, destination.password, destination.secret, destination.hash_key)
        if place is not None
    ]
    for place in places:
        if place.env is not None and not may_be_variable(place.env):
            found = (
                f"{place.what}: what is named as its variable is no variable's name: is it the secret itself?"
            )
            fix = "name the variable that holds it; what stands in a configuration is no secret any more"
            return Check("settings", "failed", found, fix)
    absent = [place for place in places if _is_out_of_reach(place, environment)]
    if absent:
        told = ", ".join(place.shown for place in absent)
        fix = "only the user that runs `archiver forward` must have them: ask as that user"
        return Check("settings", "skipped", f"not to be read here: {told}", fix)
    try:
        intake_of(destination, environment)
        Payloads(destination, environment)
        client_of(destination, environment).close()
    except ArchiverError as error:
        fix = error.hint or f"correct it under [destinations.{destination.name}]"
        return Check("settings", "failed", error.message, fix)
    told = f"{len(places)} secrets can be read" if places else "no secrets are named"
    return Check("settings", "ok", f"{destination.kind}, {destination.form.replace('_', ' ')}; {told}")


def _is_out_of_reach(place: SecretPlace, environment: Mapping[str, str]) -> bool:
    """Whether a secret is another user's alone: its variable is not set here, or its file may not be read."""
    if place.env is not None:
        return place.env not in environment
    try:
        Path(place.file or "").stat()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return not os.access(place.file or "", os.R_OK)


def _transport(destination: Destination) -> Check:
    try:
        url = parsed_url(url_of(destination))
    except ConfigError as error:
        return Check("transport", "failed", error.message, 'url = "https://…"')
    if url.scheme == "https":
        return Check("transport", "ok", "https")
    if _is_this_machine(url.host or ""):
        return Check("transport", "ok", "http, to this machine")
    has_secret = destination.token is not None or destination.password is not None
    what = "the token and all events" if has_secret else "all events"
    return Check(
        "transport",
        "warning",
        f"http to another machine: everybody on the way reads {what}",
        "let the receiver speak TLS and write https://…; ca_file names your own authority, if you have one",
    )


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _certificates(destination: Destination, now_us: int) -> Iterator[Check]:
    if destination.ca_file is None:
        return
    try:
        ends = max(one.ends_at for one in validities(Path(destination.ca_file)))
    except ConfigError as error:
        fix = "name a PEM file that this user may read"
        yield Check("ca_file", "failed", error.message, fix)
        return
    now = clock.from_us(now_us)
    told = f"{destination.ca_file}: holds until {ends:%Y-%m-%d %H:%M} UTC"
    fix = "get the authority's new certificate, and put it beside the old one in that file"
    if ends <= now:
        yield Check("ca_file", "failed", f"{destination.ca_file}: expired at {ends:%Y-%m-%d %H:%M} UTC", fix)
    elif ends - now < _SOON:
        yield Check("ca_file", "warning", f"{told}, {(ends - now).days} days from now", fix)
    else:
        yield Check("ca_file", "ok", told)


def _state(settings: Settings, destination: Destination) -> Check:
    """Try to write where cursor and dead letters go; what is not there yet is not created."""
    try:
        folder = settings.forward_folder / destination.name
    except ConfigError as error:
        return Check("state", "failed", error.message, error.hint)
    here = folder
    while not os.path.lexists(here) and here != here.parent:
        here = here.parent
    fix = f"give the user that runs `archiver forward` the right to read, write and search {here}"
    if (why := _refusal(here)) is not None:
        return Check("state", "failed", f"{here}: cannot be written: {why}", fix)
    told = "can be written" if here == folder else f"is not there yet, and can be created in {here}"
    return Check("state", "ok", f"{folder}: {told}")


def _refusal(folder: Path) -> str | None:
    probe = folder / f".doctor-{secrets.token_hex(8)}"
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        probe.unlink()
    except OSError as error:
        return error.strerror or str(error)
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    return None


def _archive(destination: Destination, archive: Archive | None) -> Check:
    if archive is not None:
        return Check("archive", "ok", "it can be read from, and replayed")
    fix = "name the archive that `run` writes: --archive, or location under [archive]"
    if destination.origin == "archive":
        return Check("archive", "failed", 'it reads the archive (from = "archive"), which is not here', fix)
    found = "none is here: beyond max_waiting_bytes nothing takes the place of its folder"
    return Check("archive", "warning", found, fix)


def _folders(destination: Destination, spools: Sequence[Path]) -> list[Check]:
    """Look at where receivers leave segments; that it takes links is tried with the spool."""
    if not spools:
        fix = 'name a spool under [spool] folders, or let it read the archive: from = "archive"'
        return [Check("folder", "failed", "no spool is configured that it could read", fix)]
    return [_folder(destination, spool) for spool in spools]


def _folder(destination: Destination, spool: Path) -> Check:
    folder = folder_of(spool, destination.name)
    name = f"folder {folder}"
    try:
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            fix = "remove what is there; `archiver forward` creates the folder"
            return Check(name, "failed", "is no folder: receivers leave nothing there", fix)
        if not folder.is_dir():
            fix = f"run `archiver forward {destination.name}`, or start the receiver anew: both create it"
            return Check(name, "warning", "is not there: no receiver leaves anything for it", fix)
        if folder.stat().st_dev != spool.stat().st_dev:
            fix = "let it lie on the spool's own file system: a hard link reaches no other one"
            return Check(name, "failed", "lies on another file system than its spool", fix)
    except OSError as error:
        fix = "let this user read and search it"
        return Check(name, "failed", f"cannot be looked at: {error.strerror}", fix)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        fix = "give the user that runs `archiver forward` the right to read, write and search it"
        return Check(name, "warning", "this user cannot take segments out of it", fix)
    return Check(name, "ok", "receivers leave segments there")


def _room(destination: Destination, standing: Standing) -> Check:
    most = destination.max_waiting_bytes
    if standing.lag is None:
        return Check("room", "skipped", "what waits cannot be counted")
    if standing.stuck:
        found = (
            f"{standing.stuck:,} segments that it took cannot be removed from its folder, and fill the disk"
        )
        fix = (
            "give the user that runs `archiver forward` the right to write there, or run it as the receiver's"
        )
        return Check("room", "failed", found, fix)
    told = f"{standing.lag.bytes:,} of {most:,} bytes wait in its folder"
    if standing.lag.bytes >= _NEAR * most:
        fix = (
            "start `archiver forward`, and see what holds the destination up; beyond max_waiting_bytes its"
            " links go, and it is served from the archive, where a batch may repeat"
        )
        return Check("room", "warning", told, fix)
    return Check("room", "ok", told)


def _course(destination: Destination, standing: Standing, now_us: int) -> Iterator[Check]:
    """Say how it goes: what is behind, what fails, what was refused."""
    name, tally = destination.name, standing.tally
    if standing.problems:
        fix = "let this user read it, or ask as the user that forwards"
        yield Check("standing", "warning", "; ".join(standing.problems), fix)
    else:
        yield Check("standing", "ok", "its cursor and its account can be read")
    yield _lag(name, standing)
    if tally.is_open or tally.failing_since_us is not None:
        failing = standing.failing_seconds(now_us)
        state = "its circuit is open" if tally.is_open else "its requests fail"
        found = f"{state}, for {failing:,.0f} s: {tally.trouble or 'nobody knows why'}"
        fix = f"`archiver forward {name} --test` sends one marked event, and explains the answer"
        is_old = failing >= LONGEST_FAILURE_SECONDS
        yield Check("requests", "failed" if is_old else "warning", found, fix)
    else:
        yield Check("requests", "ok", f"{tally.taken:,} events taken, {tally.retries:,} retries")
    if standing.refuses_everything:
        yield Check(
            "dead letters",
            "failed",
            f"it refuses everything: the last {tally.refused_in_a_row:,} events became dead letters",
            f"`archiver deadletters list {name}` shows why; mend it, then"
            f" `archiver deadletters resend {name} --all`",
        )
    elif standing.dead_letters:
        least = "" if standing.dead_letters_are_all else "at least "
        yield Check(
            "dead letters",
            "warning",
            f"{least}{standing.dead_letters:,} events that it refused wait",
            f"`archiver deadletters list {name}` shows why; then `archiver deadletters resend {name} --all`",
        )
    elif standing.dead_letters is None:
        yield Check("dead letters", "skipped", "they cannot be counted")
    else:
        yield Check("dead letters", "ok", "none wait")
    ahead = max(tally.taken_us or 0, tally.trouble_us or 0) - now_us
    if ahead > _CLOCKS_APART_US:
        found = f"something happened {ahead / 1_000_000:,.0f} s from now: the clock was set back"
        yield Check("clock", "warning", found, "set this machine's clock by NTP: lag and ages are told by it")
    else:
        yield Check("clock", "ok", "nothing of it lies in the future")


def _lag(name: str, standing: Standing) -> Check:
    lag = standing.lag
    if lag is None:
        return Check("lag", "skipped", "how far behind it is cannot be told")
    least = "" if lag.is_complete else "at least "
    told = (
        f"{least}{lag.events:,} events behind, the oldest for {lag.seconds:,.0f} s"
        if lag.events
        else "none waits"
    )
    fix = f"run `archiver forward {name}` from cron, or `archiver forward --follow` as a service"
    if not standing.has_begun:
        return Check("lag", "warning", f"nothing was ever forwarded to it; {told}", fix)
    if lag.seconds < LONGEST_LAG_SECONDS:
        return Check("lag", "ok", told)
    if standing.is_running:
        fix = "it is slower than what comes: see `archiver status`, and max_per_second if it is set"
        return Check("lag", "warning", f"{told}, while somebody forwards to it", fix)
    return Check("lag", "failed", f"{told}, and nobody forwards to it", fix)


def _orphans(settings: Settings, spool: Path) -> Iterator[Check]:
    """Name the folders of destinations that are configured no more: receivers go on to fill them."""
    try:
        with os.scandir(spool / live.CONSUMERS) as entries:
            found = sorted(
                entry.name
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
            )
        state = settings.forward_folder
    except (OSError, ConfigError):  # no consumers, or the spool's own checks tell
        return
    for name in [one for one in found if one not in settings.destinations][:_MOST_FOLDERS]:
        folder = spool / live.CONSUMERS / name
        if NAME.fullmatch(name) is None or not (state / name).is_dir():
            continue  # another program's, for all we know
        remove, forget = (shlex.quote(printable(str(one))) for one in (folder, state / name))
        yield Check(
            f"destination {name}",
            "warning",
            f"{printable(str(folder))} gets a link of each segment, and there is no [destinations.{name}]: it"
            " fills the disk, and a full disk refuses deliveries",
            f"if nobody is to have these events, remove it: rm -r {remove} and, with its cursor and dead"
            f" letters, {forget}; else configure it again",
        )
