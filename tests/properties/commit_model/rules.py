"""The rules of the commit protocol, one switch each, in the words of the design (section 5).

A search takes the set of rules in force. `EVERY_RULE` is the protocol as designed.
"""

from __future__ import annotations

from enum import Enum


class Rule(Enum):
    """A rule: the step that states it, and its words."""

    FREEZE_ID = ("1 freeze", "batch = digest of that list and a random freeze id")
    FREEZE_ID_KEPT = ("1 freeze", "the freeze id is stored with the batch; whoever adopts it keeps it")
    INPUTS_KEPT = ("1 freeze", "whoever adopts the batch keeps the frozen inputs, no more and no fewer")
    BASE_KEPT = ("1 freeze", "whoever adopts the batch keeps `base`")
    CURSOR_AS_OF_BASE = ("1 freeze", "the cursor as of `base`")
    SEEN_READ_AGAIN = ("1 attempt", "an attempt reads the head again as `seen`")
    IDENTIFY_AGAINST_SEEN = ("1 attempt", "and identifies against snapshot `seen`")

    ATTEMPT_IN_NAMES = ("2 write", "every object carries <batch>-<attempt> in its name")
    ATTEMPT_IN_LIST_NAMES = ("2 write", "long file lists included")
    NO_NAME_TWICE = ("2 write", "no name is ever used twice: a new attempt has a new id")
    OUR_OBJECT_IS_SUCCESS = ("2 write", "a 412 on a data file: our bytes are success")
    READ_ON_412 = ("2 write", "a 412 on a data file: read it before you take it for yours")
    RUNS_DELETE_NOTHING = ("2 write", "a run never deletes from the bucket; giving up deletes nothing")

    ACKNOWLEDGE_ONLY = ("3 validate", "after `base`: our batch means acknowledge only")
    STOP_WHEN_FENCED = ("3 validate", "a fence on our attempt means stop")
    CURSOR_CHECK = ("3 validate", "the source's cursor is not our `before`: plan again")
    CURSOR_AT_THE_HEAD = ("3 validate", "... against the state at the head, not the moves after `base`")
    REMOVED_IS_LIVE = ("3 validate", "a file that we remove is not live: plan again")
    HOLD_CHECK = ("3 validate", "a hold covers a row that we expire: plan again")
    REQUEUE_CHECK = ("3 validate", "an entry that we requeue was moved: plan again")
    NEW_ATTEMPT_ON_IDENTITY = ("3 validate", "a commit after `seen` added an identity of ours: new attempt")
    SUPPLEMENT_IS_IDENTITY = ("3 validate", "... added or supplemented: new attempt")

    AIM_BEHIND_VALIDATED = ("4 commit", "commit at exactly (last commit validated) + 1")
    CONDITIONAL_CREATE = ("4 commit", "with If-None-Match: *")
    OUR_COMMIT_IS_SUCCESS = ("4 commit", "on 412 or no reply read the key: our bytes are success")
    VALIDATE_AFTER_OTHERS = ("4 commit", "others: step 3")
    ABSENT_IS_UNKNOWN = ("4 commit", "absent is unknown: put the same bytes again")

    ACKNOWLEDGE_AFTER_COMMIT = ("5 acknowledge", "acknowledge the source after the commit")
    SYNC_WHAT_WAS_FOUND = (
        "5 acknowledge",
        "locally, whoever acts on a commit that it found fsyncs the ledger folder first",
    )

    FENCE_UNKNOWN = ("collect", "fences the unknown attempts before it deletes")
    FENCE_DROPS_COMMITTED = ("collect", "drops from its fence the attempts that were committed meanwhile")
    DELETE_READS_HEAD_AGAIN = ("collect", "after its fence reads the head again")
    DELETE_SPARES_KEPT = ("collect", "deletes only what no kept snapshot reaches")
    OLDEST_READABLE_FIRST = ("collect", "before it deletes removed files, it commits `oldest_readable`")
    OLDEST_READABLE_RISES = ("collect", "`oldest_readable` never falls")

    @property
    def step(self) -> str:
        return self.value[0]

    @property
    def text(self) -> str:
        return self.value[1]


EVERY_RULE = frozenset(Rule)

NOT_MODELLED = {
    "the client's own retries off": "a repeat below us looks like a lost reply, which is in the model",
    "--grace, a quarter of it for an attempt": "courtesy: in the model `collect` comes at every moment",
    "digests of lists in the commit": "objects are compared with their whole content",
}
