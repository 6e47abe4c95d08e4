"""`[destinations.NAME]`: where events go on to, in which form, and which of them.

Secrets have no place here: a setting names the environment variable or the file that holds one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

from archiver.errors import ConfigError
from archiver.secret import SecretPlace
from archiver.streams import NAME

Kind = Literal["splunk", "datadog", "elastic", "logstash", "http"]
Form = Literal["as_delivered", "ecs", "ocsf"]
Origin = Literal["deliveries", "archive"]
Batching = Literal["single", "array", "lines"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)

_NUMBER: Final = (int, float)
_SECRETS: Final = ("token", "password", "secret", "hash_key")
_COMMON: Final[dict[str, type | tuple[type, ...]]] = {
    "type": str,
    "url": str,
    "from": str,
    "body": str,
    "ocsf_actions": str,
    "event_types": list,
    "actions": list,
    "exclude_actions": list,
    "workspaces": list,
    "drop": list,
    "hash": list,
    "hash_key_env": str,
    "hash_key_file": str,
    "gzip": bool,
    "ca_file": str,
    "timeout_seconds": _NUMBER,
    "batch_events": int,
    "batch_bytes": int,
    "max_waiting_bytes": int,
    "max_per_second": int,
}
_TOKEN: Final[dict[str, type | tuple[type, ...]]] = {"token_env": str, "token_file": str}
_BASIC: Final[dict[str, type | tuple[type, ...]]] = {"user": str, "password_env": str, "password_file": str}
_OF_KIND: Final[dict[str, dict[str, type | tuple[type, ...]]]] = {
    "splunk": {
        **_TOKEN,
        "index": str,
        "sourcetype": str,
        "host": str,
        "source": str,
        "acknowledge": bool,
    },
    "datadog": {**_TOKEN, "site": str, "service": str, "host": str, "source": str, "tags": list},
    "elastic": {**_TOKEN, **_BASIC, "index": str},
    "logstash": {**_TOKEN, **_BASIC},
    "http": {**_TOKEN, **_BASIC, "secret_env": str, "secret_file": str, "batch": str},
}
_NEEDS_TOKEN: Final = ("splunk", "datadog")
_MOST_BATCH_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Destination:
    """One configured destination.

    Attributes:
        name: As commands, metrics and folders call it.
        kind: Of its API (`type` in the file).
        url: Scheme, host, port and, if need be, path; of Datadog empty where `site` tells it.
        origin: `deliveries`: live, from its folder of sealed segments. `archive`: commit by commit,
            each event once, whatever source it came from.
        form: What an event looks like there.
        ocsf_actions: A file that adds to, or overrides, the table from actions to OCSF classes.
        event_types, actions, workspaces: Only these; empty is all. Actions are patterns (`auth.*`).
        exclude_actions: Not these; patterns.
        drop, hash: Members by their path in the body (`data.ip_address`, `data.metadata.card`);
            `*` for each element of a list. Dropped, or replaced by a keyed hash, before the event
            leaves this machine.
        token, password, secret, hash_key: Where these are; None where there is none. `secret` signs
            as the vendor signs.
        gzip: Whether requests are compressed; None for what suits the kind.
        timeout_seconds: How long a receiver may be silent.
        batch_events, batch_bytes: Of a request, at most; None for the kind's own limits.
        max_waiting_bytes: When the folder of waiting segments is larger, its links are dropped, and
            the archive's ledger is read instead.
        max_per_second: Events, at most; None is as many as it takes.
        user: Of HTTP's basic authentication, with `password`.
        options: What only this kind has: `index`, `sourcetype`, `host`, `source`, `acknowledge`,
            `site`, `service`, `tags`, `batch`.
    """

    name: str
    kind: Kind
    url: str = ""
    origin: Origin = "deliveries"
    form: Form = "as_delivered"
    ocsf_actions: str | None = None
    event_types: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    exclude_actions: tuple[str, ...] = ()
    workspaces: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    hash: tuple[str, ...] = ()
    token: SecretPlace | None = None
    password: SecretPlace | None = None
    secret: SecretPlace | None = None
    hash_key: SecretPlace | None = None
    gzip: bool | None = None
    ca_file: str | None = None
    timeout_seconds: float = 30.0
    batch_events: int | None = None
    batch_bytes: int | None = None
    max_waiting_bytes: int = 4 << 30
    max_per_second: int | None = None
    user: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


def read_destinations(where: str, tree: Mapping[str, Any], folder: Path) -> dict[str, Destination]:
    """Read `[destinations.NAME]`, each. Relative paths are relative to `folder`.

    Raises:
        ConfigError: A name, key or value means nothing; names it.
    """
    found = {}
    for name, members in tree.items():
        here = f"{where}: [destinations.{name}]"
        if not isinstance(members, dict):
            raise ConfigError(f"{here} must be a table")
        found[str(name)] = _read(here, str(name), members, folder)
    return found


def _read(here: str, name: str, members: Mapping[str, Any], folder: Path) -> Destination:
    # As `NAME`, but no dot in front: the folder of its segments would be passed over.
    if NAME.fullmatch(name) is None:
        raise ConfigError(f"{here}: a name is up to 64 letters, digits, dots, dashes, underscores")
    kind = members.get("type")
    if kind not in KINDS:
        raise ConfigError(f"{here} type = {kind!r:.40}: expected one of {', '.join(KINDS)}")
    known = _COMMON | _OF_KIND[kind]
    for key, value in members.items():
        if key not in known:
            close = difflib.get_close_matches(key, list(known), 1)
            guess = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
            raise ConfigError(f"{here} {key} means nothing for {kind} ({guess})")
        if not isinstance(value, known[key]) or isinstance(value, bool) != (known[key] is bool):
            raise ConfigError(f"{here} {key} is of the wrong type")
    one_of(here, members, "from", get_args(Origin))
    one_of(here, members, "body", get_args(Form))
    one_of(here, members, "batch", get_args(Batching))
    options = {key: members[key] for key in _OF_KIND[kind] if key in members and not _is_secret(key)}
    if "tags" in options:
        options["tags"] = _texts(here, "tags", members)
    destination = Destination(
        name=name,
        kind=cast("Kind", kind),
        url=members.get("url", ""),
        origin=members.get("from", "deliveries"),
        form=members.get("body", "as_delivered"),
        ocsf_actions=str(folder / members["ocsf_actions"]) if "ocsf_actions" in members else None,
        event_types=_texts(here, "event_types", members),
        actions=_texts(here, "actions", members),
        exclude_actions=_texts(here, "exclude_actions", members),
        workspaces=_texts(here, "workspaces", members),
        drop=_texts(here, "drop", members),
        hash=_texts(here, "hash", members),
        token=_secret(here, name, "token", members, folder),
        password=_secret(here, name, "password", members, folder),
        secret=_secret(here, name, "secret", members, folder),
        hash_key=_secret(here, name, "hash_key", members, folder),
        gzip=members.get("gzip"),
        ca_file=str(folder / members["ca_file"]) if "ca_file" in members else None,
        timeout_seconds=float(min(members.get("timeout_seconds", 30.0), 1e9)),
        batch_events=members.get("batch_events"),
        batch_bytes=members.get("batch_bytes"),
        max_waiting_bytes=members.get("max_waiting_bytes", 4 << 30),
        max_per_second=members.get("max_per_second"),
        user=options.pop("user", ""),
        options=options,
    )
    _check(here, destination)
    return destination


def _check(here: str, one: Destination) -> None:
    if not one.url and not (one.kind == "datadog" and "site" in one.options):
        raise ConfigError(f"{here} url is missing")
    if one.url and "site" in one.options:
        raise ConfigError(f"{here} has a site and a url: leave one of them out")
    if one.token is None and one.kind in _NEEDS_TOKEN:
        raise ConfigError(f"{here} has no token", hint="name its variable (token_env) or file (token_file)")
    if one.token is not None and (one.password is not None or one.user):
        raise ConfigError(f"{here} has a token, and a user and password: leave one of them out")
    if (one.password is None) != (not one.user):
        raise ConfigError(f"{here}: user, and password_env or password_file, go together")
    if one.hash and one.hash_key is None:
        raise ConfigError(
            f"{here} hash: a hash without a key can be guessed back",
            hint="name where a random key is: hash_key_env or hash_key_file",
        )
    if one.ocsf_actions is not None and one.form != "ocsf":
        raise ConfigError(f'{here} ocsf_actions means nothing without body = "ocsf"')
    if one.secret is not None and one.options.get("batch", "single") != "single":
        raise ConfigError(f"{here}: a signature is of one delivery: leave batch out")
    _check_numbers(here, one)


def _check_numbers(here: str, one: Destination) -> None:
    if not 0 < one.timeout_seconds <= 600:
        raise ConfigError(f"{here} timeout_seconds is up to 600")
    if one.batch_events is not None and not 1 <= one.batch_events <= 100_000:
        raise ConfigError(f"{here} batch_events is 1 to 100000, not {one.batch_events}")
    if one.batch_bytes is not None and not 1 << 10 <= one.batch_bytes <= _MOST_BATCH_BYTES:
        raise ConfigError(f"{here} batch_bytes is 1024 to {_MOST_BATCH_BYTES}, not {one.batch_bytes}")
    if one.max_waiting_bytes < 1 << 20:
        raise ConfigError(f"{here} max_waiting_bytes is at least 1048576 (1 MiB)")
    if one.max_per_second is not None and not 1 <= one.max_per_second <= 10_000_000:
        raise ConfigError(f"{here} max_per_second is 1 to 10000000, not {one.max_per_second}")


def one_of(here: str, members: Mapping[str, Any], key: str, known: tuple[str, ...]) -> None:
    """Refuse a value that means nothing.

    Raises:
        ConfigError: It is none of `known`.
    """
    if key in members and members[key] not in known:
        raise ConfigError(f"{here} {key} = {members[key]!r:.40}: expected one of {', '.join(known)}")


_is_secret = re.compile(rf"({'|'.join(_SECRETS)})_(env|file)").fullmatch


def _secret(here: str, name: str, what: str, members: Mapping[str, Any], folder: Path) -> SecretPlace | None:
    variable, file = members.get(f"{what}_env"), members.get(f"{what}_file")
    if variable is None and file is None:
        return None
    if (variable is None) == (file is None):
        raise ConfigError(f"{here}: {what}_env or {what}_file, not both")
    if not (variable or file):
        raise ConfigError(f"{here} {what}_{'file' if variable is None else 'env'} is empty")
    shown = f"destination {name}: the {what.replace('_', ' ')}"
    return SecretPlace(shown, variable, None if file is None else str(folder / file))


def _texts(here: str, key: str, members: Mapping[str, Any]) -> tuple[str, ...]:
    told = members.get(key, [])
    if not all(isinstance(one, str) and one for one in told):
        raise ConfigError(f'{here} {key} must be a list of texts, none of them empty: ["…"]')
    if told == [] and key in members and key in ("event_types", "actions", "workspaces"):
        raise ConfigError(f"{here} {key} = []: name them, or leave it out for all")
    return tuple(told)
