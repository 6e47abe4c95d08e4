"""Which keys a store takes. The same on every store, so that an archive can be copied between them."""

from __future__ import annotations

from archiver.durable import TEMPORARY_PREFIX
from archiver.errors import StoreError

LONGEST_KEY_BYTES = 1024


def check_key(key: str) -> str:
    """Return `key` if it names an object inside the archive and nothing else.

    Keys are text relative to the prefix, with `/` between their segments. A ledger may
    have been written by somebody else, so its keys are checked like any other text.

    Raises:
        StoreError: It is empty, absolute or too long, climbs (`..`), or holds a NUL, a
            lone surrogate, an empty segment or the name of a temporary file.
    """
    problem = _problem(key)
    if problem:
        raise StoreError(f"key {key[:200]!r}: {problem}", hint="no archive of this program has such a key")
    return key


def _problem(key: str) -> str:
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "it is not Unicode text"
    if size > LONGEST_KEY_BYTES:
        return f"{size} bytes, more than {LONGEST_KEY_BYTES}"
    if "\0" in key:
        return "it holds a NUL"
    if f"/{key}".find(f"/{TEMPORARY_PREFIX}") >= 0:
        return "that is the name of a temporary file"
    # An absolute key and one that ends in `/` have an empty segment, and so has the empty key.
    if not {"", ".", ".."}.isdisjoint(key.split("/")):
        return "an empty segment, `.` or `..` in it"
    return ""
