"""What may happen to an assignment and what follows: every state and every action, in one table.

An action that a state does not name is illegal there; a final state names none, so all that comes then is
late. Either is told to whoever asks and changes nothing.
"""

from __future__ import annotations

from typing import NamedTuple, get_args

from scoring.policy import Policy
from topics.assignments import State
from topics.responses import GuideAction, RouterAction

Action = GuideAction | RouterAction


class Next(NamedTuple):
    """What follows: the state of the next record ('' for none), and whether the lead is then offered again.

    ``then``: the state after that offer, if it is taken in the same step.
    """

    state: State | str = ""
    again: bool = False
    then: State | str = ""


_BACK = {
    "declined": Next("declined", again=True),
    "returned": Next("returned", again=True),
    "withdrawn": Next("withdrawn"),
}
_OUTCOMES = {"won": Next("won"), "lost": Next("lost")}
_ANSWERS = {
    "accepted": Next("accepted"),
    "contacted": Next("contacted"),
    "visited": Next("visited"),
    **_OUTCOMES,
    **_BACK,
    "expired": Next("expired", again=True),
}

#: State to what may happen in it. ``expired`` is what happens when nothing else does in time.
TABLE: dict[State, dict[str, Next]] = {
    "waiting": {
        "drain": Next(again=True),
        "grabbed": Next(again=True, then="accepted"),
        "expired": Next(again=True),  # further afield
        "withdrawn": Next("withdrawn"),
    },
    "offered": {
        "delivered": Next("delivered"),
        "seen": Next("seen"),
        "closing": Next("offered"),
        **_ANSWERS,
    },
    "delivered": {"seen": Next("seen"), "closing": Next("delivered"), **_ANSWERS},
    "seen": {"closing": Next("seen"), **_ANSWERS},
    "accepted": {
        "contacted": Next("contacted"),
        "visited": Next("visited"),
        **_OUTCOMES,
        **_BACK,
        "expired": Next("returned", again=True),
    },
    "contacted": {"visited": Next("visited"), **_OUTCOMES, **_BACK, "expired": Next("closed")},
    "visited": {**_OUTCOMES, **_BACK, "expired": Next("closed")},
    # of a moment: another record follows in the same step, unless Redis lost that one
    "declined": {"expired": Next(again=True)},
    "expired": {"expired": Next(again=True)},
    "returned": {"expired": Next(again=True)},
    # final
    "won": {},
    "lost": {},
    "withdrawn": {},
    "closed": {},
}

ACTIONS: tuple[str, ...] = (*get_args(GuideAction), *get_args(RouterAction))
#: Actions after which a lead may be offered to somebody else.
OFFERS_AGAIN = frozenset(
    action for nexts in TABLE.values() for action, following in nexts.items() if following.again
)
#: States that keep the time limit of the offer.
_KEEP = ("offered", "delivered", "seen")


def moves(action: str, now_ms: int, policy: Policy, *, over_ms: int, over: bool = False) -> str:
    """What an action may bring, as the claim script reads it: ``state>next:by_ms`` for each state naming it.

    ``+`` behind the next state: offered again; then what follows that offer. ``by_ms`` is ``k`` where the
    limit of the offer is kept, and never after ``over_ms``, when the lead's own time ends. ``over``: that
    time or the ladder is at its end, and what expires closes the lead. ``!`` before all: only what has come
    to its end expires, since the guide may have answered after the time was found to be over.
    """
    out = ["!"] if action == "expired" else []
    for state, nexts in TABLE.items():
        following = nexts.get(action)
        if following is None:
            continue
        if over and action == "expired":
            following = Next("closed")
        ends = following.then or following.state
        limit_ms = policy.limit_s.get(ends, 0) * 1000  # type: ignore[call-overload] # any state may ask
        by = "k" if ends in _KEEP else str(max(now_ms, min(now_ms + limit_ms, over_ms)) if limit_ms else 0)
        out.append(f"{state}>{following.state}{'+' * following.again}{following.then}:{by}")
    return " ".join(out)
