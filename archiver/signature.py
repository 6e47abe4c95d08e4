"""Signatures of deliveries: HMAC-SHA256 over the raw body, under a secret that both sides know.

    X-Immutable-Signature: sha256=<64 hex digits>

Source: the vendor's description of its log streams. There is neither a time nor a nonce in
it, so a captured delivery can be sent again; only the event's id tells.
"""

from __future__ import annotations

import binascii
import codecs
import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from archiver.errors import ConfigError

HEADER: Final = "X-Immutable-Signature"
LEAST_SECRET_BYTES: Final = 16
MOST_SECRET_BYTES: Final = 4096
MOST_SECRETS: Final = 16

_BLOCK_BYTES: Final = 64
_FORM: Final = b"sha256="
_FORM_BYTES: Final = len(_FORM) + 64
# A secret in hex or base64 is hardly ever of this form.
_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]{0,63}", re.ASCII)


class Secrets:
    """One stream's signing secrets: several while they are rotated. Shows itself to nobody.

    Args:
        values: In the order in which they were configured; the first is the one to sign with.
    """

    __slots__ = ("_keyed",)

    def __init__(self, values: Iterable[bytes]) -> None:
        self._keyed = tuple(_Keyed(value) for value in dict.fromkeys(values))

    def __len__(self) -> int:
        return len(self._keyed)

    def __repr__(self) -> str:
        return f"<{len(self._keyed)} secrets>"

    def __reduce__(self) -> str:
        raise TypeError("secrets are not written anywhere")

    def signs(self, signature: bytes | None, body: bytes | bytearray) -> bool:
        """Whether `signature`, the header's value, is that of `body` under one of the secrets.

        Takes the same time wherever it differs, and whichever secret it is; a value that is
        missing or malformed is no signature.
        """
        given = _given(signature)
        genuine = False
        for keyed in self._keyed:
            genuine |= hmac.compare_digest(keyed.digest(body), given)
        return genuine

    def sign(self, body: bytes) -> str:
        """Return the header's value for `body`, under the first secret."""
        return "sha256=" + self._keyed[0].digest(body).hex()


def _given(signature: bytes | None) -> bytes:
    """Return the digest in a header's value; empty if it has none."""
    if signature is None or len(signature) != _FORM_BYTES or not signature.startswith(_FORM):
        return b""
    try:
        return binascii.unhexlify(signature[len(_FORM) :])
    except binascii.Error:
        return b""


class _Keyed:
    """HMAC-SHA256 (RFC 2104) with what depends on the secret alone computed beforehand.

    `hmac.digest` lets go of the interpreter for the shortest of bodies, and getting it back
    takes ten times as long as the digest where another thread is busy; `hmac.HMAC` does not, but
    copying one takes three times as long as this.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, secret: bytes) -> None:
        key = (hashlib.sha256(secret).digest() if len(secret) > _BLOCK_BYTES else secret).ljust(
            _BLOCK_BYTES, b"\0"
        )
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in key))

    def digest(self, body: bytes | bytearray) -> bytes:
        inner = self._inner.copy()
        inner.update(body)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


def read_secrets(
    variables: Iterable[str],
    files: Iterable[Path | str] = (),
    *,
    environment: Mapping[str, str] | None = None,
) -> Secrets:
    """Read secrets from environment variables and files: one a line, blank lines left out.

    Args:
        variables: Their names.
        files: Their paths; at most 64 KiB each.

    Raises:
        ConfigError: One is missing, empty, unreadable, too short or too long, or there is none
            at all. No message holds a secret, or a part of one.
    """
    environment = os.environ if environment is None else environment
    values: list[bytes] = []
    for name in variables:
        told = environment.get(name)
        if not told or not told.strip():
            raise _without_secret(name)
        values += _lines(os.fsencode(told), f"the variable {name}")
    for file in files:
        values += _lines(_content(Path(file)), str(file))
    if not values:
        raise ConfigError(
            "no secret was named: without one nobody could tell a genuine delivery",
            hint="name the variable or the file that holds it: --secret-env NAME or --secret-file FILE, "
            "or secret_env or secret_file of the stream",
        )
    if len(values) > MOST_SECRETS:
        raise ConfigError(f"{len(values)} secrets for one stream; at most {MOST_SECRETS}")
    return Secrets(values)


def may_be_variable(name: str) -> bool:
    """Whether `name` looks like a variable's, and not like a secret in the wrong place."""
    return _VARIABLE.fullmatch(name) is not None


def _without_secret(name: str) -> ConfigError:
    """Tell that a variable is not set; not its name if that may be the secret, in the wrong place."""
    if not may_be_variable(name):
        return ConfigError(
            "what is named as the variable with the secret is no variable: is it the secret itself?",
            hint='name the variable, as in --secret-env NAME or secret_env = ["NAME"]; '
            "what is in a flag or a configuration is no secret any more",
        )
    hint = f"set it to the stream's signing secret, as its page at the sender shows it: export {name}=…"
    return ConfigError(f"the variable {name} holds no secret", hint=hint)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(65_537)
    except (OSError, ValueError) as error:  # a path with NUL in it is a ValueError
        told = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: the secret cannot be read: {told}") from None
    if len(content) > 65_536:
        raise ConfigError(f"{path}: more than 64 KiB, so it is no file of secrets")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError(
            f"{path}: is UTF-16, in which no secret is what it looks like", hint="save it as UTF-8"
        )
    # Some editors begin a file so; as a part of the secret it would refuse every delivery.
    return content.removeprefix(codecs.BOM_UTF8)


def _lines(content: bytes, where: str) -> list[bytes]:
    values = [line.strip(b" \t\r") for line in content.split(b"\n") if line.strip(b" \t\r")]
    if not values:
        raise ConfigError(f"{where}: holds no secret")
    for value in values:
        if not LEAST_SECRET_BYTES <= len(value) <= MOST_SECRET_BYTES:
            raise ConfigError(
                f"{where}: a secret of {len(value)} bytes, not {LEAST_SECRET_BYTES} to {MOST_SECRET_BYTES}",
                hint="one secret a line; make one with: openssl rand -hex 32",
            )
    return values
