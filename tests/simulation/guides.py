"""Guides who answer what they are offered, or do not, or twice, or when it is none of theirs."""

from __future__ import annotations

from random import Random

import orjson

from topics.catalog import ASSIGNMENTS, RESPONSES
from topics.codec import partition_of

#: State of a card to what a guide may do with it, '' being nothing.
DEEDS = {
    "offered": ("accepted", "accepted", "declined", "seen", "contacted", ""),
    "seen": ("accepted", "declined", "visited", ""),
    "accepted": ("contacted", "visited", "won", "lost", "declined", "offered", ""),
    "contacted": ("visited", "won", "lost", ""),
    "visited": ("won", "lost", ""),
}
LOOK_S = 0.5
#: So long they go on.
HOURS_S = 22.0


class Guides:
    """All guides of a run; they see the log as it is."""

    def __init__(self, seed, loop, broker, partitions, now_ms, *, hours_s=HOURS_S):
        self.hours_s = hours_s
        self._rng = Random(f"guides/{seed}")  # noqa: S311 - a made-up world, not a secret
        self._loop, self._broker, self._now_ms = loop, broker, now_ms
        self._partitions = partitions[RESPONSES.name]
        self._busy = self._rng.choice((0.2, 0.6, 1))
        self._read = {tp: 0 for tp in broker.logs if tp[0] == ASSIGNMENTS.name}
        self._sent = 0

    async def answer(self):
        while self._loop.now_s < self.hours_s:
            await self._loop.sleep(LOOK_S)
            for tp, begin in self._read.items():
                for record in self._broker.logs[tp][begin:]:
                    self._look_at(orjson.loads(record.value))
                self._read[tp] = len(self._broker.logs[tp])

    def _look_at(self, card):
        if self._rng.random() < 0.02:
            self._send(card, "withdrawn")
        if self._rng.random() >= self._busy or card["state"] not in DEEDS:
            return
        action = self._rng.choice(DEEDS[card["state"]])
        if action in {"", "offered"}:
            return
        guide_id = card["guide_id"] if self._rng.random() < 0.95 else "somebody"
        response = self._send(card, action, guide_id=guide_id, attempt=card["attempt"])
        if self._rng.random() < 0.1:
            self._append(response)  # once more, with the same id
        if self._rng.random() < 0.1:
            self._send(card, action, guide_id=guide_id)

    def _send(self, card, action, **fields):
        self._sent += 1
        fields |= {name: card[name] for name in ("lead_id", "member_id", "brand", "kind")}
        response = {"response_id": f"r{self._sent}", "action": action, "occurred_at_ms": self._now_ms()}
        self._append(response | fields)
        return response | fields

    def _append(self, response):
        key = response["member_id"].encode()
        self._broker.append(RESPONSES.name, partition_of(key, self._partitions), key, orjson.dumps(response))
