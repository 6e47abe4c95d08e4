"""What the parts of a commit look like: each is held against it as it is read.

Two readers that forgive differently read two archives. So nothing is coerced here: `true`
is no 1, `1.0` is no integer, a digest in capitals is no digest, and an object that has a
member twice is none. Members that are not known are not looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from typing import Any, Final, NoReturn, TypeVar

import orjson

from archiver import layout

LARGEST_INTEGER: Final = 2**53 - 1
LARGEST_WINDOW_DAYS: Final = 100_000  # beyond, microseconds of event time overflow
SUFFIXES: Final = ("parquet", "jsonl.gz", "jsonl.zst")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_BATCH: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_ATTEMPT: Final = re.compile(r"[0-9a-f]{28}", re.ASCII)
_NAME: Final = re.compile(rf"[0-9a-f]{{32}}-[0-9a-f]{{28}}-[0-9]+\.({'|'.join(map(re.escape, SUFFIXES))})")

T = TypeVar("T")


class ShapeError(ValueError):
    """A member is not what it must be. Its text goes on "expected a commit, found …"."""


def parse(content: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: It is none, or holds a member twice, or `NaN`, or is not UTF-8.
        RecursionError: It is too deep.
    """
    quick = _of_a_common_writer(content)
    if quick is not None:
        return quick
    tree = json.loads(content.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    if not isinstance(tree, dict):
        raise ShapeError("no object")
    return tree


def _of_a_common_writer(content: bytes) -> dict[str, Any] | None:
    """Return the object whose bytes these are; None where that takes a closer look.

    What a common writer makes of the tree again, byte for byte, holds no member twice.
    """
    try:
        tree = orjson.loads(content)
        is_same = orjson.dumps(tree, option=orjson.OPT_SORT_KEYS) == content
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    return tree if is_same and isinstance(tree, dict) else None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise ShapeError("an object with a member twice")
    return tree


def _no_constant(text: str) -> NoReturn:
    raise ShapeError(f"{text}, which is no JSON")


def count(tree: dict[str, Any], name: str) -> int:
    """Return a member that is an integer from 0, below 2^53."""
    value = tree[name]
    if type(value) is not int or not 0 <= value <= LARGEST_INTEGER:
        raise ShapeError(f"a member `{name}` that is no count: {value!r:.40}")
    return value


def text(tree: dict[str, Any], name: str) -> str:
    """Return a member that is text."""
    value = tree[name]
    if not isinstance(value, str):
        raise ShapeError(f"a member `{name}` that is no text: {value!r:.40}")
    value.encode()  # half characters can be escaped in JSON, and written nowhere
    return value


def _of_form(form: re.Pattern[str], what: str) -> Callable[[dict[str, Any], str], str]:
    def read(tree: dict[str, Any], name: str) -> str:
        value = tree[name]
        if not isinstance(value, str) or form.fullmatch(value) is None:
            raise ShapeError(f"a member `{name}` that is no {what}: {value!r:.80}")
        return value

    return read


digest = _of_form(_DIGEST, "digest")
batch = _of_form(_BATCH, "name of a batch")
attempt = _of_form(_ATTEMPT, "name of an attempt")


def flag(tree: dict[str, Any], name: str) -> bool:
    """Return a member that is true or false."""
    value = tree[name]
    if not isinstance(value, bool):
        raise ShapeError(f"a member `{name}` that is neither true nor false: {value!r:.40}")
    return value


def array(tree: dict[str, Any], name: str, kind: type[T]) -> list[T]:
    """Return a member that is an array of values of one kind (`str` or `dict`)."""
    value = tree[name]
    if not isinstance(value, list) or not all(isinstance(one, kind) for one in value):
        raise ShapeError(f"a member `{name}` that is no array of its kind")
    if kind is str:
        "".join(value).encode()
    return value


def record(tree: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a member that is an object."""
    value = tree[name]
    if not isinstance(value, dict):
        raise ShapeError(f"a member `{name}` that is no object: {value!r:.40}")
    return value


def attempts(tree: dict[str, Any], name: str) -> tuple[str, ...]:
    """Return a member that is an array of attempts."""
    found = tuple(array(tree, name, str))
    if not all(map(_ATTEMPT.fullmatch, found)):
        raise ShapeError(f"a member `{name}` that names no attempt")
    return found


def source(tree: dict[str, Any]) -> dict[str, Any]:
    """Return what the source says: nothing, or its name and, perhaps, a cursor."""
    said = record(tree, "source")
    if said:
        text(said, "name")
    return said


def inputs(tree: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the inputs, each with its name and size, and how many elements were read of it if it tells."""
    said = array(tree, "inputs", dict)
    for one in said:
        text(one, "name")
        count(one, "bytes")
        if "elements" in one:
            count(one, "elements")
    return tuple(said)


def data_key(tree: dict[str, Any]) -> str:
    """Return the `key` of a data file, of one that we can read and of the dataset that is named."""
    key = text(tree, "key")
    folder, _, name = key.rpartition("/")
    dataset = _dataset_in(folder)
    if dataset is None or _NAME.fullmatch(name) is None:
        raise ShapeError(f"a key of no data file: {key!r:.200}")
    if tree["dataset"] != dataset:
        raise ShapeError(f"a file of dataset {tree['dataset']!r:.40} in {key!r:.200}")
    return key


@lru_cache(maxsize=4_096)
def _dataset_in(folder: str) -> str | None:
    try:
        place = layout.partition_of(f"{folder}/")
        if place is None or f"workspace={layout.escape(place.workspace)}/" not in folder:
            return None  # written in another way: one partition would have two names
        date.fromisoformat(place.dt)
    except ValueError:
        return None
    return place.dataset


def archive_problem(said: dict[str, Any]) -> str:
    """Return what a reader of this version does not know in the member `archive`; nothing if it knows all."""
    known: dict[str, Callable[[Any], bool]] = {
        "id": lambda value: isinstance(value, str),
        "data_format": lambda value: value in SUFFIXES,
        "compression_level": lambda value: type(value) is int and 1 <= value <= 19,
        "partitioning": lambda value: value == ["workspace", "dt"],
        "datasets": lambda value: (
            value == dict.fromkeys(layout.DATASETS, 1) and all(type(one) is int for one in value.values())
        ),
        "identity_window_days": lambda value: type(value) is int and 0 <= value <= LARGEST_WINDOW_DAYS,
    }
    for name, is_known in known.items():
        if not is_known(said.get(name)):
            return f"{name} {said.get(name)!r:.120}"
    return ""
