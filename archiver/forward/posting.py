"""Requests as several intakes send them alike: who sends them, and whether they are compressed."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Final

from archiver.errors import ConfigError
from archiver.forward.settings import Destination
from archiver.http import MOST_ANSWER_BYTES, Answer, Client, NoAnswer
from archiver.secret import Secret

_GZIP: Final = 16 + zlib.MAX_WBITS
# Half the time of zlib's own choice, for a tenth more bytes.
_LEVEL: Final = 1


def authorization(destination: Destination, token: Secret | None, password: Secret | None) -> dict[str, str]:
    """Return the header that says who sends: `Bearer`, `Basic` (RFC 7617, in UTF-8), or none.

    Raises:
        ConfigError: The user's name cannot be told.
    """
    if token is not None:
        return {"Authorization": f"Bearer {token.reveal()}"}
    if password is None:
        return {}
    user = destination.user
    if ":" in user or not user.isprintable():
        raise ConfigError(f"destination {destination.name}: user = {user!r:.40}: no colon and no line break")
    told = base64.b64encode(f"{user}:{password.reveal()}".encode()).decode()
    return {"Authorization": f"Basic {told}"}


def post(
    client: Client,
    body: bytes,
    headers: Mapping[str, str],
    *,
    path: str = "",
    gzip: bool = False,
    most_answer_bytes: int = MOST_ANSWER_BYTES,
) -> Answer | NoAnswer:
    """Post `body` once, compressed if `gzip`.

    Raises:
        NotTrustedError: Nothing was sent.
    """
    if gzip:
        compressor = zlib.compressobj(_LEVEL, wbits=_GZIP)
        body = compressor.compress(body) + compressor.flush()
        headers = {**headers, "Content-Encoding": "gzip"}
    return client.post(path, body, headers, most_answer_bytes=most_answer_bytes)
