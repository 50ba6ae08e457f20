"""Who is entitled to how much of the commission of a sale, and why: as the group settles today, and shared.

Both are functions of a posting's ``inputs`` and of nothing else. Of a sale that is given back in part every
party holds its entitlement on what remains: ``shared(inputs, remaining)``, never ``shared(inputs, refund)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from router.rules.evidence import Evidence, Inputs, inputs_of

#: Who holds what nobody else can claim: role and party.
GROUP = "group"


class Share(msgspec.Struct, frozen=True):
    """What a party is entitled to in a role; ``fen`` >= 0, ``why`` a sentence that names the evidence."""

    role: str
    party: str
    fen: int
    why: str


def base(inputs: Mapping[str, Any], commission_fen: int) -> tuple[Share, ...]:
    """As the group settles today: all to the first of ``base_order`` who is there, else to the group.

    Raises:
        ValueError: naming the field that is wrong.

    """
    known = inputs_of(inputs)
    _refuse_amount(known, commission_fen)
    role, party, why = _settled(known)
    return (Share(role, party, commission_fen, why),)


def shared(inputs: Mapping[str, Any], commission_fen: int) -> tuple[Share, ...]:
    """After the split rule of the sale's terms; a (role, party) stands once, all sum to the commission.

    Raises:
        ValueError: naming the field that is wrong.

    """
    return base(inputs, commission_fen)


def check(inputs: Mapping[str, Any]) -> None:
    """Refuse what a posting about an order must not carry.

    Raises:
        ValueError: naming the field that is wrong.

    """
    inputs_of(inputs)


def _refuse_amount(inputs: Inputs, commission_fen: int) -> None:
    if type(commission_fen) is not int or not 0 <= commission_fen <= inputs.order.commission_fen:
        raise ValueError(f"commission_fen: {commission_fen!r:.40} is not 0..{inputs.order.commission_fen}")


def _settled(inputs: Inputs) -> tuple[str, str, str]:
    order = inputs.order
    for role in inputs.terms.base_order:
        if role == "server" and order.served_by is not None:
            known = inputs.parties.get(order.served_by)
            paid_as = "team" if known is not None and known.kind == "team" else role
            return paid_as, order.served_by, f"{order.served_by} served order {order.order_id}."
        if role == "owner":
            held = [each for each in inputs.evidence if each.kind == "binding" and _runs(inputs, each)]
            if held:
                last = max(held, key=lambda each: (each.at_ms, each.id, each.party))
                return role, last.party, f"{last.party} is bound to the member by {last.id}."
        if role == "store" and order.store_id is not None:
            return role, order.store_id, f"Order {order.order_id} is of store {order.store_id}."
    return GROUP, GROUP, "Nobody served, nobody is bound and no store is named: it stays with the group."


def _runs(inputs: Inputs, contract: Evidence) -> bool:
    at_ms = inputs.order.occurred_at_ms
    return contract.at_ms <= at_ms and (contract.until_ms is None or at_ms < contract.until_ms)
