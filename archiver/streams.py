"""Configured senders: where each one's deliveries come in, what they are signed with, and where they go.

[receive]           listen, TLS, limits: one receiver
[streams.NAME]      one sender
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from archiver.errors import ConfigError

DEFAULT_STREAM: Final = "webhook"
DEFAULT_SECRET_VARIABLE: Final = "ARCHIVER_WEBHOOK_SECRET"  # noqa: S105  (the name of one, not one)
OWN_PATHS: Final = ("/healthz", "/readyz", "/metrics")

_LONGEST_SILENCE_SECONDS: Final = 10 * 366 * 86_400

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]+)+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Stream:
    """One configured sender.

    Attributes:
        path: Of the receiver's URL, such as `/eu`.
        secret_env, secret_file: Where its signing secrets are: variables and files.
        spool: The folder that its deliveries go to; None is the first configured spool.
        workspaces: Those it may speak for; empty is all.
        silent_after_seconds: After so long without a delivery `doctor` is red; None is never.
    """

    path: str
    secret_env: tuple[str, ...] = ()
    secret_file: tuple[str, ...] = ()
    spool: str | None = None
    workspaces: tuple[str, ...] = ()
    silent_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Receive:
    """How deliveries are received.

    Attributes:
        listen: `HOST:PORT`; port 0 is a free one.
        metrics_listen: A second `HOST:PORT` for /healthz, /readyz and /metrics; None: on the first.
        tls_cert, tls_key: Paths of a certificate chain and its key, as PEM; None: plain HTTP.
        seal_bytes, seal_seconds: A segment is sealed when it is so large, or so old.
        min_free_bytes: With less room on the spool's disk deliveries are refused.
        max_connections: Open at once; beyond it the longest idle one is closed.
    """

    listen: str = "127.0.0.1:8080"
    metrics_listen: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    seal_bytes: int = 64 << 20
    seal_seconds: float = 5.0
    min_free_bytes: int = 128 << 20
    max_connections: int = 1024


_RECEIVE_KEYS: Final[dict[str, type | tuple[type, ...]]] = {
    "listen": str,
    "metrics_listen": str,
    "tls_cert": str,
    "tls_key": str,
    "seal_bytes": int,
    "seal_seconds": (int, float),
    "min_free_bytes": int,
    "max_connections": int,
}
_STREAM_KEYS: Final[dict[str, type | tuple[type, ...]]] = {
    "path": str,
    "secret_env": (str, list),
    "secret_file": (str, list),
    "spool": str,
    "workspaces": list,
    "silent_after_seconds": (int, float),
}


def read_receive(where: str, tree: Mapping[str, Any], folder: Path) -> Receive:
    """Read `[receive]`. Relative paths are relative to `folder`.

    Raises:
        ConfigError: A key or value means nothing; names it.
    """
    _check_keys(f"{where}: [receive]", tree, _RECEIVE_KEYS)
    given = dict(tree)
    for key in ("tls_cert", "tls_key"):
        if key in given:
            given[key] = str(folder / given[key])
    return check_receive(where, Receive(**given))


def check_receive(where: str, receive: Receive) -> Receive:
    """Return `receive` if its values mean something.

    Raises:
        ConfigError: One does not; names it.
    """
    for told in (receive.listen, receive.metrics_listen):
        if told is not None:
            parse_listen(told)
    if (receive.tls_cert is None) != (receive.tls_key is None):
        raise ConfigError(f"{where}: tls_cert and tls_key go together")
    if receive.seal_bytes < 1024:
        raise ConfigError(f"{where}: seal_bytes is at least 1024, not {receive.seal_bytes}")
    if not 0 < receive.seal_seconds <= 3600:
        raise ConfigError(f"{where}: seal_seconds is up to 3600, not {receive.seal_seconds}")
    if receive.min_free_bytes < 0:
        raise ConfigError(f"{where}: min_free_bytes cannot be negative")
    if not 1 <= receive.max_connections <= 65_536:
        raise ConfigError(f"{where}: max_connections is 1 to 65536, not {receive.max_connections}")
    return receive


def parse_listen(told: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`; an IPv6 address stands in brackets.

    Raises:
        ConfigError: It is of another form.
    """
    host, colon, port = told.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"{told!r:.80} is no address to listen on", hint="write HOST:PORT: 127.0.0.1:8080")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"{told!r:.80}: put an IPv6 address in brackets", hint="[::1]:8080")
    return host or "0.0.0.0", int(port)  # noqa: S104  (`:8080` asks for all addresses)


