"""Until when a certificate holds, read from its DER alone: no key is needed, and no handshake.

Source: RFC 5280, section 4.1; ITU-T X.690 for the encoding.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from archiver.errors import ConfigError

_LARGEST_BYTES: Final = 1 << 20
_BLOCK: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME, _GENERALIZED_TIME = 0xA0, 0x17, 0x18


class Validity(NamedTuple):
    """When one certificate begins to hold, and ends."""

    begins_at: datetime
    ends_at: datetime


def validities(path: Path) -> list[Validity]:
    """Return the times of each certificate in a PEM file, the server's own first.

    Raises:
        ConfigError: It cannot be read, or holds no certificate.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: the certificate cannot be read: {error.strerror}") from error
    blocks = _BLOCK.findall(content)
    if not blocks:
        raise ConfigError(f"{path}: holds no certificate as PEM")
    try:
        return [_validity(ssl.PEM_cert_to_DER_cert(block.decode("ascii"))) for block in blocks]
    except (ValueError, IndexError, StopIteration) as error:
        raise ConfigError(f"{path}: holds a damaged certificate") from error


def _validity(der: bytes) -> Validity:
    certificate = next(_elements(der))[1]
    signed = list(_elements(next(_elements(certificate))[1]))
    # version (may be absent), serial number, algorithm, issuer, validity
    position = 4 if signed[0][0] == _VERSION else 3
    begins, ends = list(_elements(signed[position][1]))
    return Validity(_time(*begins), _time(*ends))


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of the elements that stand one after another."""
    position = 0
    while position < len(content):
        tag, length = content[position], content[position + 1]
        position += 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(content[position : position + count])
            position += count
        if position + length > len(content):
            raise ValueError("an element that is longer than what holds it")
        yield tag, content[position : position + length]
        position += length


def _time(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if tag == _UTC_TIME:  # years 1950 to 2049
        text = ("20" if int(text[:2]) < 50 else "19") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
