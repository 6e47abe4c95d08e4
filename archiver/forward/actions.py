"""What an action is to a SIEM: a class and an activity of OCSF, and whether it succeeded.

    "auth.login_failed" = {class = 3002, activity = "Logon", status = "Failure"}
    "billing.*" = {class = 3004, activity = "Update"}

A pattern stands for whole actions; `*` is any text. The first that matches counts, those of the
user's file before those of `ocsf_actions.toml` in this package. An action that no pattern knows is
API Activity: its verb tells the activity (`created`, `ListBuckets`), and if it is none that is
known, the activity is Other, under its own name.

Classes, activities and their numbers: OCSF 1.8.0, https://github.com/ocsf/ocsf-schema.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple

from archiver.errors import ConfigError
from archiver.forward.wanted import matcher

VERSION: Final = "1.8.0"
OTHER: Final = 99
API_ACTIVITY: Final = 6003
DETECTION_FINDING: Final = 2004
STATUSES: Final = {"Unknown": 0, "Success": 1, "Failure": 2}
SEVERITIES: Final = {
    "Unknown": 0, "Informational": 1, "Low": 2, "Medium": 3, "High": 4, "Critical": 5, "Fatal": 6,
}  # fmt: skip

_MOST_REMEMBERED: Final = 65_536
_LARGEST_FILE: Final = 1 << 20
_CATEGORIES: Final = {2: "Findings", 3: "Identity & Access Management", 6: "Application Activity"}


class OcsfClass(NamedTuple):
    """A class: its caption, and the captions of its activities by their numbers."""

    name: str
    activities: dict[int, str]


def _numbered(*names: str) -> dict[int, str]:
    return {0: "Unknown", **dict(enumerate(names, 1)), OTHER: "Other"}


CLASSES: Final[dict[int, OcsfClass]] = {
    3001: OcsfClass(
        "Account Change",
        _numbered(
            "Create", "Enable", "Password Change", "Password Reset", "Disable", "Delete", "Attach Policy",
            "Detach Policy", "Lock", "MFA Factor Enable", "MFA Factor Disable", "Unlock",
        ),
    ),
    3002: OcsfClass(
        "Authentication",
        _numbered(
            "Logon", "Logoff", "Authentication Ticket", "Service Ticket Request", "Service Ticket Renew",
            "Preauth", "Account Switch",
        ),
    ),
    3004: OcsfClass(
        "Entity Management",
        _numbered(
            "Create", "Read", "Update", "Delete", "Move", "Enroll", "Unenroll", "Enable", "Disable",
            "Activate", "Deactivate", "Suspend", "Resume",
        ),
    ),
    3005: OcsfClass("User Access Management", _numbered("Assign Privileges", "Revoke Privileges")),
    3006: OcsfClass(
        "Group Management",
        _numbered(
            "Assign Privileges", "Revoke Privileges", "Add User", "Remove User", "Delete", "Create",
            "Add Subgroup", "Remove Subgroup",
        ),
    ),
    API_ACTIVITY: OcsfClass("API Activity", _numbered("Create", "Read", "Update", "Delete")),
}  # fmt: skip
_FINDING: Final = OcsfClass("Detection Finding", _numbered("Create", "Update", "Close"))

_VERBS: Final = {
    1: "create created add added insert inserted upload uploaded import imported invite invited register "
    "registered generate generated issue issued put run start started open opened copy copied",
    2: "read view viewed get list listed describe download downloaded export exported search searched query "
    "queried access accessed head lookup preview previewed scan scanned",
    3: "update updated change changed modify modified edit edited set rename renamed move moved enable "
    "enabled disable disabled rotate rotated share shared unshare unshared assign assigned attach attached "
    "detach detached grant granted revoke revoked restore restored archive archived approve approved publish "
    "published associate tag untag lock locked unlock unlocked reset suspend suspended resume resumed paid "
    "refunded stop stopped",
    4: "delete deleted remove removed destroy destroyed purge purged erase erased terminate terminated",
}
_VERB_OF: Final = {word: activity for activity, words in _VERBS.items() for word in words.split()}
_FAILURES: Final = frozenset({"fail", "failed", "failure", "denied", "rejected", "refused", "unauthorized"})
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@dataclass(frozen=True, slots=True)
class Choice:
    """What an action is.

    Attributes:
        head: The members of an OCSF event that follow from it: class, activity, type, severity, status.
        otherwise: What it is if an event lacks what the class requires; None of API Activity.
    """

    class_uid: int
    activity_id: int
    head: dict[str, Any]
    status: str
    otherwise: Choice | None = None


def _choice(
    class_uid: int, activity_id: int, status: str, severity: str, *, name: str = "", api: Choice | None = None
) -> Choice:
    ocsf_class = _FINDING if class_uid == DETECTION_FINDING else CLASSES[class_uid]
    activity = ocsf_class.activities[activity_id]
    shown = name if activity_id == OTHER and name else activity
    head = {
        "category_uid": class_uid // 1000,
        "category_name": _CATEGORIES[class_uid // 1000],
        "class_uid": class_uid,
        "class_name": ocsf_class.name,
        "activity_id": activity_id,
        "activity_name": shown,
        "type_uid": class_uid * 100 + activity_id,
        "type_name": f"{ocsf_class.name}: {activity}",
        "severity_id": SEVERITIES[severity],
        "severity": severity,
    }
    if class_uid != DETECTION_FINDING:
        head |= {"status_id": STATUSES[status], "status": status}
    return Choice(class_uid, activity_id, head, status, api)


# The vendor tells no severity of an alert.
ALERT_CHOICE: Final = _choice(DETECTION_FINDING, 1, "Unknown", "Unknown")


class Rule(NamedTuple):
    """One line of a table."""

    pattern: str
    class_uid: int
    activity_id: int
    status: str | None
    severity: str


class Actions:
    """The table from actions to classes and activities."""

    def __init__(self, rules: list[Rule]) -> None:
        self._rules = [(matcher((rule.pattern,)), rule) for rule in rules]
        self._known: dict[str, Choice] = {}

    @classmethod
    def load(cls, path: str | None = None) -> Actions:
        """Read the table of this package, behind that of the file at `path` if there is one.

        Raises:
            ConfigError: The file cannot be read, or a line of it means nothing; names it.
        """
        rules = [] if path is None else _rules(path, _read(path))
        return cls([*rules, *_built_in()])

    def of(self, action: str) -> Choice:
        """Return what an action is."""
        return self._known.get(action) or self._decided(action)

    def _decided(self, action: str) -> Choice:
        words = [word.lower() for word in _WORD.findall(action)]
        tail = [word.lower() for word in _WORD.findall(action.rpartition(".")[2])]
        failed = not _FAILURES.isdisjoint(words)
        verb = next((_VERB_OF[word] for word in tail if word in _VERB_OF), None)
        rule = next((rule for pattern, rule in self._rules if pattern.fullmatch(action)), None)
        status = "Failure" if failed else "Unknown" if verb is None and rule is None else "Success"
        severity = "Informational"
        if rule is not None:
            status, severity = rule.status or status, rule.severity
        name = action.rpartition(".")[2] or action or "Other"
        choice = _choice(API_ACTIVITY, verb or OTHER, status, severity, name=name)
        if rule is not None:
            api = None if rule.class_uid == API_ACTIVITY else choice
            choice = _choice(rule.class_uid, rule.activity_id, status, severity, name=name, api=api)
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[action] = choice
        return choice


@cache
def _built_in() -> list[Rule]:
    name = "ocsf_actions.toml"
    return _rules(name, (resources.files("archiver.forward") / name).read_text(encoding="utf-8"))


def _read(path: str) -> str:
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"ocsf_actions: {path}: cannot be read: {why}") from None
    if len(text) > _LARGEST_FILE:
        raise ConfigError(f"ocsf_actions: {path}: is larger than {_LARGEST_FILE} bytes")
    return text


def _rules(where: str, text: str) -> list[Rule]:
    try:
        tree = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{where}: is no TOML: {error}") from None
    return [_rule(where, pattern, told) for pattern, told in tree.items()]


_EXAMPLE: Final = '"billing.*" = {class = 3004, activity = "Update"}'


def _rule(where: str, pattern: str, told: Any) -> Rule:
    here = f"{where}: {pattern!r:.80}"
    if not pattern or not isinstance(told, dict) or not {"class", "activity"} <= told.keys():
        raise ConfigError(f"{here} must say a class and an activity", hint=f"as in {_EXAMPLE}")
    unknown = told.keys() - {"class", "activity", "status", "severity"}
    if unknown:
        raise ConfigError(
            f"{here}: {min(unknown)!r:.40} means nothing", hint="class, activity, status, severity"
        )
    class_uid, activity = told["class"], told["activity"]
    if type(class_uid) is not int or class_uid not in CLASSES:
        known = ", ".join(f"{uid} ({one.name})" for uid, one in CLASSES.items())
        raise ConfigError(f"{here}: class = {class_uid!r:.40}: expected one of {known}")
    activities = CLASSES[class_uid].activities
    found = [uid for uid, name in activities.items() if _same(activity, uid, name)]
    if not found:
        close = difflib.get_close_matches(str(activity), list(activities.values()), 1)
        guess = f"did you mean {close[0]}?" if close else f"known: {', '.join(activities.values())}"
        raise ConfigError(f"{here}: {CLASSES[class_uid].name} has no activity {activity!r:.40} ({guess})")
    status, severity = told.get("status"), told.get("severity", "Informational")
    for key, value, known_values in (("status", status, STATUSES), ("severity", severity, SEVERITIES)):
        if key in told and (not isinstance(value, str) or value not in known_values):
            raise ConfigError(f"{here}: {key} = {value!r:.40}: expected one of {', '.join(known_values)}")
    return Rule(pattern, class_uid, found[0], status, severity)


def _same(told: Any, uid: int, name: str) -> bool:
    if type(told) is int:
        return told == uid
    return isinstance(told, str) and told.lower() == name.lower()
