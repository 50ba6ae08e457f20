"""What must hold of leads and guides, written down a second time: small, pure, and without the router."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

LIVE = ("offered", "delivered", "seen", "accepted", "contacted", "visited")
FINAL = ("won", "lost", "withdrawn", "closed")
MOMENTS = ("declined", "expired", "returned")
#: What a guide may do about a lead in a state.
DEEDS = {
    "waiting": (),
    "offered": ("delivered", "seen", "accepted", "contacted", "visited", "won", "lost", "declined"),
    "delivered": ("seen", "accepted", "contacted", "visited", "won", "lost", "declined"),
    "seen": ("accepted", "contacted", "visited", "won", "lost", "declined"),
    "accepted": ("contacted", "visited", "won", "lost", "declined"),
    "contacted": ("visited", "won", "lost", "declined"),
    "visited": ("won", "lost", "declined"),
}
#: What may stand in the log behind a state, whoever is the cause.
BEHIND = {
    "": ("offered", "waiting", "closed", "withdrawn"),
    "waiting": ("waiting", "offered", "closed", "withdrawn"),
    "offered": (*LIVE, *FINAL, *MOMENTS),
    "delivered": (*LIVE[1:], *FINAL, *MOMENTS),
    "seen": (*LIVE[2:], *FINAL, *MOMENTS),
    "accepted": (*LIVE[3:], *FINAL, "declined", "returned"),
    "contacted": (*LIVE[4:], *FINAL, "declined", "returned"),
    "visited": (*FINAL, "declined", "returned"),
    **dict.fromkeys(MOMENTS, ("offered", "waiting", "closed")),
    **dict.fromkeys(FINAL, ()),
}
#: The first tier comes first.
TIERS = ("vip", "repeat", "new", "prospect")


@dataclass
class LeadModel:
    """One lead or reservation, as the log has told of it."""

    kind: str
    tier: str = "prospect"
    state: str = ""
    attempt: int = 0
    guide: str | None = None
    queue: str | None = None
    seq: int = 0
    arrival: int = 0
    gave_back: set = field(default_factory=set)


@dataclass
class Model:
    """Everything that is known; each method returns what is wrong, in words."""

    leads: dict = field(default_factory=dict)
    capacity: dict = field(default_factory=dict)
    there: dict = field(default_factory=dict)
    grabs: set = field(default_factory=set)

    def room(self, guide):
        return self.capacity[guide] if self.there[guide] else 0

    def load(self):
        return Counter(lead.guide for lead in self.leads.values() if lead.state in LIVE)

    def effective(self, lead_id, action, guide, attempt):
        """Whether what a guide says changes anything."""
        lead = self.leads.get(lead_id)
        return (
            lead is not None
            and lead.state not in FINAL
            and attempt in {None, lead.attempt}
            and guide == lead.guide
            and action in DEEDS[lead.state]
        )

    def told(self, record):
        """Take the first record of a seq."""
        lead = self.leads.get(record["lead_id"])
        if lead is None or record["seq"] != lead.seq + 1:
            return [f"out of the blue: {record}"]
        wrong, state, before = [], record["state"], lead.state
        if state not in BEHIND[before]:
            wrong.append(f"{before} is followed by {state}: {record}")
        again = state == "offered" and before in {"", "waiting", *MOMENTS}
        if record["attempt"] != lead.attempt + again:
            wrong.append(f"attempt {record['attempt']} after {lead.attempt}: {record}")
        if state in MOMENTS and not record["cause"]["kind"].startswith("reservation/"):
            lead.gave_back.add(lead.guide)
        elif state in LIVE and not again and record.get("guide_id", lead.guide) != lead.guide:
            wrong.append(f"another guide without an offer: {record}")
        elif again and record["guide_id"] in lead.gave_back and record["cause"]["id"] not in self.grabs:
            wrong.append(f"offered to who has given it back: {record}")
        if again and not before:
            wrong += self._overtaken(record, lead)
        lead.seq, lead.state, lead.attempt = record["seq"], state, record["attempt"]
        lead.guide = record.get("guide_id", lead.guide) if state in LIVE else None
        if state == "waiting" and record.get("queue") != lead.queue:
            lead.queue = record.get("queue")
        elif state != "waiting":
            lead.queue = None
        return wrong

    def _overtaken(self, record, fresh):
        """A fresh lead does not go before one that waits in the queue for the same, of its tier or above."""
        return [
            f"{record} overtakes {lead}"
            for lead in self.leads.values()
            if lead is not fresh
            and lead.kind == fresh.kind == "lead"
            and lead.queue is not None
            and "/" not in lead.queue  # the queue of those who look further afield is another one
            and lead.arrival < fresh.arrival
            and TIERS.index(lead.tier) <= TIERS.index(fresh.tier)
        ]

    def settled(self, offered):
        """What must hold between any two things that happen; ``offered``: who got an offer just now."""
        load = self.load()
        return [
            *(
                f"{lead_id} is nowhere: {lead}"
                for lead_id, lead in self.leads.items()
                if lead.state in {"", *MOMENTS} or (lead.state == "waiting") != bool(lead.queue)
            ),
            *(
                f"{guide} holds {load[guide]}, more than {self.room(guide)}"
                for guide in offered
                if load[guide] > self.room(guide)
            ),
        ]
