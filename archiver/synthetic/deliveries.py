"""The stream of deliveries: whose turn it is, when, and what is odd about this one."""

from __future__ import annotations

import json
from binascii import hexlify
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from random import Random
from typing import Any, Final, Literal

from archiver.errors import ConfigError
from archiver.synthetic.cast import Workspace, draw_workspaces, uuid
from archiver.synthetic.invalid import FAULTS, base_event
from archiver.synthetic.scenes import Scene, draw_scene
from archiver.synthetic.story import Step, incident

Kind = Literal["event", "alert", "duplicate", "supplement", "conflict", "invalid"]
# body, received_at, stream, kind, dataset, workspace, id, fault: the fields of generate.Delivery
Fields = tuple[bytes, int, str, Kind, str | None, str | None, str | None, str | None]

_HOUR: Final = 3_600_000_000
_DAY: Final = 24 * _HOUR
_STORY_FROM: Final = 2_000  # with fewer deliveries than this the incident would be most of them
_OLDEST_REPEAT: Final = 25 * _DAY  # well within the 31 days in which an id is recognised
_REMEMBERED: Final = 256
_SCENES: Final = 4_000
_BUSY: Final = (2, 1.5, 1, 1, 1, 1.5, 3, 5, 8, 10, 11, 11, 9, 10, 11, 10, 9, 7, 5, 4, 3.5, 3, 2.5, 2)
_CLOCK: Final = tuple(b"%02d:%02d" % (minute, second) for minute in range(60) for second in range(60))
_RULES: Final = (
    ("new_country", "Suspicious Login", "first activity of this actor from {0.ip_country}"),
    ("high_volume_destructive", "Mass Deletion", "50 deletions by {0.actor_id} in ten minutes"),
    ("ingestion_spike", "Unusual Volume", "4.2 times the usual number of events in an hour – ☂"),
    ("repeated_action", "Repeated Failure", "20 x {0.action} by one actor"),
    ("off_hours", "Night Shift", "{0.action} between 22:00 and 06:00"),
)


