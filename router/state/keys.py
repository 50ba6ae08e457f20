"""Every Redis key of the router, in one place.

What stands in braces is the hash tag: keys that share it live on one node and change in one step.
A *cell* is ``brand/market`` with the market percent-encoded, an id holds none of ``: / { } |``:
so no text from outside can choose where a key goes.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from urllib.parse import quote

#: Over how many hash tags the members, the requests and the guides of a brand are spread.
SHARDS = 256
#: What a field of a journey begins with that is about a response.
RESPONSE = "r|"
#: Fields of a cell's capacities that are no guides, since no id holds a ``|``: the mark of a state that is
#: whole, and the token that is lost with it.
MARK, TOKEN = "|", "|t"
#: Among the guides who did something for a member: the member.
ITSELF = "|"


def shard(identity: str) -> int:
    """The shard of a member, a request or a guide."""
    return zlib.crc32(identity.encode()) % SHARDS


def open_attempts(cell: str) -> str:
    """Sorted set, all scores 0, members ``guide|kind|lead|member``: a guide's load is a range's length."""
    return f"lr:{{{cell}}}:open"


def capacity(cell: str) -> str:
    """Hash, guide -> ``version:capacity``: how many open attempts each guide may hold; and ``MARK``."""
    return f"lr:{{{cell}}}:capacity"


def changes(cell: str) -> str:
    """Stream, ids ``mark-0``, ``mark-1``, … without a gap: whose load or turn has changed, with both."""
    return f"lr:{{{cell}}}:changes"


def turns(cell: str) -> str:
    """Hash, guide -> turn, and ``MARK`` -> the cell's clock, see ``scoring.fairness``."""
    return f"lr:{{{cell}}}:turns"


def waiting(cell: str) -> str:
    """Sorted set, all scores 0, members ``queue|tier|arrival_ms|rung|kind|lead|member``: who waits."""
    return f"lr:{{{cell}}}:waiting"


def due(cell: str) -> str:
    """Sorted set by epoch ms, members ``kind|lead|member``: when something is due for a lead."""
    return f"lr:{{{cell}}}:due"


def whom(kind: str, lead_id: str, member_id: str) -> str:
    """How a lead is named among those of its cell, with the member in whose partition its records go."""
    return f"{kind}|{lead_id}|{member_id}"


def records(cell: str) -> str:
    """Hash, guide -> what the guide has done so far, see ``topics.assignments.GuideRecord``."""
    return f"lr:{{{cell}}}:records"


def slots(cell: str) -> str:
    """Sorted set, all scores 0, members ``store|service|start_ms|kind|lead|member``: slots that are taken."""
    return f"lr:{{{cell}}}:slots"


def parked(brand: str) -> str:
    """Sorted set by epoch ms: responses that came before their lead, to be read again."""
    return f"lr:{{{brand}/parked}}:parked"


def lead(cell: str, kind: str, lead_id: str) -> str:
    """Hash of one routing request: newest seq, digest, and the stored answer of each seq."""
    return f"lr:{{{cell}}}:lead:{kind}:{lead_id}"


def member(brand: str, member_id: str) -> str:
    """Hash: owner, since when, loan; and the facts that these follow from."""
    return f"lr:{{{brand}/m{shard(member_id)}}}:member:{member_id}"


def acts(brand: str, member_id: str) -> str:
    """Sorted set, guide -> when they last did something for the member, ``ITSELF`` -> when the member did."""
    return f"lr:{{{brand}/m{shard(member_id)}}}:acts:{member_id}"


def contacts(brand: str, member_id: str) -> str:
    """Sorted set, touch -> when the member was contacted."""
    return f"lr:{{{brand}/m{shard(member_id)}}}:contacts:{member_id}"


def track(brand: str, member_id: str) -> str:
    """Sorted set, ``touch|kind|direction|guide|sharer`` -> when: the newest touches."""
    return f"lr:{{{brand}/m{shard(member_id)}}}:track:{member_id}"


