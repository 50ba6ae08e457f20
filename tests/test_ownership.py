"""Who is responsible for a member, what touches tell, and when to remind: as pure functions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.rules.charge import Charge, Standing, charges, responsible
from router.rules.ownership import DAY_MS, FACTS_MAX, Contract, Fact, Loan, Transfer, fact_of, follow
from router.rules.touches import HOUR_MS, MINUTE_MS, closes_ms, remind_ms, reminder, touched
from router.state.members import fields_of
from scoring.build import build
from scoring.eligibility import only_owner
from scoring.features import owner, responsiveness, urgency
from scoring.policy import Policy
from scoring.rank import rank
from scoring.requests import columns
from scoring.view import View
from topics.bindings import Binding
from topics.codec import decode, encode
from topics.fields import Period, Source
from topics.guides import Delegation, Guide, Presence
from topics.leads import Lead
from topics.stores import Store
from topics.touches import Touch

NOW_MS = 1_790_000_000_000
LOAN_MAX_MS = 90 * DAY_MS


def said(*facts):
    """A contract of facts (day, kind, guide, to); a command's id is its number."""
    return follow(Contract(), [fact(number, *each) for number, each in enumerate(facts)])


def fact(number, day, kind, guide_id=None, to_guide_id=None, **more):
    return Fact(round(day * DAY_MS), f"c{number}", kind, guide_id, to_guide_id, **more)


def who(contract, day):
    return responsible(contract, round(day * DAY_MS), LOAN_MAX_MS)[0]


# --- the contract ------------------------------------------------------------------------------------------

GUIDES = st.sampled_from((None, "g", "h"))
KINDS = ("bind", "unbind", "lend", "return", "transfer_started", "transfer_done", "transfer_vetoed")
FACTS = st.builds(
    Fact,
    at_ms=st.integers(0, 8).map(lambda n: n * 20 * DAY_MS),
    command_id=st.sampled_from([f"c{n}" for n in range(9)]),
    kind=st.sampled_from(KINDS),
    guide_id=st.just("x") | GUIDES,
    to_guide_id=GUIDES,
    until_ms=st.none() | st.integers(0, 200 * DAY_MS),
)


@given(st.lists(FACTS, max_size=14), st.data())
def test_f45_any_order_of_what_was_said_with_repeats_gives_the_same_contract(facts, data):
    """Also when the same id comes with other content: one of the two is taken, always the same."""
    repeats = data.draw(st.lists(st.sampled_from(facts), max_size=9)) if facts else []
    mixed = data.draw(st.permutations(facts + repeats))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(mixed)), max_size=4)))
    contract = Contract()
    for begin, end in zip([0, *cuts], [*cuts, len(mixed)], strict=True):
        contract = follow(contract, mixed[begin:end])
    assert contract == follow(Contract(), facts)


@given(st.lists(FACTS, max_size=3 * FACTS_MAX), st.data())
def test_of_many_facts_the_newest_are_kept_in_whatever_order_they_come(facts, data):
    facts = [replace_id(each, number) for number, each in enumerate(facts)]
    contract = Contract()
    for each in data.draw(st.permutations(facts)):
        contract = follow(contract, [each])
    assert contract.facts == follow(Contract(), facts).facts
    assert len(contract.facts) <= 2 * FACTS_MAX
    assert fields_of(contract) == fields_of(follow(Contract(), facts))


def replace_id(fact_, number):
    return Fact(fact_.at_ms, f"c{number}", fact_.kind, fact_.guide_id, fact_.to_guide_id, fact_.until_ms)


@given(st.lists(FACTS, max_size=14), st.integers(0, 200))
def test_at_any_moment_one_guide_is_responsible_or_the_brands_queue(facts, day):
    contract = follow(Contract(), facts)
    named = {each.guide_id for each in facts} | {each.to_guide_id for each in facts} | {""}
    assert who(contract, day) in named
    if not contract.owner:
        assert contract.loan is None
        assert who(contract, day) == ""


