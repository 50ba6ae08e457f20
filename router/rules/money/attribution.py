"""From evidence to who has a part in a sale: roles, what was done, and the evidence that says so.

Only what happened up to the sale counts, once, in whatever order it is listed. Of contracts (binding, loan,
delegation) the last one counts, and only while it runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Literal, NamedTuple

from router.rules.money.evidence import Evidence, EvidenceKind, Inputs, apart, holder, known_as
from router.rules.ownership import DAY_MS
from scoring.terms import EFFECTS, EFFORTS, WHOLE_BP, Effect, Effort, Mark, Role, WindowedRole

HOUR_MS = 3_600_000
#: How a deed is told.
_TOLD: dict[Effort, str] = {
    "accepted": "accepted the lead",
    "contacted": "contacted the member",
    "live": "was live with the member",
    "visit": "met the member in the store",
    "chat": "chatted with the member",
}
#: Under which of several roles somebody's deeds count: the first of these.
_ACTING: tuple[Role, ...] = (
    "server",
    "team",
    "owner",
    "lender",
    "sharer",
    "manager",
    "partner",
    "ecommerce",
    "store",
)
_RANK = {role: rank for rank, role in enumerate(_ACTING)}


class Claim(NamedTuple):
    """A party in a role. ``paid_as`` differs from ``role`` where a team serves.

    ``part``: of what the rule gives to the role, in proportion to the others of that role; 0: nothing but for
    its deeds, kinds of effort, once a day each. ``agreed_bp``: of the commission, where that was agreed.
    ``why``: half a sentence that names the evidence.
    """

    role: Role
    party: str
    part: int
    why: str
    agreed_bp: int | None = None
    deeds: tuple[Effort, ...] = ()
    paid_as: str = ""


class Attribution(NamedTuple):
    """``note`` says why there are fewer claims than evidence gives, '' where there are not."""

    claims: tuple[Claim, ...]
    note: str = ""


def attribute(inputs: Inputs) -> Attribution:
    """Who has a part in the sale, by roles and ids; fewer where the member is no customer."""
    past = _Past(inputs)
    claims = [*_bound(past), *_served(past), *_shared(past), *_brought(past)]
    claims += _housed(past, claims)
    claims = sorted(_with_deeds(past, claims), key=lambda claim: (claim.role, claim.party))
    return _judged(past, claims)


def bound(inputs: Inputs) -> Evidence | None:
    """The contract of who is bound to the member at the sale."""
    return _Past(inputs).in_force("binding")


def acted(inputs: Inputs, party: str) -> bool:
    """Whether the party served the order or, by any evidence, did something for the member in time."""
    return party == inputs.order.served_by or party in _Past(inputs).deeds


class _Past:
    """The evidence up to the sale, each once and in order of time."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs, self.order, self.terms = inputs, inputs.order, inputs.terms
        self.at_ms = inputs.order.occurred_at_ms
        self.by_kind: dict[EvidenceKind, list[Evidence]] = {}
        for each in sorted({each for each in inputs.evidence if each.at_ms <= self.at_ms}, key=_in_time):
            self.by_kind.setdefault(each.kind, []).append(each)

    @cached_property
    def deeds(self) -> dict[str, list[Evidence]]:
        """What each party did in the window of who serves: the first of each kind and day, in time.

        Days are those of the book's clock.
        """
        offset_ms = self.terms.ledger_utc_offset_h * HOUR_MS
        out: dict[str, dict[tuple[str, int], Evidence]] = {}
        for each in sorted(self.recent("server", *EFFORTS), key=_in_time):
            today = (each.at_ms + offset_ms) // DAY_MS
            out.setdefault(each.party, {}).setdefault((each.kind, today), each)
        return {party: [*done.values()] for party, done in out.items()}

    def recent(self, role: WindowedRole, *kinds: EvidenceKind) -> list[Evidence]:
        """What of these kinds lies in the window of a role."""
        from_ms = self.at_ms - self.terms.attribution.get(role, 0) * DAY_MS
        return [each for kind in kinds for each in self.by_kind.get(kind, ()) if each.at_ms >= from_ms]

    def in_force(self, kind: EvidenceKind, of: str | None = None) -> Evidence | None:
        """The last contract of this kind, if it runs at the sale."""
        last = next((each for each in reversed(self.by_kind.get(kind, ())) if of in {None, each.of}), None)
        return last if last and (last.until_ms is None or self.at_ms < last.until_ms) else None

    def kind_of(self, party: str, role: Role = "server") -> str:
        """What sort of party it is; a guide where nothing is told."""
        known = known_as(self.inputs.parties, role, party)
        return known.kind if known else "guide"


