"""Leads that are not routed like others: who asks again for what is open already, and who is no customer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from urllib.parse import quote

from router.rules.intake import Request
from scoring.policy import Policy
from topics.assignments import Mark
from topics.leads import Lead

#: Why a lead is closed before it began.
MERGED = "merged"


def asked_for(request: Request) -> str:
    """What a lead asks for, '' for nothing in particular: leads for the same are one.

    Without needs and goods there is nothing to tell two wishes apart by.
    """
    event = request.event
    if not isinstance(event, Lead) or not (event.needs or event.sku):
        return ""
    parts = (event.store_id or "", event.price_zone or "", event.sku or "", *sorted({*event.needs}))
    return "/".join(quote(part, safe="") for part in parts)


def merged(request: Request, into: str) -> Request:
    """The request of a member whose lead ``into`` (kind|id) is open for the same."""
    return replace(request, over=True, reason=MERGED, merged_into=into.partition("|")[2])


def marked(request: Request, flags: Collection[str], policy: Policy, *, works: bool) -> Request:
    """Mark a lead whose member is no customer, with the effect that the policy names.

    ``flags`` are those of the member; ``works``: the member is a guide.
    """
    event = request.event
    sharer = event.source.sharer_id if event.source is not None else None
    found: dict[Mark, bool] = {
        "staff": works or "staff" in flags,
        "competitor": "competitor" in flags,
        "self_dealing": sharer == event.member_id,
    }
    marks = tuple(mark for mark, is_so in found.items() if is_so)
    if not marks:
        return request
    effects = {policy.marks[mark] for mark in marks}
    return replace(
        request,
        marks=marks,
        over="close" in effects,
        reason=marks[0] if "close" in effects else None,
        held="hq" in effects,
    )


def whom(request: Request, lead: str) -> tuple[str, str, str, str]:
    """Brand, member, kind and id of another lead (kind|id) of the same member."""
    kind, _, lead_id = lead.partition("|")
    return (request.event.brand, request.event.member_id, kind, lead_id)


def named(request: Request, lead: str) -> tuple[str, str, str]:
    """Brand, kind and id of another lead (kind|id) of the same brand."""
    kind, _, lead_id = lead.partition("|")
    return (request.event.brand, kind, lead_id)


def first_of_each(requests: Sequence[Request]) -> dict[tuple[str, str, str], int]:
    """The row of the first request about each lead (brand, kind, id)."""
    out: dict[tuple[str, str, str], int] = {}
    for row, request in enumerate(requests):
        out.setdefault(identity_of(request), row)
    return out


def identity_of(request: Request) -> tuple[str, str, str]:
    """Brand, kind and id."""
    return (request.event.brand, request.kind, request.lead_id)