def test_a_contract_tells_owner_beginning_reason_and_evidence():
    contract = said((1, "bind", "g"), (2, "bind", "h"))
    assert (contract.owner, contract.since_ms, contract.reason, contract.evidence) == (
        "h",
        2 * DAY_MS,
        "",
        (),
    )
    binding = Binding(
        command_id="c",
        member_id="m",
        brand="b",
        occurred_at_ms=7,
        kind="bind",
        guide_id="g",
        reason="added as a friend",
        evidence=("t1", "t2"),
    )
    contract = follow(contract, [replace_at(fact_of(binding), 3 * DAY_MS)])
    assert (contract.owner, contract.reason, contract.evidence) == ("g", "added as a friend", ("t1", "t2"))


def replace_at(fact_, at_ms):
    return Fact(at_ms, "c9", fact_.kind, fact_.guide_id, reason=fact_.reason, evidence=fact_.evidence)


def test_unbinding_a_guide_ends_that_guides_contract_only():
    bound = ((1, "bind", "g"), (2, "bind", "h"))
    assert said(*bound, (3, "unbind")).owner == ""
    assert said(*bound, (3, "unbind", "h")).owner == ""
    assert said(*bound, (3, "unbind", "g")).owner == "h"


# --- lending -----------------------------------------------------------------------------------------------


def test_a_lent_member_returns_by_itself():
    contract = said((0, "bind", "g"), (1, "lend", "g", "h"))
    contract = follow(contract, [fact(2, 2, "lend", "g", "h", until_ms=5 * DAY_MS, share_bp=300)])
    assert [who(contract, day) for day in (1, 4, 4.999, 5, 6)] == ["h", "h", "h", "g", "g"]
    assert contract.loan == Loan("h", 2 * DAY_MS, 5 * DAY_MS, 300)


def test_a_loan_without_an_end_and_one_that_is_too_long_end_after_the_longest_time():
    for until_ms in (None, 999 * DAY_MS):
        contract = follow(said((0, "bind", "g")), [fact(1, 1, "lend", None, "h", until_ms=until_ms)])
        assert [who(contract, day) for day in (90.9, 91)] == ["h", "g"]


def test_a_loan_ends_when_it_is_returned_or_the_member_gets_another_owner():
    lent = ((0, "bind", "g"), (1, "lend", "g", "h"))
    assert who(said(*lent), 3) == "h"
    assert who(said(*lent, (2, "return")), 3) == "g"
    assert who(said(*lent, (2, "bind", "k")), 3) == "k"
    assert who(said(*lent, (2, "transfer_done", "g", "k")), 3) == "k"
    assert who(said(*lent, (2, "bind", "g")), 3) == "h"  # the same owner, confirmed


def test_nobody_lends_what_belongs_to_somebody_else():
    assert who(said((0, "bind", "g"), (1, "lend", "k", "h")), 2) == "g"
    assert who(said((1, "lend", "h")), 2) == ""


# --- hard transfers ----------------------------------------------------------------------------------------


def test_a_transfer_that_was_started_changes_nothing_until_it_is_done():
    started = ((0, "bind", "g"), (1, "transfer_started", "g", "h"))
    assert who(said(*started), 99) == "g"
    assert said(*started).transfer == Transfer("h", DAY_MS)
    done = said(*started, (2, "transfer_done", "g", "h"))
    assert (who(done, 2), done.transfer, done.spent_ms) == ("h", None, (DAY_MS,))


def test_what_the_customer_vetoes_was_no_transfer():
    contract = said((0, "bind", "g"), (1, "transfer_started", "g", "h"), (1.5, "transfer_vetoed"))
    assert (contract.owner, contract.transfer, contract.spent_ms) == ("g", None, ())