def deeds(brand: str, member_id: str) -> str:
    """Sorted set, ``kind|event|guide|`` -> when: what was done for the member (``rules.money.deeds``)."""
    return f"lr:{{{brand}/m{shard(member_id)}}}:deeds:{member_id}"


def shares(brand: str, member_id: str) -> str:
    """Sorted set, ``share|event|sharer|`` -> when: who shared with the member, the newest."""
    return f"lr:{{{brand}/m{shard(member_id)}}}:shares:{member_id}"


def origins(brand: str, member_id: str) -> str:
    """Sorted set, ``origin|event|party|sort of party`` -> when each party first brought the member."""
    return f"lr:{{{brand}/m{shard(member_id)}}}:origins:{member_id}"


def windows(brand: str) -> str:
    """Sorted set, member -> when the member last did something: who may still be answered, until reminded."""
    return f"lr:{{{brand}/window}}:windows"


def reminded(brand: str, guide_id: str) -> str:
    """Sorted set, lead -> when: the reminders that a guide got within a day."""
    return f"lr:{{{brand}/g{shard(guide_id)}}}:reminded:{guide_id}"


def book(brand: str, guide_id: str) -> str:
    """Sorted set, all scores 0: the members who are bound to a guide."""
    return f"lr:{{{brand}/g{shard(guide_id)}}}:book:{guide_id}"


def needs(brand: str, member_id: str) -> str:
    """Hash, what a member asks for -> the open lead that does, until when it stands for others."""
    return f"lr:{{{brand}/m{shard(member_id)}}}:needs:{member_id}"


def lead_cell(brand: str, kind: str, lead_id: str) -> str:
    """String: the cell of a routing request, fixed at its first attempt.

    It hangs on the request's identity alone: another member's lead with the same id must meet the first one.
    """
    return f"lr:{{{brand}/m{shard(lead_id)}}}:cell:{kind}:{lead_id}"


def journey(brand: str, member_id: str, kind: str, lead_id: str) -> str:
    """Hash, seq -> ``offset|record`` of the first assignment record with that seq; ``RESPONSE`` and an id ->
    what became of that response.
    """
    return f"lr:{{{brand}/m{shard(member_id)}}}:journey:{kind}:{lead_id}"


def inbox(brand: str, guide_id: str) -> str:
    """Hash, ``kind|lead`` -> ``seq|offset|record``: the cards a guide holds now."""
    return f"lr:{{{brand}/g{shard(guide_id)}}}:inbox:{guide_id}"


def feed(brand: str, guide_id: str) -> str:
    """Stream of a guide's newest cards, for those who follow along."""
    return f"lr:{{{brand}/g{shard(guide_id)}}}:feed:{guide_id}"


def book_head(brand: str) -> str:
    """Hash of a brand's book: ``seq`` of the last posting, ``open`` the first period that is not closed,
    ``n|period`` how many are posted to it, ``seal|period`` as it was closed; and ``MARK``, ``TOKEN``.
    """
    return f"lr:{{{brand}/money}}:head"


def unpublished(brand: str) -> str:
    """Sorted set, posting -> book_seq: those of which it is not known that the broker has them."""
    return f"lr:{{{brand}/money}}:unpublished"


def vesting(brand: str) -> str:
    """Sorted set by epoch ms: orders by when their rights window ends."""
    return f"lr:{{{brand}/money}}:vesting"


def earned(brand: str) -> str:
    """Sorted set by period, 202611: orders of which something was earned in it and is not settled."""
    return f"lr:{{{brand}/money}}:earned"


def settled(brand: str) -> str:
    """Sorted set by period, 202611: orders of which something was settled in it and is not paid."""
    return f"lr:{{{brand}/money}}:settled"


def order(brand: str, order_id: str) -> str:
    """Hash: ``s`` how an order stands (``rules.money.standing``), ``i`` the inputs it was sold under."""
    return f"lr:{{{brand}/money}}:order:{order_id}"


