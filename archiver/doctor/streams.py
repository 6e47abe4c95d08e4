"""What is received: streams that fell silent, their secrets, the certificate, what lies in their spools."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from archiver import clock, durable, live
from archiver.config import Settings
from archiver.doctor.certificate import validities
from archiver.errors import ConfigError, SourceError
from archiver.ping import check_pings
from archiver.signature import may_be_variable, read_secrets
from archiver.silence import Hearing, hearings
from archiver.sources.names import printable
from archiver.sources.waiting import count_waiting
from archiver.store.health import Check
from archiver.streams import Stream

_DAY_SECONDS: Final = 86_400.0
_SOON: Final = timedelta(days=30)


def check_receiving(
    settings: Settings,
    spools: Sequence[Path],
    now_us: int,
    *,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Check]:
    """Examine what is configured of streams, the receiver and pings.

    Args:
        spools: All folders in which receivers note when a stream was last heard of.
        environment: Where secrets are looked for.
    """
    environment = os.environ if environment is None else environment
    try:
        heard = hearings(settings.streams, spools, now_us)
    except SourceError as error:
        yield Check("streams", "failed", error.message, "let this user read it")
        heard = []
    for one in heard:
        yield _silence(one)
    for name, stream in settings.streams.items():
        yield _secrets(name, stream, environment)
    if settings.receive.tls_cert is not None:
        yield _certificate(Path(settings.receive.tls_cert), now_us)
    for file, problem in check_pings(environment, settings.ping_url_file, settings.ping_failure_url_file):
        fix = "write one URL, https://…, that this user may read"
        yield Check(f"ping {file}", "warning" if problem else "ok", problem or "a URL to ask", fix)


def check_inbox(folder: Path, now_us: int) -> Iterator[Check]:
    """Examine what receivers and other consumers leave in one spool."""
    name = f"spool {folder}"
    try:
        abandoned, growing = _live_segments(folder)
        waiting = count_waiting(folder)
    except SourceError as error:
        yield Check(f"{name}: live segments", "failed", error.message, "let this user read the folder")
        return
    told = f"{growing} of live receivers, {len(abandoned)} without an owner"
    if abandoned:
        fix = "run `archiver run`, which adopts them; a receiver of this spool does so, too"
        yield Check(f"{name}: live segments", "warning", told, fix)
    else:
        yield Check(f"{name}: live segments", "ok", told)
    problems = _consumers_without_links(folder)
    for consumer, problem in problems.items():
        fix = (
            "give receiver and run the right to read, write and search it, on the spool's own file system; "
            "what it missed is in the archive"
        )
        yield Check(f"{name}: {consumer}", "failed", f"takes no link: {problem}; it misses segments", fix)
    for consumer, left in waiting.consumers.items():
        if f"consumer {consumer}" in problems:
            continue
        age = left.oldest_seconds(now_us)
        told = f"{left.files} files, {left.bytes} bytes"
        if age > _DAY_SECONDS:
            fix = (
                f"start what reads {folder / live.CONSUMERS / consumer}, or remove that folder: "
                "until then it fills the disk, and a full disk refuses deliveries"
            )
            found = f"{told}, the oldest for {age / _DAY_SECONDS:,.1f} days: nobody takes them"
            yield Check(f"{name}: consumer {consumer}", "warning", found, fix)
        else:
            yield Check(f"{name}: consumer {consumer}", "ok", told)


def _consumers_without_links(folder: Path) -> dict[str, str]:
    """Try to link a file for each consumer; return which folders take none from this user, and why."""
    top = folder / live.CONSUMERS
    if not os.path.lexists(top):
        return {}
    probe = folder / f".doctor-{secrets.token_hex(8)}"
    problems = {}
    try:
        with os.scandir(top) as entries:
            consumers = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        for name in sorted(consumers):
            if not name.startswith(".") and (why := _refusal(probe, top / name)) is not None:
                problems[f"consumer {printable(name)}"] = why
    except OSError as error:
        problems[live.CONSUMERS] = error.strerror or str(error)
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    return problems


def _refusal(probe: Path, consumer: Path) -> str | None:
    link = consumer / probe.name
    try:
        os.link(probe, link)
        durable.sync_folder(consumer)
    except OSError as error:
        return error.strerror or str(error)
    finally:
        with contextlib.suppress(OSError):
            link.unlink(missing_ok=True)
    return None


def _silence(hearing: Hearing) -> Check:
    name = f"stream {hearing.stream}"
    if hearing.silent_seconds is None:
        fix = "start `archiver receive` with this configuration, on this host"
        return Check(name, "warning", "nobody has listened for it: no receiver noted anything", fix)
    allowed = hearing.silent_after_seconds
    if hearing.last_delivery_at is None:
        told = f"no delivery yet, {hearing.silent_seconds:,.0f} s since somebody listens"
    else:
        told = f"last delivery at {clock.to_text(hearing.last_delivery_at)}"
    if hearing.is_ahead:
        fix = "set this machine's clock by NTP; the next delivery sets it right"
        return Check(name, "warning", f"{told}, which is in the future: silence cannot be told", fix)
    if not hearing.is_silent:
        limit = "" if allowed is None else f"; it may be silent for {allowed:,.0f} s"
        return Check(name, "ok", f"{told}{limit}")
    fix = (
        "look at the stream's page at the sender: after three failures in a row it is stopped until somebody "
        "re-enables it, and nothing of the meantime comes by itself; see docs/receiving.md for the way back"
    )
    found = f"{told}: silent for {hearing.silent_seconds:,.0f} s, and {allowed:,.0f} s are allowed"
    return Check(name, "failed", found, fix)


def _secrets(name: str, stream: Stream, environment: Mapping[str, str]) -> Check:
    """Read the secrets as a receiver would, and say nothing of them but their number."""
    check = f"stream {name}: secrets"
    if not stream.secret_env and not stream.secret_file:
        fix = f"name them, if it is received here: secret_env or secret_file under [streams.{name}]"
        return Check(check, "skipped", "none is named", fix)
    # What is no variable's name may be a secret, and is not shown: `read_secrets` tells of it.
    absent = [one for one in stream.secret_env if one not in environment and may_be_variable(one)]
    if absent:
        found = f"not set here: {', '.join(absent)}"
        return Check(check, "skipped", found, "the receiver's environment must have it; ask as its user")
    hidden = [file for file in stream.secret_file if _is_hidden(file)]
    if hidden:
        found = f"this user may not read {', '.join(hidden)}"
        return Check(check, "skipped", found, "only the receiver's user must; ask as that user")
    try:
        found_secrets = read_secrets(stream.secret_env, stream.secret_file, environment=environment)
    except ConfigError as error:
        return Check(check, "failed", error.message, error.hint or "`receive` would not start with it")
    return Check(check, "ok", f"{len(found_secrets)} can be read")


def _is_hidden(file: str) -> bool:
    """Whether a file is there, or may be, and this user may not read it."""
    try:
        Path(file).stat()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return not os.access(file, os.R_OK)


def _certificate(path: Path, now_us: int) -> Check:
    name = "certificate"
    fix = "renew it, then send the receiver SIGHUP: it reads the certificate again"
    try:
        found = validities(path)
    except ConfigError as error:
        return Check(name, "failed", error.message, "`receive` would not start with it")
    now = clock.from_us(now_us)
    begins, ends = max(one.begins_at for one in found), min(one.ends_at for one in found)
    told = f"{path}: holds until {ends:%Y-%m-%d %H:%M} UTC"
    if ends <= now:
        return Check(name, "failed", f"{path}: expired at {ends:%Y-%m-%d %H:%M} UTC", fix)
    if begins > now:
        return Check(name, "failed", f"{path}: holds only from {begins:%Y-%m-%d %H:%M} UTC", fix)
    if ends - now < _SOON:
        return Check(name, "warning", f"{told}, {(ends - now).days} days from now", fix)
    return Check(name, "ok", told)


def _live_segments(folder: Path) -> tuple[list[str], int]:
    """Return the live segments whose writer is dead, and how many others there are."""
    abandoned, growing = [], 0
    try:
        with os.scandir(folder) as entries:
            found = [entry.path for entry in entries if live.is_live_name(entry.name)]
    except OSError as error:
        raise SourceError(f"{folder}: cannot be listed: {error.strerror}") from error
    for path in found:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:  # sealed at this moment
            continue
        except OSError as error:
            raise SourceError(f"{path}: cannot be opened: {error.strerror}") from error
        try:
            if stat.S_ISREG(os.fstat(handle).st_mode):
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                abandoned.append(path)
        except BlockingIOError:
            growing += 1
        finally:
            os.close(handle)
    return abandoned, growing