@pytest.mark.parametrize("kind", ["transfer_started", "transfer_done"])
def test_a_third_hard_transfer_within_90_days_is_refused_and_changes_nothing(kind):
    two = ((0, "bind", "a"), (1, "transfer_done", "a", "b"), (30, "transfer_started", "b", "c"))
    two += ((31, "transfer_done", "b", "c"),)
    contract = said(*two)
    assert (contract.owner, contract.refused) == ("c", frozenset())
    third = said(*two, (90.9, kind, "c", "d"))
    assert third.refused == {"c4"}
    assert replace(third, facts=(), refused=frozenset()) == replace(contract, facts=())
    # soft assignment goes on, and so do transfers once the first is 90 days old
    assert who(said(*two, (90, "lend", "c", "d")), 90) == "d"
    assert said(*two, (90, "bind", "d")).owner == "d"
    assert said(*two, (91, kind, "c", "d")).refused == frozenset()


def test_of_three_transfers_the_first_two_stand_in_whatever_order_they_come():
    two = [fact(0, 1, "transfer_done", None, "b"), fact(2, 3, "transfer_done", None, "d")]
    late = fact(1, 2, "transfer_done", None, "c")
    assert follow(Contract(), two).owner == "d"
    contract = follow(follow(Contract(), two), [late])
    assert (contract.owner, contract.refused) == ("c", {"c2"})


# --- who is in charge --------------------------------------------------------------------------------------


def store(store_id, **more):
    fields = {"brand": "b", "version": 1, "lat": 31.0, "lon": 121.0, "kind": "franchise", "active": True}
    return Store(store_id=store_id, **(fields | {"market": f"m-{store_id}"} | more))


def guide(guide_id, store_id="s1", **more):
    fields = {"guide_id": guide_id, "brand": "b", "version": 1, "store_id": store_id, "active": True}
    return Guide(**(fields | more))


@pytest.fixture
def roster():
    guides = [guide("g"), guide("h", "s2"), guide("team", "s3", role="hq")]
    return build([store("s1"), store("s2"), store("s3", kind="hq")], guides, [], capacity_default=9)


def in_charge(roster, standing, now_ms=NOW_MS, **delegates):
    given = {f"b/{guide_id}": each for guide_id, each in delegates.items()}
    [charge] = charges(["b"], [standing], now_ms, {"b": LOAN_MAX_MS}, given, roster)
    return charge


def test_the_owner_is_in_charge_with_the_cell_of_their_store(roster):
    assert in_charge(roster, Standing("g", 7)) == Charge("g", "b/m-s1", 7)
    assert in_charge(roster, Standing()) == Charge()


def test_suitecrm_8935_who_is_gone_from_the_roster_is_nobody(roster):
    assert in_charge(roster, Standing("left", 7)) == Charge()


def test_suitecrm_8935_who_works_no_more_leaves_the_members_to_the_store():
    """Somebody answers for each member at every moment, and it is never somebody who has left."""
    guides = [guide("g", active=False), guide("h", "s2")]
    roster = build([store("s1"), store("s2")], guides, [], capacity_default=9)
    assert in_charge(roster, Standing("g", 7)) == Charge(cell="b/m-s1", store_id="s1")
    assert in_charge(roster, Standing("g", 7, Loan("h", NOW_MS, None))).guide_id == "h"


def test_a_bond_is_as_old_as_the_last_act_of_who_is_in_charge(roster):
    acts = {"h": 9, "g": 8}
    assert in_charge(roster, Standing("g", 7, acts=acts)).acted_ms == 8
    lent = Standing("g", 7, Loan("h", NOW_MS - 5, NOW_MS + 5), acts)
    assert in_charge(roster, lent) == Charge("h", "b/m-s2", NOW_MS - 5)
    assert in_charge(roster, lent, NOW_MS + 5) == Charge("g", "b/m-s1", 8)