def read_streams(where: str, tree: Mapping[str, Any], folder: Path) -> dict[str, Stream]:
    """Read `[streams.NAME]`, each. Relative paths are relative to `folder`.

    Raises:
        ConfigError: A name, key or value means nothing, or two streams have one path.
    """
    streams = {}
    for name, members in tree.items():
        here = f"{where}: [streams.{name}]"
        if not isinstance(members, dict):
            raise ConfigError(f"{here} must be a table")
        _check_keys(here, members, _STREAM_KEYS)
        if members.get("workspaces") == []:
            raise ConfigError(f"{here} workspaces = []: name them, or leave it out for all")
        if members.get("spool") == "":
            raise ConfigError(f"{here} spool is empty: name a folder, or leave it out for the first one")
        streams[str(name)] = Stream(
            path=members.get("path", f"/{name}"),
            secret_env=_texts(here, "secret_env", members),
            secret_file=tuple(str(folder / file) for file in _texts(here, "secret_file", members)),
            spool=str(folder / members["spool"]) if "spool" in members else None,
            workspaces=_texts(here, "workspaces", members),
            silent_after_seconds=members.get("silent_after_seconds"),
        )
    return check_streams(where, streams)


def check_streams(where: str, streams: dict[str, Stream]) -> dict[str, Stream]:
    """Return `streams` if each one's name, path and times mean something.

    Raises:
        ConfigError: One does not, or two have one path.
    """
    paths: dict[str, str] = {}
    for name, stream in streams.items():
        here = f"{where}: [streams.{name}]"
        if NAME.fullmatch(name) is None:
            raise ConfigError(f"{here}: a name is up to 64 letters, digits, dots, dashes, underscores")
        if _PATH.fullmatch(stream.path) is None or {".", ".."} & set(stream.path.split("/")):
            raise ConfigError(
                f"{here} path = {stream.path!r:.80}: expected one like /eu, no slash at its end"
            )
        if stream.path in OWN_PATHS:
            raise ConfigError(f"{here} path = {stream.path!r}: the receiver answers there by itself")
        if stream.path in paths:
            raise ConfigError(f"{here}: {stream.path} is the path of stream {paths[stream.path]}, too")
        # Not `<= 0`: NaN is in TOML, too.
        silent_after = stream.silent_after_seconds
        if silent_after is not None and not 0 < silent_after <= _LONGEST_SILENCE_SECONDS:
            raise ConfigError(
                f"{here} silent_after_seconds must be more than 0 and at most {_LONGEST_SILENCE_SECONDS}",
                hint="leave it out if the stream may be silent for ever",
            )
        paths[stream.path] = name
    return streams


def _texts(here: str, key: str, members: Mapping[str, Any]) -> tuple[str, ...]:
    told = members.get(key, ())
    if isinstance(told, str):
        told = [told]
    if not all(isinstance(one, str) and one for one in told):
        raise ConfigError(f'{here} {key} must be a list of texts, none of them empty: ["…"]')
    return tuple(told)


def _check_keys(here: str, members: Mapping[str, Any], known: Mapping[str, type | tuple[type, ...]]) -> None:
    for key, value in members.items():
        if key not in known:
            raise ConfigError(f"{here} {key} means nothing (known: {', '.join(known)})")
        if not isinstance(value, known[key]) or isinstance(value, bool):
            raise ConfigError(f"{here} {key} = {value!r:.60} is of the wrong type")
