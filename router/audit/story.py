"""What happened between two records of a lead that follow each other, counted and judged."""

from __future__ import annotations

from collections import Counter
from typing import Any

from router.audit.track import CLOSED, FOLLOWS, UNANSWERED, Step, Track

#: The queue of those who booked ahead: they wait for their day, and nobody could serve them sooner.
_BOOKED = "/booked"


class Stories:
    """The steps of all leads, whatever the order in which they are read."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.illegal: set[str] = set()
        self._booked: set[tuple[str, int]] = set()  # steps in the queue of those who booked ahead
        self._waited_ms = 0
        self._waiting: dict[str, int] = {}  # since when, of those who wait now
        self._due: dict[str, int] = {}  # by when the newest state ends

    def feed(self, who: str, track: Track, seq: int, event: dict[str, Any]) -> None:
        """Judge a new step by its neighbours, as far as they are known by now."""
        step = track.seen(seq)
        if step is None:
            return
        if step.state == "waiting" and str(event.get("queue")).endswith(_BOOKED):
            self._booked.add((who, seq))
        if step.state == "expired":
            self.counts["expired"] += 1
        if seq == 1:
            self._pair(who, seq, Step(b"", "", 0, by_response=False, at_ms=step.at_ms), step)
        for first in (seq - 1, seq):
            before, after = track.seen(first), track.seen(first + 1)
            if before is not None and after is not None:
                self._pair(who, first + 1, before, after)

    def now(self, who: str, seq: int, event: dict[str, Any]) -> None:
        """Note how a lead stands by its newest record."""
        self._waiting.pop(who, None)
        self._due.pop(who, None)
        state, by_ms = event["state"], event.get("respond_by_ms")
        if state == "waiting" and (who, seq) not in self._booked:
            self._waiting[who] = event["at_ms"]
        if state not in CLOSED and type(by_ms) is int and by_ms:
            self._due[who] = by_ms

    def due(self, by_ms: int) -> list[str]:
        """Leads whose state ends before a time."""
        return [who for who, at_ms in self._due.items() if at_ms < by_ms]

    def waiting_max_ms(self, end_ms: int) -> int:
        """How long somebody waited in one queue at most; who waits still does so until ``end_ms``."""
        return max(self._waited_ms, end_ms - min(self._waiting.values(), default=end_ms))

    def _pair(self, who: str, seq: int, before: Step, after: Step) -> None:
        fresh = after.state == "offered" and after.attempt == before.attempt + 1
        stays = after.attempt == before.attempt
        back = before.state not in {"offered", "delivered", "seen"}
        if after.state not in FOLLOWS[before.state] or not (
            fresh if back and after.state == "offered" else stays
        ):
            self.illegal.add(who)
        if fresh and after.attempt > 1:
            self.counts["reoffered"] += 1
        if after.state == before.state and after.state in UNANSWERED and after.by_response:
            self.counts["reminded"] += 1
        if after.state == "accepted" and before.state != "accepted":
            self.counts["accepted"] += 1
        if before.state == "waiting" and (who, seq - 1) not in self._booked:
            self._waited_ms = max(self._waited_ms, after.at_ms - before.at_ms)