@pytest.mark.parametrize("borrower", ["left", "resting"])
def test_who_has_borrowed_and_left_leaves_the_member_with_the_owner(borrower):
    guides = [guide("g"), guide("resting", "s2", active=False)]
    roster = build([store("s1"), store("s2")], guides, [], capacity_default=9)
    lent = Standing("g", 7, Loan(borrower, NOW_MS, None))
    assert in_charge(roster, lent) == Charge("g", "b/m-s1", 7)


def test_a_team_runs_the_members_of_a_guide_for_a_while_and_no_longer_when_it_is_revoked(roster):
    given = Delegation(team_id="team", from_ms=NOW_MS, until_ms=NOW_MS + 10, share_bp=500)
    for now_ms, whose in ((NOW_MS - 1, "g"), (NOW_MS, "team"), (NOW_MS + 9, "team"), (NOW_MS + 10, "g")):
        assert in_charge(roster, Standing("g", 7), now_ms, g=given).guide_id == whose
    assert in_charge(roster, Standing("h", 7), g=given).guide_id == "h"
    assert in_charge(roster, Standing("g", 7)).guide_id == "g"
    unknown = Delegation(team_id="nobody", from_ms=0, until_ms=2 * NOW_MS, share_bp=500)
    assert in_charge(roster, Standing("g", 7), g=unknown).guide_id == "g"


# --- the curve ---------------------------------------------------------------------------------------------


def views(roster, policy, event=None, *, acted_ms=-1, last_in_ms=-1, ages_ms=(0,)):
    """Of one lead of a member of g, at the times of these ages."""
    wanted = columns([event or Lead(lead_id="l", member_id="m", brand="b", occurred_at_ms=1)], roster)
    wanted.owner_row[:] = roster.guide_row("b", "g")
    wanted.owner_acted_ms[:], wanted.last_contact_ms[:] = acted_ms, last_in_ms
    guides = np.array([roster.guide_row("b", name) for name in ("g", "h")])
    for age_ms in ages_ms:
        yield View(wanted, roster, policy, NOW_MS + age_ms, np.zeros(2, int), guides, np.zeros(2, np.float32))


def test_the_bond_halves_without_action_and_is_the_owners_alone(roster):
    policy = Policy(owner_half_life_days=30)
    ages = [days * DAY_MS for days in (0, 30, 60, 3000)]
    bonds = [owner(view).tolist() for view in views(roster, policy, acted_ms=NOW_MS, ages_ms=ages)]
    assert bonds == [[1, 0], [0.5, 0], [0.25, 0], [pytest.approx(0, abs=1e-9), 0]]
    [unknown] = views(roster, policy)
    assert owner(unknown).tolist() == [1, 0]


def test_the_excitement_curve_the_bond_fades_and_urgency_rises_towards_the_close(roster):
    policy = Policy(window_h=48)
    ages = [hours * HOUR_MS for hours in (0, 12, 24, 36, 47, 49)]
    at = list(views(roster, policy, acted_ms=NOW_MS, last_in_ms=NOW_MS, ages_ms=ages))
    urgent = [1 - float(urgency(view)[0]) for view in at]
    slow = [1 - float(responsiveness(view)[0]) for view in at]
    assert urgent[:-1] == pytest.approx([s * h / 48 for s, h in zip(slow, (0, 12, 24, 36, 47), strict=False)])
    assert urgent[-1] == 0  # over
    bonds = [float(owner(view)[0]) for view in at]
    assert bonds == sorted(bonds, reverse=True)
    assert bonds[-1] < bonds[0]


