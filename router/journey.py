"""The way of one lead on a terminal: every step of it, when, by what, and how long after the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from router.state import keys
from router.state.redis import answered
from topics.assignments import Assignment
from topics.codec import decode


@dataclass(frozen=True, slots=True)
class Journey:
    """Reads what the projector wrote of one lead; never writes."""

    redis: Any  # redis-py's own types leave out that this client never decodes
    brand: str
    member_id: str
    kind: str
    lead_id: str

    async def steps(self) -> list[Assignment]:
        """Every step that is known, by its ``seq``."""
        name = keys.journey(self.brand, self.member_id, self.kind, self.lead_id)
        held: dict[bytes, bytes] = await answered(self.redis.hgetall(name))
        records = [value.partition(b"|")[2] for seq, value in held.items() if seq.isdigit()]
        return sorted((decode(Assignment, record) for record in records), key=lambda step: step.seq)


def told(steps: Sequence[Assignment]) -> list[str]:
    """One line of text for each step, in UTC, with the time since the step before."""
    before = [None, *steps]
    return [_line(step, last) for step, last in zip(steps, before, strict=False)]


def _line(step: Assignment, last: Assignment | None) -> str:
    since = f"+{lasted(step.at_ms - last.at_ms)}" if last is not None else ""
    if step.guide_id is not None:
        where = f"{step.guide_id} at {step.store_id}"
    else:
        where = f"in {step.queue}" if step.queue is not None else ""
    parts = [
        f"{step.seq:>3}  {_clock(step.at_ms)}  {since:>9}  {step.state:9}  {where:24}",
        f"until {_clock(step.respond_by_ms)}" if step.respond_by_ms else "",
        f"by {step.cause.kind} {step.cause.id}",
        f"because {step.reason}" if step.reason else "",
        f"for the same as {step.merged_into}" if step.merged_into else "",
        f"marked {', '.join(step.marks)}" if step.marks else "",
    ]
    # text from outside stays on its line and moves no cursor
    return "".join(c if c.isprintable() else " " for c in "  ".join(filter(None, parts)))


def lasted(ms: int) -> str:
    """How long something took: the two largest units of it; ``ms`` may be below 0 where clocks differ."""
    sign, seconds = "-" * (ms < 0), abs(ms) / 1000
    for unit, size, below, name in (("d", 86_400, 3_600, "h"), ("h", 3_600, 60, "m"), ("m", 60, 1, "s")):
        if seconds >= size:
            return f"{sign}{int(seconds // size)}{unit}{int(seconds % size // below):02}{name}"
    return f"{sign}{seconds:.3f}s"


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%m-%d %H:%M:%S")
