"""Addresses: from events to records with their topic, key and partition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from router.publish import Outgoing
from router.rules.dead_letters import dead_letter
from router.rules.intake import Refusal, Request
from router.rules.offers import CHANGE_FULL, WISH_LATE, Answer, assignments
from router.rules.reasons import Reasons
from scoring.explain import Explanation
from scoring.rank import Ranking
from scoring.roster import Roster
from topics.catalog import ASSIGNMENTS, COMMISSIONS, DEAD_LETTERS, DECISIONS, Topic
from topics.codec import encode, partition_of
from topics.fields import Event
from topics.reservations import Reservation


class Outbox:
    """What goes out, addressed for one broker: topic prefix and partition counts."""

    def __init__(self, prefix: str, partitions: Mapping[str, int]) -> None:
        self._prefix = prefix
        self._partitions = partitions

    def record(self, topic: Topic, key: bytes, event: Event) -> Outgoing:
        """One event as a record, on the partition of its key."""
        name = self._prefix + topic.name
        return Outgoing(name, partition_of(key, self._partitions[name]), key, encode(event))

    def posting(self, brand: str, value: bytes) -> Outgoing:
        """A posting as it was kept."""
        name, key = self._prefix + COMMISSIONS.name, brand.encode()
        return Outgoing(name, partition_of(key, self._partitions[name]), key, value)

    def dead_letters(self, refusals: Iterable[Refusal]) -> list[Outgoing]:
        """Refused records, each with its original bytes."""
        name = self._prefix + DEAD_LETTERS.name
        out = []
        for refusal in refusals:
            record = refusal.record
            value, headers = dead_letter(refusal, record.topic.removeprefix(self._prefix))
            partition = partition_of(record.key or b"", self._partitions[name])
            out.append(Outgoing(name, partition, record.key, value, headers))
        return out

    def results(
        self,
        batch: Sequence[Request],
        answers: Sequence[Answer],
        ranking: Ranking,
        why: Explanation,
        roster: Roster,
    ) -> list[Outgoing]:
        """The assignments of every answer, decisions of fresh ones, dead letters of what is refused."""
        out: list[Outgoing] = []
        refused: list[Refusal] = []
        reasons = Reasons(ranking, why, roster)
        for row, (request, answer) in enumerate(zip(batch, answers, strict=True)):
            if answer.result == "conflict":
                detail = f"{request.kind} {request.lead_id} came with other content"
                refused.append(Refusal(request.record, "conflict", detail))
                continue
            if answer.result == "full" and isinstance(request.event, Reservation) and not answer.steps:
                refused.append(Refusal(request.record, "slot_full", CHANGE_FULL))
            if answer.result == "late" and _is_wish(request):
                refused.append(Refusal(request.record, "late", WISH_LATE))
            key = request.event.member_id.encode()
            for made in assignments(request, answer):
                out.append(self.record(ASSIGNMENTS, key, made))
                if answer.result != "replay" and (made.turn is not None or made.state == "waiting"):
                    out.append(self.record(DECISIONS, key, reasons.decision(made, row)))
        return out + self.dead_letters(refused)


def _is_wish(request: Request) -> bool:
    """Whether a version of a reservation asks for something, so that it must not go unheard."""
    event, told = request.event, request.move is not None and request.move.response is not None
    return isinstance(event, Reservation) and not told and event.status in {"booked", "changed"}
