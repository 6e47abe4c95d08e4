"""Verdicts: what the schemas say of a tree, and what exactly is wrong with it.

The judge is `jsonschema`, draft 2020-12, formats asserted. The *sieve* is jsonschema-rs on
schemas cut down to what both read alike: it may only acquit.
"""

from __future__ import annotations

import functools
import json
from itertools import islice
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # the drafts; fetches nothing
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from archiver.errors import ConfigError
from archiver.event import Form, parse_instant
from archiver.jsontext import is_too_deep, is_unicode, parse_strictly

LONGEST_DETAIL: Final = 500
_LONGEST_EXCERPT: Final = 80
_MOST_ERRORS: Final = 100  # that are weighed for the best one to tell

_SCHEMAS: Final = Path(__file__).parent / "schemas"
_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_HINT: Final = "a schema is JSON Schema draft 2020-12 in one file; put what it refers to under $defs"

Schema = dict[str, Any] | bool


@functools.cache
def schema_text(name: str) -> str:
    """Return the text of one of our own schemas, such as `event-webhook.1`."""
    return (_SCHEMAS / f"{name}.json").read_text()


def targets_schema() -> dict[str, Any]:
    """Return the part of our schema of flat webhook events that is for `targets`."""
    own: dict[str, Any] = json.loads(schema_text("event-webhook.1"))
    found: dict[str, Any] = own["properties"]["data"]["properties"]["targets"]
    return found


def check_schema(text: str) -> Schema:
    """Parse a user's schema and prove that it can be used to judge.

    Raises:
        ConfigError: It is no draft 2020-12 schema, or refers to something outside itself.
    """
    try:
        if is_too_deep(text):
            raise ConfigError("schema: more than 128 levels", hint=_HINT)
        schema = parse_strictly(text)
    except ValueError as error:
        raise ConfigError(f"schema: not JSON: {error}", hint=_HINT) from error
    if not isinstance(schema, dict | bool):
        raise ConfigError("schema: an object was expected", hint=_HINT)
    if isinstance(schema, dict) and schema.get("$schema", _DRAFT) not in (_DRAFT, _DRAFT + "#"):
        raise ConfigError(f"schema: $schema is {schema['$schema']!r}, expected {_DRAFT}", hint=_HINT)
    try:
        Draft202012Validator.check_schema(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
        _resolve_all(schema)
    except SchemaError as error:
        raise ConfigError(f"schema: {describe(error)}", hint=_HINT) from error
    except Unresolvable as error:
        raise ConfigError(f"schema: {error.ref!r} leads outside the schema", hint=_HINT) from error
    except ConfigError:
        raise
    except Exception as error:  # what a schema makes its checker raise is the schema's fault
        raise ConfigError(f"schema: {type(error).__name__}: {error}", hint=_HINT) from error
    return schema


def _refuse_unasserted(name: Any) -> None:
    """A format that nobody checks would let through what the schema's author wants to stop."""
    known = Draft202012Validator.FORMAT_CHECKER.checkers
    if isinstance(name, str) and name not in known:
        raise ConfigError(
            f"schema: format {name!r} is not checked here",
            hint=f"use a pattern instead, or one of: {', '.join(sorted(known))}",
        )


def _resolve_all(schema: Schema) -> None:
    """Look up every reference in `schema`, in advance of any event, and every format."""
    resource = DRAFT202012.create_resource(schema)
    resolver = REGISTRY.with_resource(resource.id() or "", resource).resolver(resource.id() or "")
    pending = [(resource, resolver)]
    seen: set[int] = set()
    while pending:
        here, resolver = pending.pop()
        if id(here.contents) in seen:
            continue
        seen.add(id(here.contents))
        if isinstance(here.contents, dict):
            _refuse_unasserted(here.contents.get("format"))
            for keyword in ("$ref", "$dynamicRef"):
                if keyword in here.contents:
                    found = resolver.lookup(here.contents[keyword])
                    if isinstance(found.contents, dict | bool):
                        pending.append((DRAFT202012.create_resource(found.contents), found.resolver))
        pending.extend((inner, resolver.in_subresource(inner)) for inner in here.subresources())


class Judge:
    """The verdict of one or more schemas on a tree. All of them must hold."""

    def __init__(self, schemas: list[Schema]) -> None:
        checker = Draft202012Validator.FORMAT_CHECKER
        if "date-time" not in checker.checkers:
            raise ConfigError(
                "jsonschema does not check date-time here, so it cannot judge",
                hint="install rfc3339-validator",
            )
        self._validators = [
            Draft202012Validator(schema, format_checker=checker, registry=REGISTRY) for schema in schemas
        ]

    def error(self, tree: Any) -> ValidationError | None:
        """Return what is wrong with `tree`, or None if it is valid.

        Raises:
            Exception: Whatever the judge raises (an overflow, a bad regular expression, endless
                recursion): then there is no verdict.
        """
        for validator in self._validators:
            first = list(islice(validator.iter_errors(tree), _MOST_ERRORS))
            if first:
                best: ValidationError = best_match(first)
                return best
        return None

    def allows(self, tree: Any) -> bool:
        """Whether nothing is wrong with `tree`; quicker than `error`, which looks for the best reason.

        Raises:
            Exception: As `error`.
        """
        return all(validator.is_valid(tree) for validator in self._validators)


class Sieve:
    """Proof, in a few microseconds, that the judge would find nothing.

    Of our own schemas it leaves out date-times and patterns: `archiver.validate` proves
    those. Of a user's it takes a short list of keywords or nothing at all.
    """

    def __init__(self, own: Schema, user: Schema | None) -> None:
        self._validators: list[Any] | None = [_compile(_without_text_rules(own))]
        if user is not None:
            understood = _understood(user)
            if understood is None:
                self._validators = None
            else:
                self._validators.append(_compile(understood))

    def acquits(self, tree: Any) -> bool:
        """Whether `tree`, whose values are plain (`jsontext.is_plain`), is proven valid."""
        if self._validators is None:
            return False
        return all(validator.is_valid(tree) for validator in self._validators)


def _compile(schema: Schema) -> Any:
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=False, offline=True)


