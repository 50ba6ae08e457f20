"""What the audit remembers of one id."""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct
from typing import Any, NamedTuple

import orjson

#: States in which a guide holds the lead.
LIVE = frozenset({"offered", "delivered", "seen", "accepted", "contacted", "visited"})
CLOSED = frozenset({"won", "lost", "withdrawn", "closed"})
#: States of a moment: another record says what follows.
GIVEN_BACK = frozenset({"declined", "expired", "returned"})
#: Offers that nobody has answered.
UNANSWERED = frozenset({"offered", "delivered", "seen"})
#: What may follow a state, however it came about; nothing follows a closed one.
_ENDS = CLOSED | GIVEN_BACK
_NEXT_PLACE = frozenset({"offered", "waiting", "closed"})
FOLLOWS: dict[str, frozenset[str]] = {
    "": frozenset({"offered", "waiting", "withdrawn", "closed"}),
    "waiting": frozenset({"waiting", "offered", "withdrawn", "closed"}),
    "offered": _ENDS | LIVE,
    "delivered": _ENDS | LIVE - {"offered"},
    "seen": _ENDS | LIVE - {"offered", "delivered"},
    "accepted": _ENDS - {"expired"} | {"accepted", "contacted", "visited"},
    "contacted": _ENDS - {"expired"} | {"contacted", "visited"},
    "visited": _ENDS - {"expired"},
    **dict.fromkeys(GIVEN_BACK, _NEXT_PLACE),
    **dict.fromkeys(CLOSED, frozenset()),
}
STATES = tuple(FOLLOWS)
#: A seq beyond this is nonsense, and must not cost memory.
SEQ_MAX = 10_000

_DIGEST_BYTES = 8
#: Digest, state, attempt, whether a response was the cause, time. State 0 marks what was not seen.
_STEP = Struct("<8sBHBq")
_ATTEMPT_MAX = 0xFFFF


class Step(NamedTuple):
    """What is remembered of one record: its effect as a digest, and what the next one is judged by."""

    digest: bytes
    state: str
    attempt: int
    by_response: bool
    at_ms: int


class Track:
    """One lead or reservation: small, because a run has a million of them.

    ``version`` is None until its input was read; ``steps`` holds one packed ``Step`` for each seq;
    ``delay_ms`` is the time of the first answer, or minus the time of the input, whichever was read first.
    """

    __slots__ = ("delay_ms", "guide", "state", "steps", "version", "zone")

    def __init__(self) -> None:
        self.version: int | None = None
        self.zone: str | None = None
        self.delay_ms: int | None = None
        self.steps = b""
        self.state: str | None = None
        self.guide: str | None = None

    @property
    def has_hole(self) -> bool:
        """Whether a seq is missing below the highest."""
        return 0 in self.steps[_DIGEST_BYTES :: _STEP.size]  # the states alone

    def seen(self, seq: int) -> Step | None:
        """The first record of ``seq``; None when there was none."""
        start = (seq - 1) * _STEP.size
        if seq < 1 or start >= len(self.steps):
            return None
        digest, state, attempt, by_response, at_ms = _STEP.unpack_from(self.steps, start)
        return Step(digest, STATES[state], attempt, bool(by_response), at_ms) if state else None

    def note(self, seq: int, step: Step) -> bool:
        """Keep the step of a new ``seq``; tell whether it is the highest, which alone moves the lead."""
        start = (seq - 1) * _STEP.size
        after = self.steps[start + _STEP.size :]
        packed = _STEP.pack(step.digest, STATES.index(step.state), step.attempt, step.by_response, step.at_ms)
        self.steps = self.steps[:start].ljust(start, b"\0") + packed + after
        return not after


def step_of(assignment: dict[str, Any]) -> Step | None:
    """What to remember of a record; None for one that is no assignment.

    A repeated record may differ in its times, its score and its words, and has the same digest.
    """
    state, attempt, at_ms = (assignment.get(name) for name in ("state", "attempt", "at_ms"))
    cause = assignment.get("cause")
    by_response = isinstance(cause, dict) and cause.get("kind") == "response"
    if not state or state not in FOLLOWS or type(at_ms) is not int:
        return None
    if type(attempt) is not int or not 0 <= attempt <= _ATTEMPT_MAX:
        return None
    names = ("attempt", "state", "guide_id", "store_id", "queue", "member_id")
    does = orjson.dumps([assignment.get(name) for name in names])
    return Step(blake2b(does, digest_size=_DIGEST_BYTES).digest(), state, attempt, by_response, at_ms)