def _in_time(each: Evidence) -> tuple[int | str, ...]:
    until_ms = -1 if each.until_ms is None else each.until_ms
    share_bp = -1 if each.share_bp is None else each.share_bp
    return each.at_ms, each.kind, each.id, each.party, each.of or "", until_ms, share_bp, each.level


def _bound(past: _Past) -> Iterable[Claim]:
    """The owner, unless neither bound nor active for too long; or who lent the member, and who stands in.

    A team is paid for members that it runs by delegation, where it did something for this one.
    """
    binding = past.in_force("binding")
    if binding is None:
        return
    owner = binding.party
    loan = past.in_force("loan", of=owner)
    if loan and loan.party != owner and loan in past.recent("lender", "loan"):
        yield Claim("lender", owner, 1, f"{owner} lent the member to {loan.party} ({loan.id})", loan.share_bp)
        yield Claim("owner", loan.party, 1, f"{loan.party} stands in for {owner} ({loan.id})")
    elif any(each.party == owner for each in past.recent("owner", "binding", *EFFORTS)):
        yield Claim("owner", owner, 1, f"{owner} is bound to the member ({binding.id})")
    run = past.in_force("delegation", of=owner)
    if run is None:
        return
    did = [e for e in past.recent("team", *EFFORTS) if e.party == run.party and e.at_ms >= run.at_ms]
    proof = max(did, key=_in_time).id if did else ""
    if past.order.served_by == run.party:
        proof = past.order.order_id
    if proof:
        why = f"{run.party} runs the members of {owner} ({run.id}) and did so for this one ({proof})"
        yield Claim("team", run.party, 1, why, run.share_bp)


def _served(past: _Past) -> Iterable[Claim]:
    """Who served the order, or else who was the last to do something for the member.

    A team has a part by deeds only where it runs the member, see `_bound`.
    """
    party = past.order.served_by
    why = f"{party} served order {past.order.order_id}"
    if party is None:
        done = [each for deeds in past.deeds.values() for each in deeds if past.kind_of(each.party) != "team"]
        if not done:
            return
        last = max(done, key=_in_time)
        party, why = last.party, f"{last.party} was the last to do something for the member ({last.id})"
    yield Claim("server", party, 1, why)


def _shared(past: _Past) -> Iterable[Claim]:
    """The last to share, and who had passed it on to them; further levels are never paid."""
    levels = past.terms.levels_max
    shares = past.recent("sharer", "share")
    first = next((each for each in reversed(shares) if each.level == 1), None)
    source = past.order.source
    sharer, proof = (first.party, first.id) if first else ("", "")
    if source and source.sharer_id:
        sharer, proof = source.sharer_id, past.order.order_id
    if not sharer or not levels:
        return
    seconds = (e for e in reversed(shares) if e.level == 2 and e.of == sharer and e.party != sharer)  # noqa: PLR2004
    second = next(seconds, None) if levels > 1 else None
    passed_bp = past.terms.rule.second_level_bp if second else 0
    yield Claim("sharer", sharer, WHOLE_BP - passed_bp, f"{sharer} shared with the member ({proof})")
    if second:
        why = f"{second.party} had passed it on to {sharer}, who shared with the member ({second.id})"
        yield Claim("sharer", second.party, passed_bp, why)


