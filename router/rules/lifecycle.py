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
#: What later versions of a reservation bring; ``rebooked``: to a time at which its guide is not there;
#: ``moved``: to another store, or from one queue to another.
BOOKINGS = ("changed", "rebooked", "moved", "cancelled", "arrived", "no_show")


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
    "cancelled": Next("withdrawn"),
    "rebooked": Next("returned", again=True),
    "moved": Next("returned", again=True),
    "no_show": Next("lost"),
}
_OUTCOMES = {"won": Next("won"), "lost": Next("lost")}
_ANSWERS = {
    "accepted": Next("accepted"),
    "contacted": Next("contacted"),
    "visited": Next("visited"),
    "arrived": Next("visited"),
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
        "cancelled": Next("withdrawn"),
        "changed": Next("waiting"),
        "rebooked": Next("waiting"),
        "moved": Next(again=True),
        "arrived": Next(again=True),
        "no_show": Next("closed"),
    },
    "offered": {
        "delivered": Next("delivered"),
        "seen": Next("seen"),
        "closing": Next("offered"),
        "changed": Next("offered"),
        **_ANSWERS,
    },
    "delivered": {
        "seen": Next("seen"),
        "closing": Next("delivered"),
        "changed": Next("delivered"),
        **_ANSWERS,
    },
    "seen": {"closing": Next("seen"), "changed": Next("seen"), **_ANSWERS},
    "accepted": {
        "contacted": Next("contacted"),
        "visited": Next("visited"),
        "arrived": Next("visited"),
        "changed": Next("accepted"),
        **_OUTCOMES,
        **_BACK,
        "expired": Next("returned", again=True),
    },
    "contacted": {
        "visited": Next("visited"),
        "arrived": Next("visited"),
        "changed": Next("contacted"),
        **_OUTCOMES,
        **_BACK,
        "expired": Next("closed"),
    },
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

ACTIONS: tuple[str, ...] = (*get_args(GuideAction), *get_args(RouterAction), *BOOKINGS)
#: Actions after which a lead may be offered to somebody else.
OFFERS_AGAIN = frozenset(
    action for nexts in TABLE.values() for action, following in nexts.items() if following.again
)
#: States that keep the time limit of the offer.
_KEEP = ("offered", "delivered", "seen")


class Limits(NamedTuple):
    """Until when, epoch ms: a lead's own time lasts, a visit may last (0 without one), who waits may wait."""

    over_ms: int
    visit_ms: int = 0
    wait_ms: int = 0


def moves(action: str, now_ms: int, policy: Policy, limits: Limits, *, over: bool = False) -> str:
    """What an action may bring, as the claim script reads it: ``state>next:by_ms`` for each state naming it.

    ``+`` behind the next state: offered again; then what follows that offer. ``by_ms`` is ``k`` where the
    limit of the offer is kept, 0 where there is none, and ``w`` where a lead that waits on is to wait anew.
    ``over``: the lead's time or the ladder is at its end, and what expires closes the lead. ``!`` before all:
    only what has come to its end expires, since the guide may have answered after the time was found over.
    """
    out = ["!"] if action == "expired" else []
    for state, nexts in TABLE.items():
        following = nexts.get(action)
        if following is None:
            continue
        if over and action == "expired":
            following = Next("closed")
        by = _limit(following.then or following.state, now_ms, policy, limits)
        if action in {"expired", "moved"} and following == Next(again=True):
            by = "w"
        out.append(f"{state}>{following.state}{'+' * following.again}{following.then}:{by}")
    return " ".join(out)


def _limit(state: str, now_ms: int, policy: Policy, limits: Limits) -> str:
    if state in _KEEP:
        return "k"
    if state == "waiting":
        return str(limits.wait_ms)
    for taken, limit_s in policy.limit_s.items():
        if taken == state:
            # what a guide has taken on is not over before the visit is
            return str(max(now_ms, limits.visit_ms, min(now_ms + limit_s * 1000, limits.over_ms)))
    return "0"
