"""Sales with evidence: by hand for stories, at random for promises, and what they exactly come to."""

from __future__ import annotations

from fractions import Fraction
from random import Random
from typing import Any

import msgspec
from hypothesis import strategies as st

from router.rules.money.attribution import attribute
from router.rules.money.entitlement import Entitlement
from router.rules.money.evidence import inputs_of
from router.rules.money.splitting import SPLIT_RULES, split
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


def base(inputs: dict[str, Any], fen: int) -> Any:
    """As the group settles so much of a sale today."""
    return Entitlement.of(inputs).base(fen)


def shared(inputs: dict[str, Any], fen: int) -> Any:
    """The same after the split."""
    return Entitlement.of(inputs).shared(fen)


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


_RANDOM = Random(1)  # noqa: S311 - a pool of examples that is the same every time
_WHO = [*GUIDES, "team", "boss", "mall", "flat", "m1", "m2"]
_KINDS = ["binding", "loan", "delegation", "share", "origin", "staff", "competitor", *EFFORTS, *EFFORTS]


def _bp() -> int:
    return _RANDOM.choice([0, 1, 3333, 5000, 10_000, _RANDOM.randint(0, 10_000)])


def _by_role(up_to: int) -> dict[str, int]:
    return {role: _bp() for role in _RANDOM.sample(ROLES, _RANDOM.randint(0, up_to))}


def _rule() -> dict[str, Any]:
    return {
        "shares": _by_role(len(ROLES)),
        "efforts": {effort: _RANDOM.randint(0, 10**6) for effort in _RANDOM.sample(EFFORTS, 3)},
        "caps": _by_role(4),
        "floors": _by_role(4),
        "second_level_bp": _bp(),
        "unclaimed": _RANDOM.sample(ROLES, _RANDOM.randint(0, 3)),
    }


def _proof() -> dict[str, Any]:
    until = _RANDOM.choice([None, ago(_RANDOM.randint(-30, 30))])
    return proof(
        _RANDOM.choice(_KINDS),
        _RANDOM.choice(_WHO),
        _RANDOM.randint(-2, 100),
        id=f"e{_RANDOM.randint(0, 40)}",
        of=_RANDOM.choice([None, *_WHO]),
        until_ms=until,
        share_bp=_RANDOM.choice([None, None, _bp()]),
        level=_RANDOM.randint(1, 4),
    )


#: Drawn from pools, since a draw for each of their fields takes a hundred times as long as what is tested.
_PROOFS = [_proof() for _ in range(1000)]
_RULES = [{"shares": {}}, *(_rule() for _ in range(500))]


@st.composite
def sales(draw: Any, kind: str | None = None) -> dict[str, Any]:
    """Any sale under any rule."""
    kind = kind or draw(st.sampled_from([*SPLIT_RULES]))
    marks = dict.fromkeys(("staff", "competitor", "self_dealing"), draw(st.sampled_from(EFFECTS)))
    made = sale(
        *draw(st.lists(st.sampled_from(_PROOFS), max_size=14)),
        fen=draw(st.one_of(st.integers(0, 12), st.integers(0, 10**6), st.integers(0, 2**53 // 10))),
        rule={"kind": kind} | draw(st.sampled_from(_RULES)),
        order_id=f"o{draw(st.integers(0, 10**6))}",
        served_by=draw(st.sampled_from([None, *_WHO])),
        store_id=draw(st.sampled_from([None, "s1", "s2"])),
        marks=draw(st.sampled_from([marks, {}])),
        levels_max=draw(st.integers(0, 2)),
        base_order=draw(st.sampled_from([["server", "owner", "store"], ["owner"], ["store", "owner"]])),
    )
    if draw(st.booleans()):
        made["order"]["source"] = {
            "sharer_id": draw(st.sampled_from(_WHO)),
            "partner": draw(st.sampled_from(_WHO)),
        }
    return made
