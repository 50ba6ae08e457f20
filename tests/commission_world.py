"""Sales with evidence: by hand for stories, at random for promises, and what they exactly come to."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
from hypothesis import strategies as st

from router.rules.attribution import attribute
from router.rules.entitlement import base
from router.rules.evidence import inputs_of
from router.rules.splitting import SPLIT_RULES, split
from scoring.terms import EFFECTS, EFFORTS, ROLES, Commission
from topics.orders import Order

DAY_MS = 86_400_000
SALE_MS = 1_000 * DAY_MS
GUIDES = ("g1", "g2", "g3", "g4")
PARTIES = {
    "g1": {"store_id": "s1", "region": "east"},
    "g2": {"store_id": "s1", "region": "east"},
    "g3": {"store_id": "s2", "region": "west"},
    "boss": {"kind": "manager", "store_id": "s1", "region": "east"},
    "vice": {"kind": "manager", "store_id": "s1", "region": "east"},
    "team": {"kind": "team", "region": "hq"},
    "mall": {"kind": "ecommerce"},
    "flat": {"kind": "partner"},
}


def ago(days: float) -> int:
    """So many days before the sale."""
    return SALE_MS - round(days * DAY_MS)


def proof(kind: str, party: str, days: float = 1, **more: Any) -> dict[str, Any]:
    """Evidence from so many days before the sale."""
    return {"kind": kind, "id": f"{kind}-{party}", "party": party, "at_ms": ago(days)} | more


def sale(*evidence: dict[str, Any], fen: int = 10_000, rule: Any = None, **more: Any) -> dict[str, Any]:
    """Inputs of a posting; ``rule`` a split rule's keys, or the default; ``more`` keys of order and terms."""
    order = {"order_id": "o1", "member_id": "m1", "occurred_at_ms": SALE_MS, "amount_fen": 10 * fen}
    order["commission_fen"] = fen
    made = Order(order_id="o1", member_id="m1", brand="b", occurred_at_ms=0, status="paid", amount_fen=0,
                 commission_fen=0)  # fmt: skip
    frozen = Commission().terms(made, 7)
    terms = {name: getattr(frozen, name) for name in frozen.__struct_fields__ if name != "rule"}
    terms = {name: [*value] if isinstance(value, tuple) else dict(value) if isinstance(value, dict) else value
             for name, value in terms.items()}  # fmt: skip
    terms["rule"] = {"name": "r", "kind": "effort_weighted"} | rule if rule else plain(frozen.rule)
    terms |= {name: more.pop(name) for name in [*more] if name in terms}
    parties = more.pop("parties", PARTIES)
    return {"order": order | more, "terms": terms, "evidence": [*evidence], "parties": dict(parties)}


def plain(struct: Any) -> Any:
    """A struct as JSON has it."""
    return msgspec.to_builtins(struct)


def exact(inputs: dict[str, Any]) -> dict[tuple[str, str], Fraction]:
    """What each role and party would get of one fen, if fen could be cut."""
    known = inputs_of(inputs)
    claims = attribute(known).claims
    made = split(known.terms.rule, claims)
    (settled,) = base(inputs, 0)
    total = sum(made.weights) + made.settled
    out: dict[tuple[str, str], Fraction] = {}
    keys = [(claim.paid_as, claim.party) for claim in claims]
    for key, weight in zip(
        [*keys, (settled.role, settled.party)], [*made.weights, made.settled], strict=True
    ):
        out[key] = out.get(key, Fraction(0)) + Fraction(weight, total)
    return {key: part for key, part in out.items() if part}


_BP = st.one_of(st.sampled_from([0, 1, 3333, 5000, 10_000]), st.integers(0, 10_000))


def rules(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    """Any rule of a kind that a posting can carry, sense or no sense."""
    return st.fixed_dictionaries(
        {
            "name": st.just("r"),
            "kind": st.just(kind),
            "shares": st.dictionaries(st.sampled_from(ROLES), _BP),
            "efforts": st.dictionaries(st.sampled_from(EFFORTS), st.integers(0, 1_000_000)),
            "caps": st.dictionaries(st.sampled_from(ROLES), _BP, max_size=4),
            "floors": st.dictionaries(st.sampled_from(ROLES), _BP, max_size=4),
            "second_level_bp": _BP,
            "unclaimed": st.lists(st.sampled_from(ROLES), max_size=3),
        }
    )


_WHO = st.sampled_from([*GUIDES, "team", "boss", "mall", "flat", "m1", "m2"])
_PROOF = st.builds(
    lambda kind, party, days, number, of, until, share_bp, level: (
        proof(kind, party, days, id=f"e{number}", of=of, share_bp=share_bp, level=level)
        | {"until_ms": None if until is None else ago(until)}
    ),
    st.sampled_from(
        ["binding", "loan", "delegation", "share", "origin", "staff", "competitor", *EFFORTS * 2]
    ),
    _WHO,
    st.integers(-2, 100),
    st.integers(0, 40),
    st.one_of(st.none(), _WHO),
    st.one_of(st.none(), st.integers(-30, 30)),
    st.one_of(st.none(), _BP),
    st.integers(1, 4),
)


@st.composite
def sales(draw: Any, kind: str | None = None) -> dict[str, Any]:
    """Any sale under any rule."""
    kind = kind or draw(st.sampled_from([*SPLIT_RULES]))
    marks = {mark: draw(st.sampled_from(EFFECTS)) for mark in ("staff", "competitor", "self_dealing")}
    made = sale(
        *draw(st.lists(_PROOF, max_size=14)),
        fen=draw(st.one_of(st.integers(0, 12), st.integers(0, 10**6), st.integers(0, 2**53 // 10))),
        rule=draw(rules(kind)),
        order_id=draw(st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)),
        served_by=draw(st.one_of(st.none(), _WHO)),
        store_id=draw(st.one_of(st.none(), st.sampled_from(["s1", "s2"]))),
        marks=draw(st.sampled_from([marks, {}])),
        levels_max=draw(st.integers(0, 2)),
        base_order=draw(st.sampled_from([["server", "owner", "store"], ["owner"], ["store", "owner"]])),
    )
    if draw(st.booleans()):
        made["order"]["source"] = {"sharer_id": draw(_WHO), "partner": draw(_WHO)}
    return made
