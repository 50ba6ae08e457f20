"""Gathers, at the sale, all that decides about its commission: from the member's state and the roster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from router.reference import Reference
from router.rules.money.evidence import Evidence, Inputs, Party, Sale, apart, frozen
from router.rules.money.standing import sale_of
from router.rules.ownership import DAY_MS, Contract, follow
from router.state.members import Member, Members
from topics.orders import Order

_OWNING = ("bind", "transfer_done")

Told = tuple[str, str, str, str, int]
"""Kind, id, party, more, epoch ms: see ``router.rules.money.deeds``."""


@dataclass(frozen=True, slots=True)
class Gathering:
    """To gather again may give more: what an order is sold under is frozen by the book, not here."""

    members: Members
    reference: Reference

    async def gather(self, orders: Sequence[Order]) -> list[dict[str, Any]]:
        """The inputs of each order's postings, with what is known now of the time before it."""
        if not orders:
            return []
        members = [(order.brand, order.member_id) for order in orders]
        contracts = await self.members.contracts(members)
        tracks = await self.members.deeds(members)
        passed_on = await self._passed_on(members, tracks)
        return [
            self._inputs(order, contract, track, passed_on)
            for order, (_, contract), track in zip(orders, contracts, tracks, strict=True)
        ]

    async def _passed_on(
        self, members: Sequence[Member], tracks: Sequence[Sequence[Told]]
    ) -> Mapping[Member, Sequence[Told]]:
        """By whom the sharers came themselves: they are members as well."""
        sharers = list(
            dict.fromkeys(
                (brand, party)
                for (brand, _), track in zip(members, tracks, strict=True)
                for kind, _, party, *_ in track
                if kind == "share"
            )
        )
        return dict(zip(sharers, await self.members.deeds(sharers), strict=True))

    def _inputs(
        self,
        order: Order,
        contract: Contract,
        track: Sequence[Told],
        passed_on: Mapping[Member, Sequence[Told]],
    ) -> dict[str, Any]:
        at_ms, brand = order.occurred_at_ms, order.brand
        policy = self.reference.policy(brand)
        # what was said after the sale does not count, though it may have come before it
        then = follow(Contract(), [fact for fact in contract.facts if fact.at_ms <= at_ms])
        found = [*self._contracts(brand, then, policy.loan_days_max * DAY_MS)]
        kinds: dict[str, str] = {}
        for kind, name, party, more, when in track:
            if when <= at_ms:
                found.append(_evidence(kind, name, when, party))
                kinds |= {party: more} if kind == "origin" else {}
            if kind == "share" and when <= at_ms:
                found += _second(passed_on.get((brand, party), ()), party, order.member_id, when)
        found += [
            _evidence(flag, order.member_id, 0, order.member_id)
            for flag in self.reference.flags(brand, order.member_id)
        ]
        sale = msgspec.convert(sale_of(order), Sale)
        parties = self._parties(brand, sale, found, kinds)
        terms = policy.commission.terms(order, policy.version)
        found.sort(key=lambda each: (each.at_ms, each.kind, each.id, each.party))
        return frozen(Inputs(order=sale, terms=terms, evidence=tuple(found), parties=parties))

    def _contracts(self, brand: str, contract: Contract, loan_max_ms: int) -> Iterable[Evidence]:
        """The binding as it stood, the loan on top of it, and the team that runs the guide's members."""
        if not contract.owner:
            return
        bound = [fact for fact in contract.facts if fact.kind in _OWNING and fact.at_ms == contract.since_ms]
        yield _evidence("binding", bound[-1].command_id, contract.since_ms, contract.owner)
        loan = contract.loan
        if loan is not None:
            lent = [fact for fact in contract.facts if fact.kind == "lend" and fact.at_ms == loan.at_ms]
            end_ms = loan.at_ms + loan_max_ms
            yield Evidence(
                kind="loan",
                id=lent[-1].command_id,
                at_ms=loan.at_ms,
                party=loan.to,
                of=contract.owner,
                until_ms=end_ms if loan.until_ms is None else min(loan.until_ms, end_ms),
                share_bp=loan.share_bp,
            )
        given = self.reference.delegation(brand, contract.owner)
        if given is not None:
            yield Evidence(
                kind="delegation",
                id=contract.owner,
                at_ms=given.from_ms,
                party=given.team_id,
                of=contract.owner,
                until_ms=given.until_ms,
                share_bp=given.share_bp,
            )

    def _parties(
        self, brand: str, sale: Sale, found: Sequence[Evidence], kinds: Mapping[str, str]
    ) -> dict[str, Party]:
        """Who everybody was who is named, and who manages the store."""
        teams = {each.party for each in found if each.kind == "delegation"}
        told = [name for each in found if each.kind != "origin" for name in (each.party, each.of)]
        out: dict[str, Party] = {}
        for name in dict.fromkeys(filter(None, [sale.served_by, *told])):
            out[name] = self.reference.party(brand, name, team=name in teams)
        server = out.get(sale.served_by or "")
        store_id = sale.store_id or (server.store_id if server is not None else None)
        region = None if store_id is None else self.reference.region(brand, store_id)
        for name in () if store_id is None else self.reference.managers(brand, store_id):
            out[name] = Party(kind="manager", store_id=store_id, region=region)
        # whoever bears that id already is somebody else
        partner = sale.source.partner if sale.source is not None else None
        brought = {partner: "partner"} if partner is not None and partner in out else {}
        for name, kind in (brought | {**kinds}).items():
            out[apart("partner", name) if name in out else name] = msgspec.convert({"kind": kind}, Party)
        if store_id is not None:
            own = Party(kind="store", store_id=store_id, region=region)
            out[store_id if out.get(store_id, own) == own else apart("store", store_id)] = own
        return out


def _second(track: Sequence[Told], sharer: str, member_id: str, before_ms: int) -> list[Evidence]:
    """Who passed on to the sharer what the sharer shared: the last one before that, at the second level."""
    came = [each for each in track if each[0] == "share" and each[4] <= before_ms]
    if not came:
        return []
    _, name, party, _, when = max(came, key=lambda each: (each[4], each[1]))
    if party in {sharer, member_id}:
        return []
    return [Evidence(kind="share", id=name, at_ms=when, party=party, of=sharer, level=2)]


def _evidence(kind: str, name: str, at_ms: int, party: str) -> Evidence:
    return msgspec.convert({"kind": kind, "id": name, "at_ms": max(at_ms, 0), "party": party}, Evidence)
