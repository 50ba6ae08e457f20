"""Who is entitled to how much of the commission of a sale, and why: as the group settles today, and shared.

All follows from a posting's ``inputs`` and from nothing else. Of a sale that is given back in part every
party holds its entitlement on what remains: ``shared(remaining)``, never ``shared(refund)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple, Self

import msgspec

from router.rules.money.allotment import Key, Lot
from router.rules.money.attribution import acted, attribute, bound
from router.rules.money.evidence import GROUP, Inputs, inputs_of
from router.rules.money.splitting import split, told


class Share(msgspec.Struct, frozen=True):
    """What a party is entitled to in a role; ``fen`` >= 0, ``why`` a sentence that names the evidence."""

    role: str
    party: str
    fen: int
    why: str


class _Split(NamedTuple):
    """The lot, a sentence for each of its keys, and who has a role but no part."""

    lot: Lot
    whys: tuple[str, ...]
    without: tuple[Share, ...]


class Entitlement:
    """Who is entitled to what of one sale, worked out once; any amount of its commission is then divided.

    Refunds beside the sale change nothing of it.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs

    @classmethod
    def of(cls, inputs: Mapping[str, Any]) -> Self:
        """Read the ``inputs`` of a posting.

        Raises:
            ValueError: naming the field that is wrong.

        """
        return cls(inputs_of(inputs))

    def base(self, commission_fen: int) -> tuple[Share, ...]:
        """As the group settles today: all to the first of ``base_order`` who is there, else to the group.

        Raises:
            ValueError: it is less than nothing, or more than was sold.

        """
        (role, party), why = self._settled
        return (Share(role, party, _amount(self.inputs, commission_fen), f"{why}."),)

    def shared(self, commission_fen: int) -> tuple[Share, ...]:
        """After the split rule of the sale's terms; a (role, party) stands once, all sum to the commission.

        Who is entitled to a part of the whole is listed even where that is no fen of this amount.

        Raises:
            ValueError: it is less than nothing, or more than was sold.

        """
        return self.shares(_amount(self.inputs, commission_fen))

    def shares(self, fen: int) -> tuple[Share, ...]:
        """What each party is entitled to of so many fen >= 0, be it more than was sold."""
        lot, whys, _ = self._split
        return tuple(
            Share(role, party, part, why)
            for (role, party), part, why in zip(lot.keys, lot.of(fen), whys, strict=True)
        )

    def idle_income(self, shares: Iterable[Share]) -> dict[tuple[str, str], int]:
        """Income without action: the fen of owners who did nothing for the member in time.

        By (guide, region), '' for no region. Of base shares it is what the group pays so today, of shared
        ones what is left of it.
        """
        known = self.inputs
        out: dict[tuple[str, str], int] = {}
        for share in shares:
            if share.role == "owner" and share.fen and not acted(known, share.party):
                party = known.parties.get(share.party)
                key = (share.party, (party.region if party else None) or "")
                out[key] = out.get(key, 0) + share.fen
        return out

    @property
    def lot(self) -> Lot:
        """What any amount is allotted by."""
        return self._split.lot

    @property
    def without(self) -> tuple[Share, ...]:
        """Who has a role in the sale, but by the split rule no part in it, and why; 0 fen each."""
        return self._split.without

    @cached_property
    def _settled(self) -> tuple[Key, str]:
        return _settled(self.inputs)

    @cached_property
    def _split(self) -> _Split:
        inputs = self.inputs
        found, rule = attribute(inputs), inputs.terms.rule
        parts = split(rule, found.claims)
        weights: dict[Key, int] = {}
        whys: dict[Key, str] = {}
        claims = [((claim.paid_as, claim.party), claim.why) for claim in found.claims]
        weighed = list(zip(claims, parts.weights, strict=True))
        if parts.settled:
            settled, why = self._settled
            weighed.append(((settled, f"{why}, as the group settles today"), parts.settled))
        for (key, why), weight in weighed:
            if weight:
                weights[key] = weights.get(key, 0) + weight
                whys[key] = f"{whys[key]}; {why}" if key in whys else why
        lot = Lot(weights, inputs.order.order_id)
        note = f", since {found.note}" if found.note else ""
        made: dict[Key, list[str]] = {}
        for (key, _), of in zip(claims, told(rule, found.claims, parts), strict=True):
            made.setdefault(key, []).extend(filter(None, [of]))
        return _Split(
            lot,
            tuple(
                f"{whys[key]}: {_percent(weights[key], lot.total)} by rule {rule.name}"
                f"{''.join(f' ({of})' for of in made.get(key, ()))}{note}."
                for key in lot.keys
            ),
            tuple(
                Share(*key, 0, f"{why}: nothing by rule {rule.name}, which has no weight for it{note}.")
                for key, why in dict(claims).items()
                if key not in weights
            ),
        )


def _percent(weight: int, total: int) -> str:
    hundredths = (20_000 * weight + total) // (2 * total)
    return f"{hundredths // 100}.{hundredths % 100:02d} %"


def _amount(inputs: Inputs, commission_fen: int) -> int:
    if type(commission_fen) is not int or not 0 <= commission_fen <= inputs.order.commission_fen:
        raise ValueError(f"commission_fen: {commission_fen!r:.40} is not 0..{inputs.order.commission_fen}")
    return commission_fen


def _settled(inputs: Inputs) -> tuple[Key, str]:
    order = inputs.order
    for role in inputs.terms.base_order:
        if role == "server" and order.served_by is not None:
            known = inputs.parties.get(order.served_by)
            paid_as = "team" if known is not None and known.kind == "team" else role
            return (paid_as, order.served_by), f"{order.served_by} served order {order.order_id}"
        if role == "owner" and (binding := bound(inputs)) is not None:
            return (role, binding.party), f"{binding.party} is bound to the member ({binding.id})"
        if role == "store" and order.store_id is not None:
            return (role, order.store_id), f"order {order.order_id} is of store {order.store_id}"
    return (GROUP, GROUP), "nobody served, nobody is bound and no store is named"
