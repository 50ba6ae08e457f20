"""What a guide's client is told: cards and their ends as server-sent events. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import orjson

from router.rules.actions import in_english, next_step
from topics.assignments import LIVE_STATES, Assignment

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = ("zh", "en")
Happening = Literal["snapshot", "card", "gone", "reload", "bye"]

#: A comment, so that neither end takes silence for an end.
HEARTBEAT = b": .\n\n"


def card(made: Assignment, language: Language) -> dict[str, Any]:
    """A card as the client gets it: ids, state, times and the next step; never who else."""
    step = made.action or next_step(made.state)
    if language == "en":
        step = in_english(step)
    shown: dict[str, Any] = {
        "lead_id": made.lead_id,
        "kind": made.kind,
        "seq": made.seq,
        "attempt": made.attempt,
        "state": made.state,
        "at_ms": made.at_ms,
        "respond_by_ms": made.respond_by_ms,
        "member_id": made.member_id,
        "store_id": made.store_id,
        "action": {"code": step.code, "text": step.text},
    }
    return {name: value for name, value in shown.items() if value is not None}


def happened(made: Assignment, position: str, language: Language) -> bytes:
    """One entry of a feed as an event: the card while the guide holds the lead, else its end."""
    if made.state in LIVE_STATES:
        return event("card", card(made, language), position)
    over: dict[str, Any] = {
        "lead_id": made.lead_id,
        "kind": made.kind,
        "seq": made.seq,
        "state": made.state,
    }
    if made.record is not None and made.state == "expired" and made.record.paused_until_ms > made.at_ms:
        over["paused_until_ms"] = made.record.paused_until_ms  # too many offers running without an answer
    return event("gone", over, position)


def snapshot(cards: Iterable[Assignment], position: str, language: Language) -> bytes:
    """All the cards a guide holds at a position, oldest first."""
    held = sorted(cards, key=lambda made: (made.at_ms, made.lead_id))
    return event("snapshot", {"cards": [card(made, language) for made in held]}, position)


def event(name: Happening, data: dict[str, Any], position: str | None = None) -> bytes:
    """One server-sent event; orjson leaves no line end in its data."""
    lead = b"" if position is None else b"id: %b\n" % position.encode()
    return b"%bevent: %b\ndata: %b\n\n" % (lead, name.encode(), orjson.dumps(data))