@pytest.mark.parametrize("away", ["offline", "leave", "inactive", "shift"])
def test_chatwoot_4158_an_owner_who_is_not_there_does_not_keep_the_lead(away):
    """The owner comes first while there; else the lead goes on to somebody else."""
    more = {
        "leave": {"leave": (Period(from_ms=NOW_MS - DAY_MS, to_ms=NOW_MS + DAY_MS),)},
        "inactive": {"active": False},
        "shift": {"shifts": (Period(from_ms=NOW_MS - DAY_MS, to_ms=NOW_MS - 1),)},
    }
    gone = Presence(guide_id="g", brand="b", status="offline", occurred_at_ms=1)

    def chosen(owner_, presence):
        roster = build([store("s1")], [owner_, guide("h")], presence, capacity_default=9)
        wanted = columns([Lead(lead_id="l", member_id="m", brand="b", occurred_at_ms=1)], roster)
        wanted.cell[:], wanted.owner_row[:] = 0, roster.guide_row("b", "g")
        return [roster.guide_ids[row] for row in rank(wanted, roster, Policy(), NOW_MS).guide_row]

    assert chosen(guide("g"), []) == ["g", "h"]
    assert chosen(guide("g", **more.get(away, {})), [gone] * (away == "offline")) == ["h"]


def test_a_lead_for_the_owner_only_is_for_nobody_else(roster):
    event = Lead(lead_id="l", member_id="m", brand="b", occurred_at_ms=1, only_owner=True)
    [view] = views(roster, Policy(), event)
    assert only_owner(view).tolist() == [True, False]


# --- touches and windows -----------------------------------------------------------------------------------


def touch(kind="message", direction=None, guide_id=None, **more):
    fields = {"touch_id": "t", "member_id": "m", "brand": "b", "occurred_at_ms": 5}
    return touched(Touch(kind=kind, direction=direction, guide_id=guide_id, **(fields | more)))


@pytest.mark.parametrize(
    ("one", "came_in", "actor", "contact"),
    [
        (touch("view"), True, "", ""),
        (touch("view", guide_id="g"), True, "", ""),
        (touch("chat", "in", "g"), True, "g", ""),
        (touch("visit", None, "g"), True, "g", ""),
        (touch("live", None, "g"), True, "g", ""),
        (touch("message", "in", "g"), True, "", ""),
        (touch("message", "out", "g"), False, "g", "t"),
        (touch("message", "out"), False, "", "t"),
    ],
)
def test_a_touch_tells_who_did_something_and_who_was_contacted(one, came_in, actor, contact):
    assert (one.came_in, one.actor, one.contact) == (came_in, actor, contact)


def test_the_track_keeps_kind_guide_and_sharer():
    one = touch("share", guide_id="g", source=Source(sharer_id="friend"))
    assert (one.at_ms, one.entry) == (5, "t|share||g|friend")


@given(
    st.text("abc", min_size=1, max_size=9),
    st.integers(0, 10**13),
    st.integers(1, 24 * 90),
    st.integers(1, 24 * 90),
)
def test_a_reminder_comes_in_the_window_and_never_on_the_hour_or_half(
    member_id, last_in_ms, window_h, remind_h
):
    policy = Policy(window_h=window_h, window_remind_h=remind_h)
    at_ms = remind_ms("b", member_id, last_in_ms, policy)
    begins_ms = max(last_in_ms, closes_ms(last_in_ms, policy) - remind_h * HOUR_MS)
    assert begins_ms + 2 * MINUTE_MS <= at_ms <= begins_ms + 14 * MINUTE_MS
    assert at_ms < closes_ms(last_in_ms, policy)
    assert at_ms // MINUTE_MS % 30 != 0


def test_a_reminder_is_the_same_lead_for_the_same_window_and_another_for_the_next():
    lead = reminder("b", "m" * 64, NOW_MS, Policy())
    assert encode(lead) == encode(reminder("b", "m" * 64, NOW_MS, Policy()))
    assert lead.only_owner
    assert lead.source == Source(channel="window")
    assert decode(Lead, encode(lead)) == lead
    assert reminder("b", "m" * 64, NOW_MS + 1, Policy()).lead_id != lead.lead_id
    assert lead.occurred_at_ms == remind_ms("b", "m" * 64, NOW_MS, Policy())