def _without_text_rules(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            name: _without_text_rules(value)
            for name, value in schema.items()
            if not (name in ("format", "pattern") and isinstance(value, str))
        }
    return schema


_ANNOTATIONS: Final = frozenset(
    {"$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated"}
)


def _alike(keyword: str, value: Any) -> Any:
    """Return the value of `keyword` that both libraries read alike, or None."""
    if keyword == "properties":
        inner = {name: _understood(each) for name, each in value.items()}
        return None if None in inner.values() else inner
    if keyword == "items":
        return _understood(value)
    is_alike = {
        "type": True,
        "required": True,
        "additionalProperties": isinstance(value, bool),
        "const": isinstance(value, str),
        "enum": isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value),
        "minLength": type(value) is int and value < 2**31,
        "maxLength": type(value) is int and value < 2**31,
    }
    return value if is_alike.get(keyword, False) else None


def _understood(schema: Schema) -> Schema | None:
    """Return `schema` without annotations if both libraries surely read it alike, else None."""
    if isinstance(schema, bool):
        return schema
    kept: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword in _ANNOTATIONS:
            continue
        alike = _alike(keyword, value)
        if alike is None:
            return None
        kept[keyword] = alike
    return kept if is_unicode(json.dumps(kept, ensure_ascii=False)) else None


# --- in words ------------------------------------------------------------------------------------


def bounded(text: str) -> str:
    """Cut a detail to 500 characters that can be written as UTF-8."""
    text = text if len(text) <= LONGEST_DETAIL else text[: LONGEST_DETAIL - 1] + "…"
    return text.encode("utf-8", "backslashreplace").decode()[:LONGEST_DETAIL]


def excerpt(value: Any) -> str:
    """Show a value of a body, shortly."""
    if isinstance(value, dict):
        return f"an object of {len(value)} members"
    if isinstance(value, list):
        return f"an array of {len(value)} elements"
    if isinstance(value, str) and len(value) > _LONGEST_EXCERPT:
        return ascii(value[:_LONGEST_EXCERPT]) + f"… ({len(value)} characters)"
    try:
        text = json.dumps(value)
    except ValueError:  # an integer of more digits than Python writes
        return "a very long number"
    return text if len(text) <= _LONGEST_EXCERPT else text[:_LONGEST_EXCERPT] + "…"


def describe(error: ValidationError | SchemaError) -> str:
    """Say in words where `error` is, what was expected there and what was found."""
    where = ".".join(str(step) for step in error.absolute_path) or "event"
    keyword, value = str(error.validator), error.instance
    rule: Any = error.validator_value
    if keyword in ("required", "anyOf") and isinstance(value, dict):
        missing = [_missing(one, value) for one in (rule if keyword == "anyOf" else [{"required": rule}])]
        if all(missing):
            return bounded(f"{where}: required, but missing: {' or '.join(missing)}")
    if keyword == "type":
        kinds = " or ".join([rule] if isinstance(rule, str) else rule)
        return bounded(f"{where}: expected {kinds}, found {excerpt(value)}")
    if keyword == "format":
        return bounded(f"{where}: expected a {rule}, found {excerpt(value)}")
    if keyword in ("const", "enum"):
        return bounded(f"{where}: expected {json.dumps(rule)[:200]}, found {excerpt(value)}")
    if keyword == "None" or (keyword == "not" and rule == {}):  # a schema that is `false`
        return bounded(f"{where}: nothing is allowed here, found {excerpt(value)}")
    return bounded(f"{where}: {keyword} {json.dumps(rule)[:200]} does not hold for {excerpt(value)}")


def _missing(schema: Any, value: dict[str, Any]) -> str:
    """Name the members that `schema` requires and `value` has not."""
    required = schema.get("required", []) if isinstance(schema, dict) else []
    return ", ".join(str(name) for name in required if name not in value)


def is_in_year_0(error: ValidationError) -> bool:
    """Whether the judge only refused an instant because Python's calendar begins with year 1."""
    if error.validator != "format" or error.validator_value != "date-time":
        return False
    return str(error.instance).startswith("0000") and parse_instant(str(error.instance)) is not None


class FormRules:
    """Judge and sieve of one form."""

    def __init__(self, form: Form, user: Schema | None) -> None:
        own: Schema = json.loads(schema_text(form.schema))
        self.judge = Judge([own] if user is None else [own, user])
        self.sieve = Sieve(own, user)
        self.has_user_schema = user is not None