def _brought(past: _Past) -> Iterable[Claim]:
    """The partner and the e-commerce that were the first to supply the member, for as long as agreed."""
    source = past.order.source
    roles: tuple[Literal["ecommerce", "partner"], ...] = ("ecommerce", "partner")
    for role in roles:
        origins = [(each.party, each.id) for each in past.recent(role, "origin")]
        if source and source.partner:
            origins.append((source.partner, past.order.order_id))
        for party, proof in origins:
            if (past.kind_of(party, role) == "ecommerce") == (role == "ecommerce"):
                yield Claim(role, party, 1, f"{party} supplied the member ({proof})")
                break


def _housed(past: _Past, claims: Iterable[Claim]) -> Iterable[Claim]:
    """The store of the order, or else of who served, or else of who is bound; and its managers."""
    store, why = past.order.store_id, f"order {past.order.order_id} is of the store"
    for role in ("server", "owner"):
        for claim in claims if store is None else ():
            known = past.inputs.parties.get(claim.party)
            if claim.role == role and known and known.store_id:
                store, why = known.store_id, f"it is the store of {claim.party}"
    if store is None:
        return
    yield Claim("store", store, 1, why)
    for party, known in past.inputs.parties.items():
        if known.kind == "manager" and known.store_id == store:
            yield Claim("manager", party, 1, f"{party} manages store {store}")


def _with_deeds(past: _Past, claims: list[Claim]) -> Iterable[Claim]:
    """What somebody did counts under one role; who did something and has none yet serves, without a part."""
    acting: dict[str, Role] = {}
    # who bears somebody else's id has done nothing: guides did
    for claim in (each for each in claims if apart(each.role, each.party) not in past.inputs.parties):
        held = acting.setdefault(claim.party, claim.role)
        if _RANK[claim.role] < _RANK[held]:
            acting[claim.party] = claim.role
    helped = (party for party in past.deeds if party not in acting and past.kind_of(party) != "team")
    for claim in (*claims, *(Claim("server", party, 0, party) for party in helped)):
        role, party, part, why, agreed_bp = claim[:5]
        deeds: tuple[Effort, ...] = ()
        if acting.get(party, "server") == role and (done := past.deeds.get(party)):
            told = ", ".join(f"{_TOLD[each.kind]} ({each.id})" for each in done if each.kind in EFFORTS)
            deeds = tuple(each.kind for each in done if each.kind in EFFORTS)
            why = f"{why}, {told}" if part else f"{why} {told}"
        paid_as = "team" if role == "server" and past.kind_of(party) == "team" else role
        yield Claim(role, party, part, why, agreed_bp, deeds, paid_as)


def _judged(past: _Past, claims: list[Claim]) -> Attribution:
    """Apply what the policy names for members who are no customers: the strictest of what fits."""
    member = past.order.member_id
    found: dict[Mark, bool] = {
        "staff": "staff" in past.by_kind,
        "competitor": "competitor" in past.by_kind,
        "self_dealing": any(_is_member(claim, member) for claim in claims),
    }
    named = past.terms.marks
    effects: dict[Effect, Mark] = {named[m]: m for m, is_so in found.items() if is_so and m in named}
    effect: Effect = max(effects, key=EFFECTS.index, default="split")
    if effect == "split":
        return Attribution(tuple(claims))
    note = f"member {member} is marked {effects[effect]}"
    if effect == "without":
        kept = tuple(claim for claim in claims if not _is_member(claim, member))
        return Attribution(kept, note if len(kept) < len(claims) else "")
    # all to the store, or nothing at all: then the group's own settlement is what is left
    return Attribution(tuple(claim for claim in claims if claim.role == effect == "store"), note)


def _is_member(claim: Claim, member: str) -> bool:
    """A member who is a guide bears one id; a store or a partner is nobody who buys."""
    return claim.party == member and holder(claim.role) == "guide"
