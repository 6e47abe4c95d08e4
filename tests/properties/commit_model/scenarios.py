"""Who meets whom, and what may go wrong meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from .state import Entry, Faults, Job, Key, Process, State, entry


@dataclass(frozen=True)
class Scenario:
    """A search's start.

    Attributes:
        tells: One line for readers.
        processes: Everybody, in any state of readiness.
        faults: What may go wrong.
        ledger: What is committed already; all objects that it ever added lie there.
        is_long: Whether the search takes more than a few seconds.
    """

    tells: str
    processes: tuple[Process, ...]
    faults: Faults = Faults()  # noqa: RUF009 (frozen)
    ledger: tuple[Entry, ...] = ()
    is_long: bool = False

    def start(self) -> State:
        objects = frozenset(each for e in self.ledger for each in e.added)
        return State(self.ledger, objects, processes=self.processes, durable=len(self.ledger))


def _faults(deaths: str = "", lost: str = "", late: str = "", *, power: bool = False) -> Faults:
    return Faults(frozenset(deaths), frozenset(lost), frozenset(late), power)


def _append(name: str, delivery: str, rows: str, *, inputs: str = "", bad_line: bool = False) -> Process:
    job = Job("append", inputs or f"inputs-{delivery}", (delivery,), tuple(rows), bad_line=bad_line)
    return Process(name, job)


def _adopter(name: str, owner: Process, *, of_the_living: bool = False, found_since: str = "") -> Process:
    job = owner.job
    return Process(
        name,
        Job(
            "append",
            job.inputs,
            job.deliveries,
            job.rows,
            bad_line=job.bad_line,
            adopts=owner.name,
            adopts_the_living=of_the_living,
            found_since=tuple(found_since.split()),
        ),
    )


def _archived(number: int, rows: str) -> Entry:
    name = f"old{number}"
    added = ((Key("events", name, name), tuple(rows)),)
    return entry(operation="append", batch=name, attempt=name, added=added)


def _compacted(number: int, *olds: Entry) -> Entry:
    name = f"old{number}"
    added = ((Key("events", name, name), tuple(row for each in olds for row in each.rows())),)
    removed = tuple(key for each in olds for key, _ in each.added)
    return entry(operation="compact", batch=name, attempt=name, added=added, removed=removed)


_A, _B = _append("A", "d1", "xy"), _append("B", "d2", "xz")
_A1, _B1 = _append("A", "d1", "x"), _append("B", "d2", "x")
_P, _Q = _archived(0, "p"), _archived(1, "q")
_C, _D = Process("C", Job("compact")), Process("D", Job("compact"))
_C_LISTS, _D_LISTS = (Process(n, Job("compact", long_lists=True)) for n in "CD")
_G, _H = Process("G", Job("collect")), Process("H", Job("collect"))
_X, _L = Process("X", Job("expire")), Process("L", Job("hold"))
_READER = Process("Q", Job("reader"))


def _cursor(name: str, sees: int) -> Process:
    return Process(name, Job("append", cursor_sees=sees))


def _supplement(name: str, delivery: str, member: int) -> Process:
    return Process(name, Job("append", f"inputs-{delivery}", (delivery,), supplements=(("p", member),)))


SCENARIOS = {
    "slow run": Scenario(
        "one run with lost replies and deaths, the next run adopts its batch",
        (_A, _adopter("R", _A)),
        _faults(deaths="A", lost="AR"),
    ),
    "one run": Scenario("one run, replies get lost", (_A,), _faults(lost="A")),
    "adopted alive": Scenario(
        "a batch is adopted while its owner lives; rows and a bad line",
        (
            _append("A", "d1", "x", bad_line=True),
            _adopter("R", _append("A", "d1", "x", bad_line=True), of_the_living=True, found_since="d9"),
        ),
        _faults(deaths="A", lost="A"),
    ),
    "shared identity": Scenario(
        "two batches share an identity; one is slow, dies, is adopted",
        (_A, _B, _adopter("R", _A)),
        _faults(deaths="A", lost="A"),
    ),
    "shared identity, adopted alive": Scenario(
        "two batches share an identity; one is adopted while its owner lives",
        (_A1, _B1, _adopter("R", _A1, of_the_living=True)),
        _faults(deaths="A", lost="A"),
    ),
    "one delivery, two runs": Scenario(
        "two runs want the same delivery; one claims it",
        (_append("A", "d1", "x", bad_line=True), _append("B", "d1", "x", bad_line=True)),
        _faults(deaths="AB", lost="A"),
    ),
    "same file twice": Scenario(
        "the same file is dropped in twice, with a bad line; collect",
        (
            _append("A", "d1", "x", inputs="same", bad_line=True),
            _append("B", "d2", "x", inputs="same", bad_line=True),
            _G,
        ),
        _faults(lost="A"),
    ),
    "collect": Scenario(
        "one slow run with late data PUTs, one collect",
        (_A, _G),
        _faults(deaths="A", lost="AG", late="A"),
    ),
    "collect, adopted": Scenario(
        "a slow run, an adopter, a collect", (_A1, _adopter("R", _A1), _G), _faults(deaths="AG", lost="A")
    ),
    "two collects": Scenario(
        "one slow run with late data PUTs, two collects",
        (_A1, _G, _H),
        _faults(deaths="A", lost="A", late="A"),
    ),
    "two collects, adopted": Scenario(
        "a slow run, an adopter, late data PUTs, two collects",
        (_A1, _adopter("R", _A1), _G, _H),
        _faults(deaths="A", lost="A", late="A"),
        is_long=True,
    ),
    "two collects, compaction": Scenario(
        "files of an old compaction lie there; another compaction, two collects",
        (_C, _G, _H),
        ledger=(_P, _compacted(2, _P)),
    ),
    "append, compaction, collect": Scenario(
        "an append is compacted at once, collect in between", (_A1, _C, _G), _faults(deaths="A")
    ),
    "compactions": Scenario(
        "two compactions of the same files, an append of a row they hold",
        (_C, _D, _append("A", "d1", "pn")),
        _faults(deaths="C"),
        (_P, _Q),
    ),
    "compactions, append, collect": Scenario(
        "two compactions of the same files, an append, a collect",
        (_C, _D, _append("A", "d1", "pn"), _G),
        ledger=(_P, _Q),
        is_long=True,
    ),
    "long lists": Scenario(
        "two compactions with long file lists, a collect",
        (_C_LISTS, _D_LISTS, _G),
        _faults(deaths="C"),
        (_P, _Q),
    ),
    "old reader": Scenario(
        "a slow compaction, a reader of an old snapshot, a collect",
        (_C, _READER, _G),
        _faults(deaths="C", lost="C"),
        (_P, _Q),
    ),
    "old reader, two compactions": Scenario(
        "two compactions, a reader of an old snapshot, a collect",
        (_C, _D, _READER, _G),
        _faults(deaths="C", lost="C"),
        (_P, _Q),
    ),
    "cursor, two hosts": Scenario(
        "two hosts read one cursor source", (_cursor("A", 2), _cursor("B", 3)), _faults(deaths="A", lost="A")
    ),
    "hold": Scenario("an expiry against a legal hold", (_X, _L), _faults(lost="X"), (_P,)),
    "expiry, append": Scenario(
        "an expiry against an append that counts on the expired row",
        (_X, _append("A", "d1", "p"), _G),
        _faults(deaths="A"),
        (_P,),
    ),
    "expiry, compaction": Scenario("an expiry against a compaction", (_X, _C, _G), ledger=(_P, _Q)),
    "supplements": Scenario(
        "two sources supplement one event, and contradict each other",
        (_supplement("A", "d1", 1), _supplement("B", "d2", 2)),
        _faults(deaths="A", lost="A"),
        (_P,),
    ),
    "expiry, supplement": Scenario(
        "an event expires and is delivered again, while another run supplements it",
        (_X, _append("A", "d1", "p"), _supplement("B", "d2", 2)),
        _faults(deaths="A"),
        (_P,),
    ),
    "requeue": Scenario(
        "two operators requeue overlapping entries",
        (Process("U", Job("requeue", moves=("e1",))), Process("V", Job("requeue", moves=("e1", "e2")))),
        _faults(lost="UV"),
    ),
    "power failure": Scenario(
        "a local folder: the power fails after a run found another's commit",
        (_A1, _adopter("R", _A1, of_the_living=True)),
        _faults(deaths="A", power=True),
    ),
    "power failure, collect": Scenario(
        "a local folder: the power fails after collect acted on a compaction",
        (_C, _G),
        _faults(deaths="C", power=True),
        (_P, _Q),
    ),
    "three writers": Scenario(
        "three batches share an identity; one is slow and adopted",
        (_A, _B, _append("D", "d3", "yz"), _adopter("R", _A)),
        _faults(deaths="A", lost="A"),
        is_long=True,
    ),
    "two late writers, collect": Scenario(
        "two batches share an identity, replies of both get lost; late data PUTs, adopter, collect",
        (_A1, _B1, _adopter("R", _A1), _G),
        _faults(deaths="A", lost="AB", late="A"),
        is_long=True,
    ),
}
