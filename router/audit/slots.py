"""Which slots of which stores were held at once, recomputed from bookings, stores and assignments."""

from __future__ import annotations

from typing import Any, NamedTuple

from router.audit.track import CLOSED

#: A slot lasts so long where its store does not say.
_SLOT_MINUTES = 30
#: Slots of one visit; more than that no store accepts.
_SLOTS_MAX = 96
#: Batches overlap, so a slot that was let go may carry a later time than the booking that took it after that.
_SKEW_MS = 1_000


class _Visit(NamedTuple):
    """What one version of a reservation asks for."""

    store: str
    service: str
    starts_at_ms: int
    ends_at_ms: int


class Slots:
    """Reservations by their versions and steps; topics have no common order, so all is joined in the end."""

    def __init__(self) -> None:
        self._stores: dict[str, tuple[int, dict[str, int]]] = {}
        self._visits: dict[str, dict[int, _Visit | None]] = {}
        self._steps: dict[str, dict[int, tuple[str, int, int]]] = {}  # by seq: state, version or 0, time
        self._no_shows: set[tuple[str, int]] = set()

    def feed_store(self, store: dict[str, Any]) -> None:
        """Note a store's slots, in the most generous version of each service."""
        key = f"{store.get('brand')}/{store.get('store_id')}"
        _, known = self._stores.get(key, (0, {}))
        given = store.get("slots")
        slots = given if isinstance(given, dict) else {}
        most = {service: max(known.get(service, 0), int(number)) for service, number in slots.items()}
        self._stores[key] = (int(store.get("slot_minutes") or _SLOT_MINUTES), known | most)

    def feed_booking(self, who: str, event: dict[str, Any]) -> None:
        """Note what a version asks for, an arrival nothing; of one version the first counts."""
        version, starts, ends = (event.get(name) for name in ("version", "starts_at_ms", "ends_at_ms"))
        if type(version) is not int or type(starts) is not int or type(ends) is not int:
            return
        visit = _Visit(
            f"{event.get('brand')}/{event.get('store_id')}", str(event.get("service") or ""), starts, ends
        )
        asked = None if event.get("status") == "arrived" else visit
        self._visits.setdefault(who, {}).setdefault(version, asked)
        if event.get("status") == "no_show":
            self._no_shows.add((who, version))

    def feed_step(self, who: str, seq: int, event: dict[str, Any]) -> None:
        """Note a record of a reservation."""
        cause = event.get("cause")
        kind = str(cause.get("kind")) if isinstance(cause, dict) else ""
        number = kind.removeprefix("reservation/")
        version = int(number) if number != kind and number.isdecimal() else 0
        self._steps.setdefault(who, {})[seq] = (str(event["state"]), version, event["at_ms"])

    def no_shows(self) -> int:
        """Reservations that ended because nobody came."""
        return len(
            {
                who
                for who, steps in self._steps.items()
                for state, version, _ in steps.values()
                if state in CLOSED and (who, version) in self._no_shows
            }
        )

    def oversold(self) -> list[str]:
        """Slots that at some moment were held by more reservations than the store has of them."""
        changes: dict[str, list[tuple[int, int]]] = {}
        room: dict[str, int] = {}
        for who in self._steps:
            for visit, from_ms, until_ms in self._holds(who):
                for slot, most in self._slots(visit):
                    room[slot] = most
                    changes.setdefault(slot, []).append((from_ms, 1))
                    if until_ms:
                        changes[slot].append((max(from_ms, until_ms - _SKEW_MS), -1))
        return [slot for slot, each in changes.items() if _most(each) > room[slot]]

    def _holds(self, who: str) -> list[tuple[_Visit, int, int]]:
        """The visits that a reservation held, from when until when; 0 for until now."""
        held: list[tuple[_Visit, int, int]] = []
        now: tuple[_Visit, int] | None = None
        for _, (state, version, at_ms) in sorted(self._steps[who].items()):
            visit = self._visits.get(who, {}).get(version)
            wanted = None if state in CLOSED else visit or (now and now[0])
            if now is not None and wanted != now[0]:
                held.append((*now, at_ms))
                now = None
            if wanted is not None and now is None:
                now = (wanted, at_ms)
        return [*held, (*now, 0)] if now is not None else held

    def _slots(self, visit: _Visit) -> list[tuple[str, int]]:
        minutes, slots = self._stores.get(visit.store, (0, {}))
        most = slots.get(visit.service)
        if most is None:
            return []
        length_ms = minutes * 60_000
        first = visit.starts_at_ms // length_ms
        last = min(-(-visit.ends_at_ms // length_ms), first + _SLOTS_MAX)
        return [
            (f"{visit.store}|{visit.service}|{number * length_ms}", most) for number in range(first, last)
        ]


def _most(changes: list[tuple[int, int]]) -> int:
    """How many held a slot at once at most; at the same moment who lets go comes first."""
    held = most = 0
    for _, change in sorted(changes):
        held += change
        most = max(most, held)
    return most
