"""Reservations: the slots that they take, when somebody has to be there, what a later version brings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from urllib.parse import quote

from router.rules.intake import Move, Request, cause_of
from router.rules.offers import Made
from router.rules.responding import Past, rung_now, steps_of, tried
from scoring.policy import Policy
from topics.assignments import Rung
from topics.reservations import Reservation
from topics.stores import Store

#: A slot lasts so long where the store does not say.
SLOT_MINUTES = 30
#: Slots that one reservation may overlap.
SLOTS_MAX = 96
_MINUTE_MS = 60_000
#: Who books further ahead than their guide is needed waits at this rung until then.
AHEAD: Rung = "store"


def slots_of(reservation: Reservation, store: Store | None) -> tuple[str, ...]:
    """The slots that a reservation overlaps, ``n:store|service|start_ms``; none where the store has no limit.

    ``n`` is how often each may be taken. Slots begin at multiples of the store's ``slot_minutes``, UTC.
    Who stands there already takes none.
    """
    most = None if store is None else store.slots.get(reservation.service or "")
    if store is None or most is None or reservation.status == "arrived":
        return ()
    length_ms = (store.slot_minutes or SLOT_MINUTES) * _MINUTE_MS
    first = reservation.starts_at_ms - reservation.starts_at_ms % length_ms
    name = f"{reservation.store_id}|{quote(reservation.service or '', safe='')}"
    return tuple(f"{most}:{name}|{at}" for at in range(first, reservation.ends_at_ms, length_ms))


def trouble(reservation: Reservation, slots: int, policy: Policy) -> str | None:
    """Why a reservation cannot be followed, for whoever sent it."""
    if slots > SLOTS_MAX:
        return f"ends_at_ms: it overlaps {slots} slots, at most {SLOTS_MAX}"
    if reservation.ends_at_ms - reservation.occurred_at_ms > policy.book_days_max * 86_400_000:
        return f"ends_at_ms: more than book_days_max ({policy.book_days_max} days) ahead"
    return None


def guide_needed_ms(event: Reservation, policy: Policy) -> int:
    """From when on a guide is occupied by a reservation, epoch ms; before that only its slot is."""
    if event.hold_until_ms:  # a hold does not outlast its visit
        return min(event.hold_until_ms, event.ends_at_ms)
    return event.starts_at_ms - policy.horizon_h * 3_600_000


def is_ahead(request: Request, policy: Policy, now_ms: int) -> bool:
    """Whether nobody is looked for yet."""
    event = request.event
    if not isinstance(event, Reservation) or event.status == "arrived":
        return False
    return now_ms < guide_needed_ms(event, policy)


def understand_version(  # noqa: PLR0913, PLR0917 - what is known of it, of its store, and of its guide
    request: Request,
    past: Past,
    now_ms: int,
    policy: Policy,
    cell: str | None,
    there: Callable[[str, int], bool],
) -> Request:
    """What this version of a reservation is, by what is known of it: a new one, or what happens to it.

    ``cell``: that of its store, None for one that nobody knows; ``there(guide_id, at_ms)``: whether a guide
    is on shift then.
    """
    event = request.event
    if not isinstance(event, Reservation):
        return request
    if past.cell is None or not past.steps:
        if event.status in {"cancelled", "no_show"}:
            return replace(request, over=True)
        return request
    if event.status == "booked" and event.version <= first_version(past):
        return request
    steps = steps_of(past)
    action = {"booked": "changed"}.get(event.status, event.status)
    to = None
    if event.version > newest_version(steps):
        # who is on the way arrives there, whatever its store's market has become since
        to = past.to or (cell if action == "changed" and cell != past.cell else None)
    if action == "changed":
        ahead = is_ahead(request, policy, now_ms)
        if to is not None or _is_elsewhere(steps[-1], event, ahead=ahead):
            action = "moved"
        elif not _keeps(steps[-1], event, policy, now_ms, there):
            action = "rebooked"
    rung = rung_now(steps)
    if action == "moved" or (action == "arrived" and rung == AHEAD):
        rung = "near"
    asks = action in {"rebooked", "moved", "arrived"} and not is_ahead(request, policy, now_ms)
    cause = cause_of(request.kind, event)
    return replace(
        request,
        slots=request.slots if action in {"changed", "rebooked", "moved"} else "",
        move=Move(action, cause, asks=asks, tried=tried(steps), rung=rung, here=past.cell, cell=to),
    )


def first_version(past: Past) -> int:
    """The version by which a reservation was first routed."""
    return _version(steps_of(past)[0])


def newest_version(steps: Sequence[Made]) -> int:
    """The latest version that has changed a reservation."""
    return max(map(_version, steps))


def _version(step: Made) -> int:
    """The version that was the cause of a step, 0 for any other cause."""
    return int(step.cause.partition("|")[0].partition("reservation/")[2] or 0)


def _is_elsewhere(newest: Made, event: Reservation, *, ahead: bool) -> bool:
    """Whether somebody of another store holds a reservation, or it waits in a queue that is not its own now.

    That is one of another store, or that of those for whom nobody is looked for yet (``ahead``).
    """
    if newest.state != "waiting":
        return newest.choice[2] != event.store_id
    if (newest.choice[-1] == AHEAD) != ahead:
        return True
    _, *parts = newest.choice[0].split("/")
    return parts[:1] == ["store"] and parts[1] != event.store_id


def _keeps(
    newest: Made, event: Reservation, policy: Policy, now_ms: int, there: Callable[[str, int], bool]
) -> bool:
    """Whether the guide who holds it, if any, goes on to do so: a change keeps the guide when possible."""
    if newest.state == "waiting":
        return True
    return now_ms >= guide_needed_ms(event, policy) and there(newest.choice[0], event.starts_at_ms)