@dataclass(frozen=True, slots=True)
class Mix:
    """What to generate; the fields are explained at `archiver.generate.generate`.

    Raises:
        ConfigError: A number is out of its range.
    """

    events: int
    seed: int = 0
    workspaces: int = 60
    days: int = 5
    invalid: float = 0.01
    duplicates: float = 0.005
    conflicts: float = 0.0
    supplements: float = 0.0
    alerts: float = 0.01
    until: date = date(2026, 3, 31)

    def __post_init__(self) -> None:
        for name, least in (("events", 0), ("workspaces", 1), ("days", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: expected at least {least}, found {getattr(self, name)}")
        shares = self.shares()
        if min(shares.values()) < 0 or sum(shares.values()) > 1:
            raise ConfigError(
                f"shares of deliveries: expected none below 0 and at most 1 in all, found {shares}"
            )
        if not 1970 < self.until.year < 9999 or self.days > 10_000:
            raise ConfigError(
                f"{self.days} days until {self.until}: expected days within the years 1971 to 9998"
            )

    def shares(self) -> dict[Kind, float]:
        return {
            "invalid": self.invalid,
            "duplicate": self.duplicates,
            "conflict": self.conflicts,
            "supplement": self.supplements,
            "alert": self.alerts,
        }


@dataclass(frozen=True, slots=True)
class _Earlier:
    """A delivered event of a plain scene."""

    body: bytes
    scene: Scene
    id: str
    at: int


class _Memory:
    """Some earlier events, the latest and a fair sample of the others; none is in both."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._recent: list[_Earlier] = []
        self._old: list[_Earlier] = []
        self._next = 0
        self._left = 0
        self.is_full = False

    def add(self, event: _Earlier) -> None:
        if len(self._recent) < _REMEMBERED:
            self._recent.append(event)
            self.is_full = len(self._recent) == _REMEMBERED
            return
        self._next = (self._next + 1) % _REMEMBERED
        leaving, self._recent[self._next] = self._recent[self._next], event
        self._left += 1
        if len(self._old) < _REMEMBERED:
            self._old.append(leaving)
        elif self._random.random() * self._left < _REMEMBERED:
            self._old[self._random.randrange(_REMEMBERED)] = leaving

    def recent(self) -> _Earlier | None:
        return self._random.choice(self._recent) if self._recent else None

    def pick(self, at: int, *, take: bool) -> _Earlier | None:
        """Give one, mostly a recent one; `take` it so that it is never given again."""
        source = self._old if self._old and self._random.random() < 0.2 else self._recent
        if not source:
            return None
        index = self._random.randrange(len(source))
        event = source[index]
        is_too_old = at - event.at > _OLDEST_REPEAT
        if take or is_too_old:
            source[index] = source[-1]
            source.pop()
            self.is_full = len(self._recent) == _REMEMBERED
        return None if is_too_old else event


class _Oddities:
    """Everything that is not a common event. `shuffle` of the faults makes each come about as often."""

    def __init__(self, random: Random, shares: dict[Kind, float]) -> None:
        self._random = random
        self._limits: list[tuple[float, Kind]] = [*zip(accumulate(shares.values()), shares, strict=True)]
        self._faults = list(FAULTS)
        random.shuffle(self._faults)
        self._spoiled = 0
        self.share = sum(shares.values())
        self.memory = _Memory(random)

    def make(self, draw: float, scene: Scene, at: int, now: int) -> Fields | None:
        """Make what `draw`, below `share`, stands for; None if it repeats and there is nothing yet."""
        kind: Kind = next((kind for limit, kind in self._limits if draw < limit), "alert")
        if kind == "invalid":
            return self._invalid(scene, at, now)
        if kind == "alert":
            return self._alert(scene, at, now)
        return self._repeat(kind, at, now)

    def _invalid(self, scene: Scene, at: int, now: int) -> Fields:
        fault = self._faults[self._spoiled % len(self._faults)]
        self._spoiled += 1
        spoil = FAULTS[fault][1]
        body = spoil(base_event(uuid(self._random), scene.workspace, stamp(at)))
        return body, now, scene.stream, "invalid", None, None, None, fault

    def _alert(self, scene: Scene, at: int, now: int) -> Fields:
        rule_type, rule_name, reason = self._random.choice(_RULES)
        name = f"alt_{uuid(self._random)}"
        earlier = self.memory.recent()
        about, event_id = (earlier.scene, earlier.id) if earlier else (scene, uuid(self._random))
        content = {
            "event_type": "alert.triggered",
            "alert_id": name,
            "rule_name": rule_name,
            "rule_type": rule_type,
            "reason": reason.format(about),
            "event": {
                "id": event_id,
                "action": about.action,
                "actor_id": about.actor_id,
                "ip_country": about.ip_country,
            },
            "workspace_id": about.workspace,
            "triggered_at": stamp(at),
        }
        return _compact(content), now, about.stream, "alert", "alerts", about.workspace, name, None

    def _repeat(self, kind: Kind, at: int, now: int) -> Fields | None:
        """Deliver an event again: as it was, sent anew, with more in it, or contradicting itself."""
        earlier = self.memory.pick(at, take=kind != "duplicate")
        if earlier is None:
            return None
        body, scene = earlier.body, earlier.scene
        if kind != "duplicate" or self._random.random() < 0.5:
            body = body[: -len(stamp(at)) - 2] + f'{stamp(at)}"}}'.encode()  # it is the last member
        if kind == "supplement":
            more = f'"data":{{"event_hash":"{self._random.getrandbits(256):064x}",'.encode()
            body = body.replace(b'"data":{', more, 1)
        elif kind == "conflict":
            body = body.replace(b'"action":"', b'"action":"override.', 1)
        return body, now, scene.stream, kind, "events", scene.workspace, earlier.id, None


def stamp(at: int) -> str:
    """Write microseconds since 1970 as RFC 3339, 27 characters."""
    return f"{_moment(at):%Y-%m-%dT%H:%M:%S.%f}Z"


def _moment(at: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)


def _compact(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _told(step: Step, stream: str, workspace: str, now: int) -> Fields:
    if step.is_alert:
        body = _compact(step.content | {"triggered_at": stamp(step.at)})
        return body, now, stream, "alert", "alerts", workspace, step.name, None
    body = _compact(step.content | {"timestamp": stamp(step.at)})
    return body, now, stream, "event", "events", workspace, step.name, None


def _hours(count: int, first: int, days: int) -> Iterator[tuple[int, int]]:
    """Spread `count` over the hours: busy by day, quiet by night and at weekends."""
    weights = [
        weight * (0.35 if _moment(first + day * _DAY).weekday() >= 5 else 1.0)
        for day in range(days)
        for weight in _BUSY
    ]
    total, cumulated, given = sum(weights), 0.0, 0
    for number, weight in enumerate(weights):
        cumulated += weight
        upto = round(count * min(1.0, cumulated / total))
        yield first + number * _HOUR, upto - given
        given = upto


def _cast_scenes(
    random: Random, tenants: list[Workspace], count: int, *, newlines: bool
) -> tuple[list[Scene], list[float]]:
    """Draw about `count` scenes and their cumulated chances.

    A busy workspace has more of them, not only busier ones: otherwise one user's one failed
    login would repeat all day.
    """
    total = sum(tenant.weight for tenant in tenants)
    scenes: list[Scene] = []
    weights: list[float] = []
    for tenant in tenants:
        own = max(4, round(count * tenant.weight / total))
        scenes += [draw_scene(random, tenant, newlines=newlines) for _ in range(own)]
        weights += [tenant.weight / own] * own
    return scenes, list(accumulate(weights))


def stream(mix: Mix, *, newlines: bool) -> Iterator[Fields]:
    """Yield the fields of each delivery as plain tuples: this loop is what generating costs."""
    random = Random(mix.seed)  # noqa: S311 - it must repeat itself, and nothing here is secret
    first = ((mix.until - date(1970, 1, 1)).days - mix.days + 1) * _DAY
    actors = max(3, min(40, mix.events // (20 * mix.workspaces)))
    tenants = draw_workspaces(random, mix.workspaces, actors=actors)
    scenes, chances = _cast_scenes(random, tenants, min(_SCENES, mix.events // 4), newlines=newlines)
    busiest = tenants[0]
    steps = incident(random, busiest, first + mix.days // 2 * _DAY) if mix.events >= _STORY_FROM else []
    odd = _Oddities(random, mix.shares())
    memory, odd_share = odd.memory, odd.share
    draw, bits_of = random.random, random.getrandbits
    now = 0
    for hour, count in _hours(mix.events - len(steps), first, mix.days):
        # The incident's deliveries take their places among the others of the hour.
        told = [step for step in steps if hour <= step.at < hour + _HOUR][::-1]
        due = told[-1].at if told else hour + _HOUR
        date_and_hour = f"{_moment(hour):%Y-%m-%dT%H:}".encode()
        period = b"%04x" % (hour // (4 * _HOUR) & 0xFFFF)
        gap = _HOUR / max(count, 1)
        for number, scene in enumerate(random.choices(scenes, cum_weights=chances, k=count)):
            inside = int((number + draw()) * gap)
            bits = bits_of(64)
            at = hour + inside
            while at >= due:
                step = told.pop()
                now = max(now, step.at + 40_000)
                yield _told(step, busiest.stream, busiest.id, now)
                due = told[-1].at if told else hour + _HOUR
            if (received := at + 40_000 + (bits & 0x7FFFF)) > now:
                now = received
            if (drawn := draw()) < odd_share and (found := odd.make(drawn, scene, at, now)) is not None:
                yield found
                continue
            digits = hexlify(bits_of(224).to_bytes(28, "big"))
            # cast.uuid, written out: the call would cost a tenth of the whole
            event_id = b"%b-%b-4%b-a%b-%b" % (
                digits[:8],
                digits[8:12],
                digits[13:16],
                digits[17:20],
                digits[20:32],
            )
            last = b"%b%b.%06dZ" % (date_and_hour, _CLOCK[inside // 1_000_000], inside % 1_000_000)
            earlier = inside - (bits >> 20 & 0xFFFFF)
            earlier = max(earlier, 0)
            occurred = b"%b%b.%06dZ" % (date_and_hour, _CLOCK[earlier // 1_000_000], earlier % 1_000_000)
            body = scene.text % (
                event_id,
                digits[32:44],
                period,
                digits[44:],
                b"%d" % (bits >> 40 & 0xFFF),
                occurred,
                last,
                last,
            )
            if scene.is_plain and (not bits >> 60 or not memory.is_full):
                memory.add(_Earlier(body, scene, event_id.decode(), at))
            yield body, now, scene.stream, "event", "events", scene.workspace, event_id.decode(), None
        for step in reversed(told):
            now = max(now, step.at + 40_000)
            yield _told(step, busiest.stream, busiest.id, now)