def posting(brand: str, posting_id: str) -> str:
    """String: the bytes of a posting as they are published."""
    return f"lr:{{{brand}/money}}:posting:{posting_id}"


def chain(brand: str, period: str) -> str:
    """Sorted set, ``digest|fen`` -> book_seq: the postings of a period that is not closed."""
    return f"lr:{{{brand}/money}}:chain:{period}"


@lru_cache(maxsize=65_536)
def earnings(brand: str, kind: str, name: str) -> str:
    """Hash of a party, store or region, or of the whole book: ``account|role`` and ``p|period`` -> fen;
    a store or partner that is paid is of kind ``party-store`` or ``party-partner``: its id may be a guide's;
    ``day`` -> ``2026-11-29 fen``, the last day on which something was earned.
    """
    return f"lr:{{{brand}/money}}:earnings:{kind}:{quote(name, safe='')}"


def is_of_money(key: str) -> bool:
    """Whether a key is of a brand's book."""
    names = ("head", "unpublished", "vesting", "earned", "settled")
    return "/money}:" in key and (
        key.endswith(tuple(f"}}:{name}" for name in names))
        or any(f"}}:{name}:" in key for name in ("order", "posting", "chain", "earnings"))
    )


#: Hash, cell -> '': every cell there was, since a market that no store is in any more may still have leads.
CELLS = "lr:cells"


def identities(log_name: str) -> str:
    """Hash, identity of a server -> since when (epoch ms) it holds what the log says."""
    return f"lr:identities:{log_name}"


def follows_along(key: str) -> bool:
    """Whether a key is a stream for those who follow along, and no part of the state."""
    return "}:feed:" in key or key.endswith("}:changes")


def is_own(key: str) -> bool:
    """Whether a key may be there though nothing in the log asks for it: the log may have forgotten by now."""
    forgotten = follows_along(key) or is_turns(key) or is_records(key) or is_of_touches(key)
    forgotten = forgotten or "}:posting:" in key
    return (
        forgotten or "}:reminded:" in key or "}:needs:" in key or key.endswith(("/parked}:due", "}:windows"))
    )


def is_sorted_set(key: str) -> bool:
    """Whether a key holds a sorted set."""
    if is_of_money(key):
        return "}:chain:" in key or key.endswith(("}:unpublished", "}:vesting", "}:earned", "}:settled"))
    return (
        key.endswith(("}:open", "}:waiting", "}:due", "}:slots", "}:windows"))
        or is_of_touches(key)
        or "}:book:" in key
    )


def is_of_touches(key: str) -> bool:
    """Whether a key holds what touches told, which the log may have forgotten."""
    return any(f"}}:{name}:" in key for name in ("acts", "contacts", "track", "deeds", "shares", "origins"))


def is_of_origins(key: str) -> bool:
    """Whether a key holds who first brought a member."""
    return "}:origins:" in key


def is_capacity(key: str) -> bool:
    """Whether a key holds the capacities of a cell."""
    return key.endswith("}:capacity")


def is_turns(key: str) -> bool:
    """Whether a key holds the turns of a cell, which may be older than the log."""
    return key.endswith("}:turns")


def is_records(key: str) -> bool:
    """Whether a key holds the guides' records of a cell, which may be older than the log."""
    return key.endswith("}:records")


def expires(key: str) -> bool:
    """Whether a key is forgotten after the time that answers are remembered."""
    names = ("lead", "cell", "journey", "inbox", "posting", "acts", "contacts", "track")
    return any(f"}}:{name}:" in key for name in names)


#: The keys of a cell that claims work on, in the order in which the scripts take them.
OF_CELL = (open_attempts, capacity, waiting, changes, turns, due, records, slots)


def tag(key: str) -> str:
    """The hash tag of a key."""
    return key[key.index("{") + 1 : key.index("}")]
