"""Members that are dropped, or replaced by a keyed hash, before an event leaves this machine.

    drop = ["ip_address", "metadata.card", "targets.*.name"]
    hash = ["actor_name", 'metadata."e-mail address"']

A path names a member of an event, whatever shape it comes in: `actor_name`, `data.actor_name`,
`actor.name` and `data.actor.name` are one path. It is looked for in a delivery (`data.actor_name`,
`data.actor.name`), in a row of a database (`actor_name`), in the event that an alert repeats
(`event.actor_name`) and in the envelope. Rather too much is taken away than too little:

- *A list is passed through*: `targets.name` and `targets.*.name` are the same.
- *A dot may be part of a name*: `metadata.card.number` is also the member `card.number` of
  `metadata`, unless the name is quoted.
- *Text that holds a JSON object or list is looked into*, and written as JSON text again. If it
  begins as such but is not sound, it is dropped or hashed whole.
- *`actor` is all of the actor*: `actor_id`, `actor_name`, `actor_type`. So is `integrity`, and
  `resource.*`; `resource` alone is the type, as in a delivery.

Known hole: free text is not searched. An alert's `reason` may name an actor: drop it too.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import product
from typing import Any, Final

from archiver import columns
from archiver.errors import ConfigError
from archiver.forward.exact import canonical, parse_text, write
from archiver.forward.settings import Destination
from archiver.jsontext import is_json

PREFIX: Final = "hmac-sha256:"
LEAST_KEY_BYTES: Final = 16
MOST_SEGMENTS: Final = 8

Path = tuple[str, ...]

_ANY: Final = "*"
# Where the members of an event may lie in a body.
_BASES: Final[tuple[Path, ...]] = ((), ("data",), ("event",), ("event", "data"))
_FLAT: Final = {(o, m): flat for o, inner in columns.NESTED.items() for m, flat in inner.items()}
_NESTED: Final = {flat: nested for nested, flat in _FLAT.items()}
# By these a destination knows which event it has; they stand around the payload, too.
_NEEDED: Final = frozenset({"id", "alert_id", "event_type", "workspace_id", "action"})
_SEGMENT: Final = re.compile(r'"((?:[^"\\]|\\["\\])+)"|([^."\[\]\\\s]+(?: +[^."\[\]\\\s]+)*)')


class _Name(str):
    """A segment that was quoted: it is not joined with others, and its `*` stands for itself."""

    __slots__ = ()


class _Hash(str):
    """What was put for a value; it is not hashed again."""

    __slots__ = ()


def parse_path(text: str) -> Path:
    """Return the segments of a path as it is configured.

    Raises:
        ConfigError: It is none, or its meaning is not certain.
    """
    path: list[str] = []
    at = 0
    while True:
        found = _SEGMENT.match(text, at)
        if found is None:
            hint = "names with dots between them; a name with other characters in double quotes; `*` for any"
            raise ConfigError(f"{text!r:.80} is no path of a member", hint=hint)
        quoted = found[1]
        path.append(found[2] if quoted is None else _Name(re.sub(r"\\(.)", r"\1", quoted)))
        at = found.end()
        if at == len(text):
            break
        if text[at] != ".":
            raise ConfigError(f"{text!r:.80}: a dot is expected behind {text[:at]!r:.80}")
        at += 1
    if len(path) > MOST_SEGMENTS:
        raise ConfigError(f"{text!r:.80}: a path has at most {MOST_SEGMENTS} names")
    return tuple(path)


def _is_any(segment: str) -> bool:
    return segment == _ANY and type(segment) is str


def _members_of(path: Path, shown: str) -> list[Path]:
    """Return the flat members that a path means, without what it begins with: `data`, `event`."""
    told = path
    if path[0] == "event" and len(path) > 1:
        path = path[1:]
    if path[0] == "data":
        path = path[1:]
    if not path or _is_any(path[0]):
        raise ConfigError(
            f"{shown!r:.80} is no member of an event: it would leave nothing", hint="as in: data.metadata"
        )
    if path[0] in columns.NESTED:
        flats = [(flat,) for (outer, _), flat in _FLAT.items() if outer == path[0]]
        if len(path) == 1 and path[0] != "resource":
            return [path, *flats]
        if len(path) == 2 and _is_any(path[1]):
            return [path, *flats, ("resource",)] if path[0] == "resource" else [path, *flats]
        if path[:2] in _FLAT:
            path = (_FLAT[path[0], path[1]], *path[2:])
    if path[0] in _NEEDED and len(path) == 1:
        raise ConfigError(
            f"{shown!r:.80}: {path[0]} says which event it is, and goes to every destination",
            hint="filter such events out, if they must not leave",
        )
    # An event may have a member `event` or `data` of its own.
    return [path] if path == told else [path, told]


def _places(path: Path) -> Iterator[Path]:
    """Yield all the places in a body in which a flat member may lie."""
    variants = [path]
    if path[0] in _NESTED:
        variants.append((*_NESTED[path[0]], *path[1:]))
    for base, variant in product(_BASES, variants):
        yield from _joined((*base, *variant))


def _joined(path: Path) -> Iterator[Path]:
    """Yield the path, and all that become of it if dots are taken for parts of names."""
    if len(path) < 2:
        yield path
        return
    first, second = path[0], path[1]
    for rest in _joined(path[1:]):
        yield (first, *rest)
    if type(first) is str and type(second) is str and _ANY not in (first, second):
        yield from _joined((f"{first}.{second}", *path[2:]))


class _Node:
    """Members to look for in an object or list: those to end at, and those to go on into."""

    __slots__ = ("ends", "inner", "texts")

    def __init__(self) -> None:
        self.ends: set[str] = set()
        self.texts: set[str] = set()  # to end at, unless it is an object
        self.inner: dict[str, _Node] = {}

    def add(self, path: Path, *, is_text: bool) -> None:
        node = self
        for segment in path[:-1]:
            node = node.inner.setdefault(_key(segment), _Node())
        ends = node.texts if is_text else node.ends
        ends.add(_key(path[-1]))


def _key(segment: str) -> str:
    # A name that is `*` stands for itself if it was quoted; no member has the name of `_STAR`.
    return _STAR if _is_any(segment) else str(segment)


_STAR: Final = "\ud800*"
_SPACE: Final = " \t\r\n\ufeff"
_Change = Callable[[Any], Any]
_GONE: Final = object()


class Members:
    """What is dropped and hashed for one destination; all is dropped before anything is hashed.

    Raises:
        ConfigError: A path is none; one is to be dropped and hashed; the key is missing or short.
    """

    def __init__(self, destination: Destination, environment: Mapping[str, str] | None = None) -> None:
        here = f"destination {destination.name}"
        dropped = _flat_paths(f"{here}: drop", destination.drop)
        hashed = _flat_paths(f"{here}: hash", destination.hash)
        for path, shown in hashed.items():
            if path in dropped:
                raise ConfigError(f"{here}: {shown!r:.80} is in drop and in hash")
        self._drop, self._hash = _tree_of(dropped), _tree_of(hashed)
        self.is_nothing = not (dropped or hashed)
        self._key = b""
        if hashed:
            if destination.hash_key is not None:
                self._key = destination.hash_key.read(environment).reveal().encode()
            if len(self._key) < LEAST_KEY_BYTES:
                raise ConfigError(
                    f"{here}: the hash key has less than {LEAST_KEY_BYTES} characters",
                    hint="32 random bytes in hex or base64 are a good one",
                )

    def __repr__(self) -> str:
        return "<Members>"

    def alter(self, tree: Any) -> Any:
        """Return `tree`, a parsed body, without what is dropped, and with hashes. It is changed itself."""
        for node, change in ((self._drop, _drop), (self._hash, self._hashed)):
            if node is not None:
                _walk(tree, node, change)
        return tree

    def _hashed(self, value: Any) -> Any:
        if value is None or isinstance(value, _Hash):
            return value
        return _Hash(PREFIX + hmac.digest(self._key, canonical(value), "sha256").hex())


def _drop(_: Any) -> Any:
    return _GONE


def _flat_paths(here: str, told: Sequence[str]) -> dict[Path, str]:
    found: dict[Path, str] = {}
    for text in told:
        try:
            found.update((path, text) for path in _members_of(parse_path(text), text))
        except ConfigError as error:
            raise ConfigError(f"{here}: {error.message}", hint=error.hint) from None
    return found


def _tree_of(paths: Mapping[Path, str]) -> _Node | None:
    if not paths:
        return None
    root = _Node()
    for path in paths:
        for place in _places(path):
            # `resource` is the type; the nested shape has it within an object of that name.
            root.add(place, is_text=path == ("resource",) and place[-1] == "resource")
    return root


def _walk(value: Any, node: _Node, change: _Change) -> Any:
    """Change what `node` names in `value`; return what stands for `value` then."""
    if type(value) is dict:
        for name in _found(value, node.ends):
            _put(value, name, change(value[name]))
        for name in node.texts:
            if name in value and type(value[name]) is not dict:
                _put(value, name, change(value[name]))
        if node.inner:
            for name in _found(value, node.inner.keys()):
                for key in (name, _STAR):
                    if key in node.inner and name in value:
                        _put(value, name, _walk(value[name], node.inner[key], change))
    elif type(value) is list:
        _walk_list(value, [node], change)
    elif type(value) is str and value.lstrip(_SPACE).startswith(("{", "[", '"')):
        return _walk_text(value, node, change)
    return value


def _found(value: dict[str, Any], names: Set[str]) -> list[str]:
    return list(value) if _STAR in names else list(names & value.keys())


def _put(value: dict[str, Any], name: str, changed: Any) -> None:
    if changed is _GONE:
        del value[name]
    else:
        value[name] = changed


def _walk_list(value: list[Any], nodes: list[_Node], change: _Change) -> None:
    """`*` is each element; any other name is looked for in each element.

    A list within a list is gone into once, for all nodes: node by node it would be gone into more
    often with each level.
    """
    if any(_STAR in node.ends for node in nodes):
        value[:] = [changed for one in value if (changed := change(one)) is not _GONE]
    inner = (node.inner[_STAR] for node in nodes if _STAR in node.inner)
    nodes = list(dict.fromkeys([*nodes, *inner]))
    changed = []
    for one in value:
        left = one
        if type(one) is list:
            _walk_list(one, nodes, change)
        else:
            for node in nodes:
                if left is not _GONE:
                    left = _walk(left, node, change)
        if left is not _GONE:
            changed.append(left)
    value[:] = changed


def _walk_text(text: str, node: _Node, change: _Change) -> Any:
    if not is_json(text):
        # Nobody can tell what is in it; a text in quotes is hardly meant as JSON.
        return text if text.lstrip(_SPACE).startswith('"') else change(text)
    tree = parse_text(text)
    before = write(tree)
    after = write(_walk(tree, node, change))
    return text if after == before else after.decode()
