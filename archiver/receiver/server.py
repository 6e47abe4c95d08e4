"""The receiver as a process: sockets, TLS, signals, limits, and the order of its end.

SIGTERM, SIGINT   no new connections; what was taken is stored and answered; seal; exit
SIGHUP            read the secrets and the certificate again
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import resource
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import uvicorn
import uvloop

from archiver.config import Settings
from archiver.errors import ArchiverError, ConfigError
from archiver.forward.folders import make_for_receivers
from archiver.receiver.app import Receiver
from archiver.receiver.delivery import Door
from archiver.receiver.gauges import Gauges
from archiver.receiver.guard import Guard, Limits, protocol_of
from archiver.receiver.handshakes import Handshakes
from archiver.receiver.metrics import Metrics
from archiver.receiver.room import LargeBodies
from archiver.receiver.writer import SpoolWriter
from archiver.signature import Secrets, read_secrets
from archiver.streams import Stream, parse_listen

_GRACE_SECONDS: Final = 25
_LAST_DELIVERIES_SECONDS: Final = 1.0
_BACKLOG: Final = 1024
_SPARE_HANDLES: Final = 256
_FIRST_PASSED_HANDLE: Final = 3
_LISTEN_HINTS: Final[dict[int | None, str]] = {
    errno.EADDRINUSE: "is another receiver running there? Port 0 takes a free one",
    errno.EACCES: "a port below 1024 needs a right: take a higher one, or have systemd pass the socket",
    errno.EADDRNOTAVAIL: "it is no address of this machine; 0.0.0.0 stands for all that it has",
}
_NAME_HINT: Final = "write HOST:PORT with an address of this machine: 127.0.0.1:8080"
_SWITCH_SECONDS: Final = 0.0005
_OBJECTS_BEFORE_COLLECTING: Final = 5_000

_log = logging.getLogger("archiver.receiver")


def serve(
    settings: Settings,
    on_listening: Callable[[str], None] = lambda _: None,
    *,
    limits: Limits = Limits(),  # noqa: B008  (is frozen)
) -> None:
    """Receive deliveries until a signal ends it. Every delivery that was answered 2xx is in the spool then.

    Args:
        settings: Its `receive`, `streams` and `spools` say what to do.
        on_listening: Called once, with the URL, when connections are accepted.
        limits: What a connection may cost; how many there may be stands in the settings.

    Raises:
        ConfigError: A secret, a spool, a certificate or an address is missing or wrong.
        SourceError: A spool cannot be written to.
    """
    limits = replace(limits, max_connections=_connections_with_handles(settings.receive.max_connections))
    streams = _streams_of(settings)
    secrets = _secrets_of(streams)
    for problem in make_for_receivers(settings):
        _log.warning("%s", problem)
    uvloop.run(_serve(settings, streams, secrets, on_listening, limits))


def settle_interpreter() -> None:
    """Set this process up for one event loop with many requests at once, and a thread that writes."""
    # The thread that writes must not wait for the interpreter while the event loop is busy.
    sys.setswitchinterval(_SWITCH_SECONDS)
    # Deliveries that wait for the disk together are more than the 700 objects at which the collector
    # sets out by default: it would go through them for each group, find nothing, and take a quarter
    # of the processor's time. What there is now stays, and need not be looked at again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTING)


def check(settings: Settings) -> list[tuple[str, Stream, Path, int]]:
    """Return stream, what is configured, its spool and how many secrets it has; raises as `serve` does."""
    streams = _streams_of(settings)
    secrets = _secrets_of(streams)
    _tls_of(settings)
    return [
        (name, stream, _spool_of(settings, name, stream), len(secrets[name]))
        for name, stream in streams.items()
    ]


async def _serve(
    settings: Settings,
    streams: dict[str, Stream],
    secrets: dict[str, Secrets],
    on_listening: Callable[[str], None],
    limits: Limits,
) -> None:
    receive = settings.receive
    tls = _tls_of(settings)
    metrics = Metrics()
    writers: dict[Path, SpoolWriter] = {}
    room = LargeBodies(limits.large_bodies_bytes)
    by_folder: dict[Path, list[str]] = {}
    for name, stream in streams.items():
        by_folder.setdefault(_spool_of(settings, name, stream), []).append(name)
    for folder, names in by_folder.items():
        writers[folder] = SpoolWriter(
            folder,
            names,
            metrics,
            seal_bytes=receive.seal_bytes,
            seal_seconds=receive.seal_seconds,
            min_free_bytes=receive.min_free_bytes,
        )
    doors = {
        stream.path: Door(
            name,
            secrets[name],
            writers[_spool_of(settings, name, stream)],
            room,
            metrics.of_stream(name),
        )
        for name, stream in streams.items()
    }
    receiver = Receiver(doors, list(writers.values()), metrics)
    sockets = _sockets(receive.listen)
    observing = _sockets(receive.metrics_listen, passed=False) if receive.metrics_listen else []
    for writer in writers.values():
        writer.start()
    guard = Guard(limits)
    metrics.observe(Gauges(streams, receiver.writers, guard, receiver.lookout, lambda: receiver.is_stopping))
    servers = [_Server(receiver.app(observed=not observing), guard, tls, sockets)]
    if observing:
        servers.append(
            _Server(receiver.observing_app(), Guard(replace(limits, max_connections=64)), None, observing)
        )

    def stop() -> None:
        if receiver.is_stopping:
            for server in servers:
                server.force_exit = True
        receiver.is_stopping = True
        _notify("STOPPING=1")
        for server in servers:
            server.should_exit = True

    def reload() -> None:
        try:
            fresh = _secrets_of(streams)
            # Into another context first: a failure half-way would leave this one with neither pair.
            if _tls_of(settings) and tls is not None and receive.tls_cert and receive.tls_key:
                tls.load_cert_chain(receive.tls_cert, receive.tls_key)
        except (ArchiverError, OSError) as error:
            _log.error("nothing was read again, all stays as it was: %s", error)
            return
        for name, stream in streams.items():
            doors[stream.path].secrets = fresh[name]
        counts = ", ".join(f"{name} {len(found)}" for name, found in fresh.items())
        _log.warning("secrets and certificate read again; secrets in force: %s", counts)

    settle_interpreter()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    watch = asyncio.create_task(_watch([server.guard for server in servers], list(writers.values())))
    telling = asyncio.create_task(_tell(servers, _url_of(sockets, tls), on_listening))
    try:
        await asyncio.gather(*(server.serve() for server in servers))
    finally:
        watch.cancel()
        telling.cancel()
        await asyncio.gather(*(writer.stop() for writer in writers.values()))


async def _tell(servers: list[_Server], url: str, on_listening: Callable[[str], None]) -> None:
    while not all(server.started for server in servers):
        await asyncio.sleep(0.01)
    _notify("READY=1")
    on_listening(url)


async def _watch(guards: list[Guard], writers: list[SpoolWriter]) -> None:
    while True:
        await asyncio.sleep(1)
        for guard in guards:
            guard.sweep()
        for writer in writers:
            writer.give_up_on_the_stuck()


class _Server(uvicorn.Server):
    """uvicorn's server on given sockets, with our guard, and signals left to us."""

    def __init__(
        self, app: Any, guard: Guard, tls: ssl.SSLContext | None, sockets: list[socket.socket]
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol_of(guard),
                ws="none",
                loop="none",
                lifespan="on",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )
        self.guard = guard
        self._tls = tls
        self._sockets = sockets

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """As uvicorn does it, with bounds on TLS handshakes."""
        await self.lifespan.startup()
        loop = asyncio.get_running_loop()
        protocol = partial(
            cast("Any", self.config.http_protocol_class),
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        limits = self.guard.limits
        self.servers: list[Any] = [
            Handshakes(
                one,
                self._tls,
                protocol,
                backlog=self.config.backlog,
                most=limits.handshakes,
                seconds=limits.handshake_seconds,
            )
            if self._tls is not None
            else await loop.create_server(protocol, sock=one, backlog=self.config.backlog)
            for one in self._sockets
        ]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does it, but who is connected already may deliver once more, for a second.

        uvicorn closes what has no request at this moment, and so refuses whoever is about to send one.
        """
        for server in self.servers:
            server.close()
        self.guard.end()
        deadline = time.monotonic() + _LAST_DELIVERIES_SECONDS
        await asyncio.sleep(0.1)  # for connections that were accepted a moment ago
        while self.guard.connections and not self.force_exit and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _streams_of(settings: Settings) -> dict[str, Stream]:
    if not settings.streams:
        raise ConfigError("no stream is configured", hint="name its secret: --secret-env NAME")
    return settings.streams


def _secrets_of(streams: dict[str, Stream]) -> dict[str, Secrets]:
    found = {}
    for name, stream in streams.items():
        try:
            found[name] = read_secrets(stream.secret_env, stream.secret_file)
        except ConfigError as error:
            raise ConfigError(f"stream {name}: {error.message}", hint=error.hint) from None
    return found


def _spool_of(settings: Settings, name: str, stream: Stream) -> Path:
    told = stream.spool or (settings.spools[0] if settings.spools else None)
    if told is None:
        raise ConfigError(f"stream {name} has no spool", hint="give --spool DIR, or folders in archiver.toml")
    folder = Path(told)
    try:
        is_there = folder.is_dir()
    except OSError as error:
        hint = "let this user search the folders above it, or give another --spool"
        raise ConfigError(f"{folder}: cannot be looked at: {error.strerror}", hint=hint) from error
    if not is_there:
        raise ConfigError(f"{folder}: no such folder", hint="create the spool folder, or correct --spool")
    return folder.resolve()


def _tls_of(settings: Settings) -> ssl.SSLContext | None:
    receive = settings.receive
    if receive.tls_cert is None or receive.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without a password that is asked for: there is nobody to answer.
        context.load_cert_chain(receive.tls_cert, receive.tls_key, password=lambda: b"")
    except (OSError, ssl.SSLError, ValueError) as error:
        raise ConfigError(
            f"{receive.tls_cert}, {receive.tls_key}: no certificate with its key, as PEM: {error}",
            hint="the chain first, the key without a password, both readable by this user",
        ) from error
    return context


def _sockets(listen: str, *, passed: bool = True) -> list[socket.socket]:
    """Return the sockets to accept from, which listen already: those that systemd passed, or a new one."""
    if passed and (found := _passed()):
        return found
    host, port = parse_listen(listen)
    with contextlib.ExitStack() as undone:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            one = undone.enter_context(socket.socket(family, kind, protocol))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(address)
            # Two may be bound to one address, and one of them listens: uvloop does not tell the other.
            one.listen(_BACKLOG)
        except (OSError, ValueError) as error:  # a name that cannot be one is a ValueError
            number = error.errno if isinstance(error, OSError) else None
            told = error.strerror if isinstance(error, OSError) else "no such name"
            raise ConfigError(
                f"cannot listen on {listen}: {told or error}", hint=_LISTEN_HINTS.get(number, _NAME_HINT)
            ) from error
        undone.pop_all()
    return [one]


def _passed() -> list[socket.socket]:
    """Return the sockets that systemd passed to this process, if it did (sd_listen_fds(3))."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = os.environ.pop("LISTEN_FDS", "0")
    try:
        handles = range(_FIRST_PASSED_HANDLE, _FIRST_PASSED_HANDLE + int(count))
        found = [socket.socket(fileno=handle) for handle in handles]
        for one in found:
            one.listen(_BACKLOG)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"LISTEN_FDS={count!r:.20}: not so many sockets to accept from were passed: {error}",
            hint="a socket unit with ListenStream= passes them; without one leave LISTEN_PID unset",
        ) from error
    return found


def _url_of(sockets: list[socket.socket], tls: ssl.SSLContext | None) -> str:
    name = sockets[0].getsockname()
    if not isinstance(name, tuple):
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{'https' if tls else 'http'}://{host}:{name[1]}"


def _connections_with_handles(wanted: int) -> int:
    """Have the limit on open files raised as far as needed; return for how many connections it suffices.

    A connection is a file handle, and the usual soft limit, 1,024, is for programs that still
    use select(). So many as the backlog holds may be accepted before the guard sees the first
    of them; and the spool's files need theirs.
    """
    spare = _BACKLOG + _SPARE_HANDLES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted + spare:
        return wanted
    most = wanted + spare if hard == resource.RLIM_INFINITY else min(wanted + spare, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    enough = max(most - spare, most // 4, 1)
    if enough >= wanted:
        return wanted
    _log.warning("%d open files are allowed: %d connections, not %d", most, enough, wanted)
    return enough


def _notify(told: str) -> None:
    """Tell systemd, if it wants to know (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.sendto(told.encode(), "\0" + address[1:] if address.startswith("@") else address)
