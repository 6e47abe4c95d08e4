"""PostgreSQL's URL: what libpq may quote of it, and what it leaves to us to set."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final

_WORD: Final = r"(?:[A-Za-z0-9._~!$'()*+;=-]|%(?!00)[0-9A-Fa-f]{2})"
_HOST: Final = rf"(?:{_WORD}*|\[[0-9A-Za-z:.%]+\])(?::[0-9]+)?"
_VALUE: Final = rf"(?:{_WORD}|[,:/\\])*"
_PLAIN: Final = re.compile(
    rf"postgres(?:ql)?://(?:(?:{_WORD}|[,&])*(?::(?:{_WORD}|[,&])*)?@)?{_HOST}(?:,{_HOST})*(?:/(?:{_WORD}|,)*)?"
    rf"(?:\?(?P<query>[a-z_]+={_VALUE}(?:&[a-z_]+={_VALUE})*)?)?"
)
# Of these libpq and the server may say the values: they name a place, or a role.
_SHOWN: Final = frozenset(
    [
        "host",
        "hostaddr",
        "port",
        "dbname",
        "user",
        "service",
        "passfile",
        "application_name",
        "sslcert",
        "sslkey",
        "sslrootcert",
        "sslcrl",
        "sslcrldir",
        "krbsrvname",
    ]
)
_HIDDEN: Final = frozenset(
    [
        "password",
        "sslpassword",
        "options",
        "connect_timeout",
        "client_encoding",
        "fallback_application_name",
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "tcp_user_timeout",
        "replication",
        "gssencmode",
        "sslmode",
        "sslcompression",
        "sslsni",
        "requirepeer",
        "require_auth",
        "channel_binding",
        "ssl_min_protocol_version",
        "sslcertmode",
        "ssl_max_protocol_version",
        "gsslib",
        "gssdelegation",
        "target_session_attrs",
        "load_balance_hosts",
        "sslnegotiation",
        "scram_client_key",
        "scram_server_key",
    ]
)
_WORDS: Final = frozenset(
    [
        "disable",
        "allow",
        "prefer",
        "require",
        "verify-ca",
        "verify-full",
        "any",
        "read-write",
        "read-only",
        "primary",
        "standby",
        "prefer-standby",
        "random",
        "database",
        "direct",
        "postgres",
        "system",
        "true",
        "false",
        "on",
        "off",
        "yes",
        "no",
        "auto",
        "utf8",
        "UTF8",
    ]
)
# A server that does not answer, or is not there any more, would be waited for without an end.
_TIMEOUTS: Final = {
    "connect_timeout": "30",
    "keepalives_idle": "60",
    "keepalives_interval": "15",
    "keepalives_count": "4",
}


def is_plain(url: str) -> bool:
    """Whether each part of the URL is what it looks like.

    Else a password may have been cut up (by an unescaped @ or /), and libpq quotes its pieces as a
    host, a port, a parameter, or as a text that it does not understand.
    """
    return _PLAIN.fullmatch(url) is not None and all(
        name in _SHOWN or name in _HIDDEN for name, _ in _parameters(url)
    )


def hidden_values(url: str) -> set[str]:
    """Return values of parameters that no error needs to show."""
    return {
        value
        for name, value in _parameters(url)
        if name not in _SHOWN and value not in _WORDS and not value.isdecimal()
    } | {value for name, value in _parameters(url) if name in ("password", "sslpassword")}


def with_timeouts(url: str) -> str:
    """Return the URL with limits for what it says nothing of; as it is where it is not plain."""
    if not is_plain(url):
        return url
    told = {name for name, _ in _parameters(url)}
    if "PGCONNECT_TIMEOUT" in os.environ:
        told.add("connect_timeout")
    more = "&".join(f"{name}={value}" for name, value in _TIMEOUTS.items() if name not in told)
    return f"{url}{'' if url.endswith('?') else '&' if '?' in url else '?'}{more}" if more else url


def _parameters(url: str) -> Iterator[tuple[str, str]]:
    for one in url.partition("?")[2].split("&"):
        name, _, value = one.partition("=")
        if name:
            yield name, value
