"""Redis decides: every script against a small model, on Valkey and on Redis, in fair weather and foul."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import Counter
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from router.changes import Changes
from router.errors import ConfigError, EffectError, OutageError, StateLostError
from router.local import EmbeddedRedis
from router.replay import Replay
from router.rules.charge import Charge, Standing
from router.rules.lifecycle import ACTIONS, Limits, moves
from router.rules.offers import MOMENTS, Answer, Offer, made
from router.rules.ownership import Contract, Fact, Loan, follow
from router.rules.placing import Home, Proposal
from router.rules.restoring import Restored
from router.rules.touches import Touched
from router.state import keys
from router.state.arbiter import Arbiter, Card
from router.state.members import GUIDES_MAX
from router.state.redis import Call, Scripts
from scoring.fairness import LEAD, claimed
from scoring.layout import cell_name
from scoring.policy import Policy
from tests.parts import PATIENT_S, MissingPartError, RealCluster, RealRedis
from topics.assignments import FINAL_STATES, LIVE_STATES
from topics.responses import GuideAction

CELL = "b/m"
NOW_MS = 1_790_000_000_000
HORIZON = 2 * LEAD
#: A round trip takes what it takes; the number of examples keeps the file fast.
quick = settings(max_examples=40, deadline=None)


SINGLE = (EmbeddedRedis, pytest.param(RealRedis, marks=pytest.mark.real))


@pytest.fixture(scope="module", params=[*SINGLE, pytest.param(RealCluster, marks=pytest.mark.real)])
def server(request):
    """A server, or a cluster of three, of this module's own; every story starts on it empty."""
    try:
        redis = request.param()
    except MissingPartError as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
    with redis:
        yield redis


@pytest.fixture(params=SINGLE)
def own_server(request):
    """A server that a test may hurt."""
    with request.param() as redis:
        yield redis


def tell(server, story, *, flush=True, timeout_s=PATIENT_S):
    """Run a story with an arbiter of its own, and return what it returns."""

    async def whole():
        scripts = Scripts(server.url, timeout_s=timeout_s)
        try:
            if flush:
                await scripts.redis.flushall()
            return await story(Arbiter(scripts))
        finally:
            await scripts.close()

    return asyncio.run(whole())


async def open_up(arbiter, *rows):
    """Tell capacities, and mark the cells."""
    await arbiter.set_capacities(rows)
    cells = sorted({CELL, "b/n", *(cell for cell, *_ in rows)})
    assert await arbiter.mark(cells, await arbiter.begin(cells, "token"))


#: The clock of the stories, and what holds in them: leads age by a tier in this time, two silent offers are
#: a pause.
NOW_MS, AGE_UP_MS, HALF_LIFE_MS, SILENT_MAX, PAUSE_MS = 1_000, 100, 10_000, 2, 400
OFFER_MS, REMIND_MS, WAIT_MS = 50, 20, 70
#: How long an offer to guides on the first rungs lasts at most: one shorter than others, one not.
BOUNDS_MS = {"owner": 30, "store": 60}
RUNG_OF = {"g": "owner", "g1": "store"}


def offer(
    lead="l",
    shortlist=(),
    *,
    cell=CELL,
    digest="d",
    arrival_ms=7,
    queue="hq",
    tier=3,
    rung="near",
    now_ms=NOW_MS,
    policy=5,
    marked=True,
    cause="",
    move="",
):
    """A fresh lead; with a ``cause`` and a ``move`` something that happens to it."""
    return Offer(
        cell=cell,
        marked=marked,
        rules=f"{now_ms} {HORIZON} 0123 {AGE_UP_MS} {HALF_LIFE_MS} {SILENT_MAX} {PAUSE_MS} "
        f"{BOUNDS_MS['owner']} {BOUNDS_MS['store']}",
        kind="lead",
        lead_id=lead,
        member_id="m",
        digest=digest,
        shortlist=" ".join(f"{guide}|{LEAD}|s|0.5|{RUNG_OF.get(guide, 'near')}" for guide in shortlist),
        about=f"{arrival_ms} {tier} {queue} {rung} {policy} {now_ms + OFFER_MS} {now_ms + REMIND_MS} "
        f"{now_ms + WAIT_MS}",
        cause=cause or f"lead|{lead}",
        move=move,
    )


POLICY = Policy(limit_s={"accepted": 1, "contacted": 2, "visited": 3})


def move(action, *, guide="*", attempt="-", now_ms=NOW_MS, over=False):
    """What an action may bring, as the rules have it."""
    return f"{attempt} {guide} {moves(action, now_ms, POLICY, Limits(now_ms + 2_500), over=over)}"


def response(number, action, lead="l", shortlist=(), *, cell=CELL, now_ms=NOW_MS, **more):
    """Something that happens to a lead; ``guide`` and ``attempt`` say who says so of which offer."""
    about = {name: more.pop(name) for name in ("queue", "tier", "rung", "arrival_ms") if name in more}
    text = move(action, now_ms=now_ms, **more)
    return offer(lead, shortlist, cell=cell, now_ms=now_ms, cause=f"response|{number}", move=text, **about)


def ask(arbiter):
    """A call that needs a script and changes nothing that is claimed."""
    return arbiter.fix_cells([Proposal("b", "m", "lead", "asked", CELL, owner_first=False)])


async def dump(arbiter):
    """Everything Redis holds, in a form that compares."""
    redis, out = arbiter.scripts.redis, {}
    for key in sorted(await redis.keys("*")):
        match await redis.type(key):
            case b"hash":
                out[key] = await redis.hgetall(key)
            case b"zset":
                out[key] = await redis.zrange(key, 0, -1, withscores=True)
            case b"stream":
                out[key] = [fields for _, fields in await redis.xrange(key)]
            case _:
                out[key] = await redis.get(key)
    return out


# --- the claim ---------------------------------------------------------------------------------------------

# Prefixes of each other, and what sorts around the separator: a range must hold exactly one guide's attempts.
GUIDES = ("g", "g1", "g-", "g.x", "gz", "@")
LEADS = [f"l{n}" for n in range(4)]
QUEUES = ("hq", "store/s", "market/%E4%B8%AD")
shortlists = st.permutations((*GUIDES, "stranger")).map(lambda names: names[:4]) | st.just([])
cells = st.sampled_from((CELL, CELL, CELL, CELL, "b/n"))
fresh_drawn = st.builds(
    offer,
    lead=st.sampled_from(LEADS),
    shortlist=shortlists,
    cell=cells,
    digest=st.sampled_from(("d", "d", "d", "other")),
    arrival_ms=st.integers(NOW_MS - 300, NOW_MS),
    queue=st.sampled_from(QUEUES),
    tier=st.integers(0, 3),
)
moves_drawn = st.builds(
    response,
    st.integers(1, 40),
    st.sampled_from(ACTIONS),
    lead=st.sampled_from(LEADS),
    shortlist=shortlists,
    cell=cells,
    guide=st.sampled_from(("*",) * 4 + ("the holder",) * 4 + GUIDES),
    attempt=st.sampled_from(("-", "-", "-", 1, 2)),
    over=st.sampled_from((False, False, False, True)),
    queue=st.sampled_from(("hq", "market/%E4%B8%AD")),
)
offers_drawn = st.lists(fresh_drawn | moves_drawn | moves_drawn, max_size=15)


class Model:
    """What claims promise, in memory: the story of every lead, step by step."""

    def __init__(self, capacity):
        self.capacity, self.stories, self.digests = capacity, {}, {}
        self.turns, self.clocks, self.records = Counter(), Counter(), {}
        self.places = {}

    def load(self, cell, guide):
        held = [story[-1] for (at, _), story in self.stories.items() if at == cell]
        return sum(step.state in LIVE_STATES and step.choice[0] == guide for step in held)

    def waits(self, cell):
        """Waiting leads of a cell: what the queue orders them by."""
        return {
            lead: story[-1].choice
            for (at, lead), story in self.stories.items()
            if at == cell and story[-1].state == "waiting"
        }

    def claim(self, asked):
        self.asked, self.now_ms = asked, int(asked.rules.split()[0])
        identity = (asked.cell, asked.lead_id)
        story = self.stories.get(identity, [])
        before = [seq for seq, step in enumerate(story, 1) if step.cause == asked.cause]
        if not asked.move and story and self.digests[identity] != asked.digest:
            return Answer("conflict", story[-1].state, len(story))
        if before:
            steps = tuple(self.places[(*identity, seq)] for seq in before)
            return Answer("replay", made(steps[-1]).state, before[0], steps)
        known = len(story)
        if asked.move:
            result = self.moved(story) if story else "late"
        else:
            self.digests[identity] = asked.digest
            result = "ok" if not self.behind() and self.place(story) else self.wait(story)
        steps = tuple(self.places[(*identity, seq)] for seq in range(known + 1, len(story) + 1))
        if story:
            self.stories[identity] = story
        return Answer(result, story[-1].state if story else "", known + bool(steps), steps)

    def about(self):
        return self.asked.about.split()

    def write(self, story, *words):
        """One more step, its cause and policy filled in."""
        state, attempt, by_ms, remind_ms, start, record, choice = words
        times, cause = f"{self.now_ms} {by_ms} {remind_ms}", self.asked.cause
        text = f"{state} {attempt} {times} 5 {start} {cause} {record} {choice}"
        story.append(made(text))
        self.places[self.asked.cell, self.asked.lead_id, len(story)] = text

    def behind(self):
        _, tier, queue, *_ = self.about()
        for its_queue, its_tier, arrival_ms, _ in self.waits(self.asked.cell).values():
            lower = int(its_tier) - int(tier)
            if its_queue == queue and (lower <= 0 or int(arrival_ms) + lower * AGE_UP_MS <= self.now_ms):
                return True
        return False

    def behind_another(self):
        """Whether another one that waits in the queue comes before this one, which waits there as well."""
        arrival_ms, tier, queue, *_ = self.about()
        waits = self.waits(self.asked.cell)
        waits.pop(self.asked.lead_id)
        its = (self.standing(tier, arrival_ms), int(arrival_ms))
        return any(
            its_queue == queue and (self.standing(other, at_ms), int(at_ms)) < its
            for its_queue, other, at_ms, _ in waits.values()
        )

    def standing(self, tier, arrival_ms):
        return max(int(tier) - max(self.now_ms - int(arrival_ms), 0) // AGE_UP_MS, 0)

    def place(self, story):
        cell = self.asked.cell
        given_back = {step.choice[0] for step in story if step.state in MOMENTS}
        for entry in self.asked.shortlist.split():
            guide = entry.split("|")[0]
            paused = self.records.get((cell, guide), (0,) * 7)[5] > self.now_ms
            free = self.load(cell, guide) < self.capacity.get((cell, guide), 0)
            asked = guide not in given_back if self.wants is None else guide == self.wants
            if asked and free and not paused:
                turn = claimed(self.turns[cell, guide], self.clocks[cell], LEAD, HORIZON)
                self.turns[cell, guide], self.clocks[cell] = turn.turn, turn.clock
                *_, offer_by, remind, _ = map(int, self.about()[-3:])
                bound = BOUNDS_MS.get(entry.split("|")[-1], OFFER_MS)
                if bound < offer_by - self.now_ms:
                    remind = self.now_ms + (remind - self.now_ms) * bound // (offer_by - self.now_ms)
                    offer_by = self.now_ms + bound
                attempt = story[-1].attempt + 1 if story else 1
                self.write(story, "offered", attempt, offer_by, remind, turn.start, "-", entry)
                return True
        return False

    wants = None

    def wait(self, story):
        arrival_ms, tier, queue, rung, *_, wait_by = self.about()
        attempt = story[-1].attempt if story else 0
        self.write(story, "waiting", attempt, wait_by, 0, 0, "-", f"{queue}|{tier}|{arrival_ms}|{rung}")
        return "waiting"

    def moved(self, story):
        which, who, *listed = self.asked.move.split()
        newest = story[-1]
        holder = newest.choice[0]
        told = dict(each.split(">") for each in listed if each != "!")
        early = "!" in listed and self.now_ms < newest.respond_by_ms
        to, _, by = told.get(newest.state, "").partition(":")
        to, again, after = to.partition("+")
        gave_back = {step.choice[0] for step in story if step.state in MOMENTS}
        if early or newest.state in FINAL_STATES or which not in {"-", str(newest.attempt)}:
            return "late"
        if who in gave_back and who != holder and not after:
            return "late"
        if newest.state not in told:
            return "illegal"
        if who not in {"*", holder} and not after and not (newest.state == "waiting" and again):
            return "not_yours"
        if to:
            record = self.note(newest, to, holder)
            choice = "|".join(newest.choice)
            if newest.state != "waiting":
                choice = f"{holder}|0|{newest.choice[2]}"
            self.write(
                story, to, newest.attempt, newest.respond_by_ms if by == "k" else by, 0, 0, record, choice
            )
            if not again:
                return "ok"
        return self.again(story, newest, who, after, by)

    def again(self, story, newest, who, after, by):
        only = after or (who != "*" and newest.state == "waiting" and self.behind_another())
        self.wants = who if only else None
        found = self.place(story)
        self.wants = None
        if found and after:
            guide, _, store, *_ = story[-1].choice
            record = self.noted(guide, (1, 1, 0, 0), silent=False)
            self.write(story, after, story[-1].attempt, by, 0, 0, record, f"{guide}|0|{store}")
        if found:
            return "ok"
        if after:
            return "full"
        if newest.state == "waiting" and by != "w" and newest.choice[0] == self.about()[2]:
            return "nothing"
        return self.wait(story)

    def note(self, newest, to, holder):
        open_offer = newest.state in {"offered", "delivered", "seen"}
        silent = open_offer and to == "expired"
        answered = open_offer and to in get_args(GuideAction)[2:]
        closed = to in {"won", "lost", "closed"}
        if newest.state == "waiting" or not (silent or answered or closed):
            return "-"
        return self.noted(holder, (answered, silent or answered, to == "won", closed), silent=silent)

    def noted(self, guide, more, *, silent):
        place = (self.asked.cell, guide)
        *shares, running, paused_ms, at_ms = self.records.get(place, (0,) * 7)
        left = 0.5 ** (max(self.now_ms - at_ms, 0) / HALF_LIFE_MS)
        shares = [float(f"{share * left + one:.3f}") for share, one in zip(shares, more, strict=True)]
        running = running + 1 if silent else 0
        if running >= SILENT_MAX:
            running, paused_ms = 0, self.now_ms + PAUSE_MS
        self.records[place] = (*shares, running, paused_ms, self.now_ms)
        return ",".join([*(f"{share:.3f}" for share in shares), f"{running},{paused_ms},{self.now_ms}"])

    def due(self, cell):
        """When something is due for each lead that is not over."""
        return {
            f"lead|{lead}|m".encode(): step.remind_at_ms or step.respond_by_ms
            for (at, lead), story in self.stories.items()
            if at == cell and (step := story[-1]).state not in FINAL_STATES
        }


def by_the_holder(asked, model):
    """A response that was drawn to come from the holder, with the holder's name."""
    if "the holder" not in asked.move:
        return asked
    story = model.stories.get((asked.cell, asked.lead_id))
    return replace(asked, move=asked.move.replace("the holder", story[-1].choice[0] if story else "g"))


@settings(max_examples=120, deadline=None)
@given(
    capacity=st.fixed_dictionaries(
        {(cell, guide): st.sampled_from((1, 0, 1, 2)) for cell in (CELL, "b/n") for guide in GUIDES}
    ),
    batches=st.lists(offers_drawn, min_size=2, max_size=8),
    steps_ms=st.lists(st.sampled_from((0, 30, 100, 500, 2000)), min_size=9, max_size=9),
)
def test_claims_do_what_the_model_does(server, capacity, batches, steps_ms):
    """First with room wins, one holder, nobody over capacity, a repeat of any cause gets the same bytes."""
    model = Model(capacity)

    async def story(arbiter):
        await open_up(arbiter, *((cell, guide, 1, room) for (cell, guide), room in capacity.items()))
        begun = [offer(lead, GUIDES[n:]) for n, lead in enumerate(LEADS)]
        for batch, step_ms in zip([begun, *batches], itertools.accumulate(steps_ms), strict=False):
            asked, wanted = [], []
            for each in batch:
                named = by_the_holder(each, model)
                later = named.rules.replace(str(NOW_MS), str(NOW_MS + step_ms), 1)
                asked.append(replace(named, rules=later))
                wanted.append(model.claim(asked[-1]))
            # of a call there is one time
            assert await arbiter.claim(asked) == wanted
            done = {
                each.cause: (each, first.steps)
                for each, first in zip(asked, wanted, strict=True)
                if first.steps
            }
            again = await arbiter.claim([each for each, _ in done.values()])
            assert [(answer.result, answer.steps) for answer in again] == [
                ("replay", steps) for _, steps in done.values()
            ]
        await agree(arbiter, model)

    tell(server, story)


async def agree(arbiter, model):
    """Open attempts, queues, due times, turns and records are what the stories say."""
    redis = arbiter.scripts.redis
    for cell in (CELL, "b/n"):
        newest = {lead: story[-1] for (at, lead), story in model.stories.items() if at == cell}
        members = {member.decode() for member in await redis.zrange(keys.open_attempts(cell), 0, -1)}
        live = {lead: step for lead, step in newest.items() if step.state in LIVE_STATES}
        assert members == {f"{step.choice[0]}|lead|{lead}|m" for lead, step in live.items()}
        waiting = {member.decode() for member in await redis.zrange(keys.waiting(cell), 0, -1)}
        assert waiting == {f"{'|'.join(choice)}|lead|{lead}|m" for lead, choice in model.waits(cell).items()}
        assert dict(await redis.zrange(keys.due(cell), 0, -1, withscores=True)) == model.due(cell)
        loads = (await arbiter.loads([cell]))[cell]
        assert loads == Counter(step.choice[0] for step in live.values())
        assert all(load <= model.capacity[cell, guide] for guide, load in loads.items())
        turns = {guide: turn for (at, guide), turn in model.turns.items() if at == cell and turn}
        clock = {keys.MARK: model.clocks[cell]} if turns else {}
        assert (await arbiter.turns([cell]))[cell] == turns | clock
        records = {guide: record for (at, guide), record in model.records.items() if at == cell}
        held = (await arbiter.records([cell]))[cell]
        assert {guide: tuple(map(float, text.split(","))) for guide, text in held.items()} == records


def test_a_replayed_batch_changes_nothing(server):
    async def story(arbiter):
        await open_up(arbiter, (CELL, "g", 1, 1))
        batch = [offer("a", ["g"]), offer("b", ["g"]), offer("c")]
        first, held = await arbiter.claim(batch), await dump(arbiter)
        again = await arbiter.claim([offer("a", ["g"], now_ms=9_000, policy=6), *batch[1:]])
        assert [answer.result for answer in first] == ["ok", "waiting", "waiting"]
        assert again == [replace(answer, result="replay") for answer in first]
        assert await dump(arbiter) == held

    tell(server, story)


def test_more_leads_than_a_lua_stack_holds_are_claimed_in_one_call(server):
    async def story(arbiter):
        await open_up(arbiter, (CELL, "g", 1, 4000))
        asked = [offer(f"l{n}", ["g"] if n % 2 else [], queue=f"q{n % 2}") for n in range(8000)]
        answers = await arbiter.claim(asked)
        assert Counter(answer.result for answer in answers) == {"ok": 4000, "waiting": 4000}
        assert await arbiter.loads([CELL]) == {CELL: {"g": 4000}}
        assert await arbiter.scripts.redis.zcard(keys.waiting(CELL)) == 4000

    tell(server, story)


def test_f25_in_a_cell_that_lost_its_mark_nothing_is_claimed_nor_written(server):
    async def story(arbiter):
        await open_up(arbiter, (CELL, "g", 1, 9))
        await arbiter.changes([CELL], [""])
        await arbiter.scripts.redis.hdel(keys.capacity(CELL), keys.MARK)
        held = await dump(arbiter)
        with pytest.raises(StateLostError, match="NOSTATE"):
            await arbiter.claim([offer("waits"), offer("a", ["g"])])
        assert await dump(arbiter) == held
        # a cell of a brand that nobody knows has no mark to lose: the lead waits
        [answer] = await arbiter.claim([offer("waits", marked=False)])
        assert answer.result == "waiting"

    tell(server, story)


def test_a_cell_that_has_no_mark_yet_has_lost_nothing_and_is_waited_for(server):
    """A store opens: its cell is in the ranking a moment before it is marked, which begins no recovery."""

    async def story(arbiter):
        await arbiter.set_capacities([(CELL, "g", 1, 9)])
        held = await dump(arbiter)
        with pytest.raises(OutageError, match="NOTYET") as outage:
            await arbiter.claim([offer("waits"), offer("a", ["g"])])
        assert not isinstance(outage.value, StateLostError)
        assert await dump(arbiter) == held
        with pytest.raises(StateLostError):  # if it was lost, this tells
            await arbiter.changes([CELL], [""])

    tell(server, story)


def test_a_lead_is_remembered_for_the_horizon_and_no_longer(server):
    async def story(arbiter):
        await arbiter.claim([offer("l", marked=False)])
        await arbiter.fix_cells([Proposal("b", "m", "lead", "l", CELL, owner_first=False)])
        await arbiter.keep_journeys([("b", "m", "lead", "l", 1, 0, b"x")])
        for key in (keys.lead(CELL, "lead", "l"), keys.lead_cell("b", "lead", "l")):
            assert 15 * 86_400 < await arbiter.scripts.redis.ttl(key) <= 16 * 86_400
        assert await arbiter.scripts.redis.ttl(keys.journey("b", "m", "lead", "l")) > 15 * 86_400

    tell(server, story)


# --- capacities, owners, cells, journeys, inboxes ----------------------------------------------------------

versions = st.integers(0, 12) | st.integers(10**40, 10**40 + 9) | st.integers(0, 10**48)


@quick
@given(st.lists(st.tuples(st.sampled_from("gh"), versions, st.integers(0, 9)), max_size=6), st.randoms())
def test_f45_the_highest_version_of_a_capacity_wins_in_any_order(server, told, random):
    """Versions may have more digits than a Lua number holds."""
    told = list({(guide, version): (CELL, guide, version, room) for guide, version, room in told}.values())
    mixed = random.sample(told, len(told)) + random.sample(told, len(told))

    async def story(arbiter):
        for row in mixed:
            await arbiter.set_capacities([row])
        return await arbiter.scripts.redis.hgetall(keys.capacity(CELL))

    newest = {}
    for _, guide, version, room in sorted(told, key=lambda row: row[2]):
        newest[guide.encode()] = b"%d:%d" % (version, room)
    assert tell(server, story) == newest


def test_an_equal_version_overrules_since_leave_begins_and_ends_without_one(server):
    async def story(arbiter):
        for room in (3, 0, 2):
            await arbiter.set_capacities([(CELL, "g", 5, room)])
        return await arbiter.scripts.redis.hget(keys.capacity(CELL), "g")

    assert tell(server, story) == b"5:2"


def bound(guide_id, at_ms=5, command_id="c"):
    return Fact(at_ms, command_id, "bind", guide_id)


async def tell_of(arbiter, *facts, member=("b", "m")):
    """Follow facts about a member, as an agent does."""
    [(held, contract)] = await arbiter.members.contracts([member])
    [written] = await arbiter.members.write([(member, held, follow(contract, facts))])
    assert written


def owners_in(**cells):
    """Who owns is in charge, in these cells."""

    def in_charge(_, standings, __):
        return [Charge(each.owner, cells.get(each.owner, ""), each.since_ms) for each in standings]

    return in_charge


def test_f45_what_is_read_of_a_member_is_the_contract_that_was_written(server):
    facts = [bound("g"), Fact(6, "d", "lend", "g", "h", 9), Fact(7, "e", "bind", "k"), Fact(8, "f", "unbind")]
    read = [Standing("g", 5), Standing("g", 5, Loan("h", 6, 9)), Standing("k", 7), Standing("", 8)]

    async def story(arbiter):
        out = []
        for fact in facts:
            await tell_of(arbiter, fact)
            out += (await arbiter.members.standings([("b", "m")]))[0]
        [(_, contract)] = await arbiter.members.contracts([("b", "m")])
        assert contract == follow(Contract(), facts)
        return out

    assert tell(server, story) == read


def test_f45_a_contract_is_not_written_over_one_that_was_written_meanwhile(server):
    async def story(arbiter):
        members = [("b", "m"), ("b", "n")]
        read = await arbiter.members.contracts(members)
        await tell_of(arbiter, bound("first"))
        late = [
            (member, held, follow(contract, [bound("late", 4, "d")]))
            for member, (held, contract) in zip(members, read, strict=True)
        ]
        assert await arbiter.members.write(late) == [False, True]
        standings, _ = await arbiter.members.standings(members)
        assert [each.owner for each in standings] == ["first", "late"]

    tell(server, story)


TOUCHED = st.builds(
    Touched,
    brand=st.just("b"),
    member_id=st.sampled_from("mn"),
    at_ms=st.integers(0, 9) | st.integers(NOW_MS, NOW_MS + 9),
    entry=st.integers(0, 30).map(lambda n: f"t{n}|chat|||"),
    actor=st.sampled_from(("", *(f"g{n}" for n in range(10)))),
    contact=st.sampled_from(("", "t1", "t2")),
    came_in=st.booleans(),
)


@quick
@given(st.lists(TOUCHED, max_size=30), st.randoms())
def test_f45_touches_end_at_the_same_in_any_order_with_repeats(server, touches, random):
    """Of each name the latest time, of all names the latest; what the log tells is what Redis holds."""

    async def story(arbiter):
        mixed = random.sample(touches, len(touches)) + random.sample(touches, len(touches))
        for row in range(0, len(mixed), 7):
            await arbiter.members.touch(mixed[row : row + 7])
        replay = Replay()
        for one in touches:
            replay._touch(one)
        told = replay.contents | {keys.windows("b"): {who: at for (_, who), at in replay._windows.items()}}
        names = [key("b", member) for member in "mn" for key in (keys.acts, keys.contacts, keys.track)]
        for name in (*names, keys.windows("b")):
            held = await arbiter.scripts.redis.zrange(name, 0, -1, withscores=True)
            assert {each.decode(): at for each, at in held} == told.get(name, {})
        [standing, _], _ = await arbiter.members.standings([("b", "m"), ("b", "nobody")])
        came = [one.at_ms for one in touches if one.member_id == "m" and one.came_in]
        assert standing.last_in_ms == max(came, default=-1)
        assert list(standing.acts.values()) == sorted(standing.acts.values(), reverse=True)
        assert len(standing.acts) <= GUIDES_MAX

    tell(server, story)


def test_touches_are_forgotten_when_the_log_has_forgotten_them(server):
    one = Touched("b", "m", NOW_MS, "t|chat|||", "g", "t", came_in=True)

    async def story(arbiter):
        await arbiter.members.touch([one])
        for key in (keys.acts, keys.contacts, keys.track):
            assert 14 * 86_400 < await arbiter.scripts.redis.ttl(key("b", "m")) <= 15 * 86_400

    tell(server, story)


def test_a_window_that_opened_again_since_is_not_closed(server):
    async def story(arbiter):
        await arbiter.members.touch(
            [Touched("b", member, at, f"t{at}", "", "", came_in=True) for member, at in (("m", 5), ("n", 6))]
        )
        windows = await arbiter.members.waiting_windows("b", 6, 9)
        assert windows == [("m", 5), ("n", 6)]
        assert await arbiter.members.waiting_windows("b", 6, 1) == [("m", 5)]
        assert await arbiter.members.waiting_windows("b", 5, 9) == [("m", 5)]
        await arbiter.members.touch([Touched("b", "m", 8, "t8", "", "", came_in=True)])
        await arbiter.members.close_windows("b", windows)
        assert await arbiter.members.waiting_windows("b", 9, 9) == [("m", 8)]

    tell(server, story)


def test_a_guide_gets_so_many_reminders_a_day_and_each_of_them_again(server):
    async def story(arbiter):
        async def through(now_ms, *leads, guide="g"):
            return await arbiter.members.let_through([("b", guide, lead, 2) for lead in leads], now_ms)

        assert await through(NOW_MS, "a", "b", "c") == [True, True, False]
        assert await through(NOW_MS + 5, "c", "b", "a") == [False, True, True]
        assert await through(NOW_MS, "c", guide="h") == [True]
        assert await through(NOW_MS + 86_400_000 - 1, "c") == [False]
        assert await through(NOW_MS + 86_400_000, "c") == [True]

    tell(server, story)


def test_contacts_are_counted_over_all_guides_and_each_once(server):
    async def story(arbiter):
        out = [Touched("b", "m", at, f"t{at}", f"g{at}", f"t{at}", came_in=False) for at in (5, 6, 7, 7)]
        await arbiter.members.touch(out)
        return await arbiter.members.contacts([("b", "m"), ("b", "nobody")], 6)

    assert tell(server, story) == [2, 0]


def test_a_cell_is_fixed_once(server):
    def ask(cell, *, owner_first=False):
        return Proposal("b", "m", "lead", "l", cell, owner_first=owner_first)

    async def story(arbiter):
        first, _ = await arbiter.fix_cells([ask("b/1")])
        await tell_of(arbiter, bound("g"))
        asked = [ask("b/2"), ask("b/3", owner_first=True)]
        later, _ = await arbiter.fix_cells(asked, owners_in(g="b/9"))
        assert first == [Home("b/1", "")]
        assert later == [Home("b/1", "g", 5)] * 2

    tell(server, story)


def test_the_home_of_a_request_tells_what_is_known_of_its_member(server):
    ask = Proposal("b", "m", "lead", "l", CELL, owner_first=False)
    touches = [
        Touched("b", "m", NOW_MS + n, f"t{n}", guide, "", came_in=not guide)
        for n, guide in enumerate(("g", "h", ""))
    ]

    async def story(arbiter):
        await tell_of(arbiter, bound("g"))
        await arbiter.members.touch(touches)
        return (await arbiter.fix_cells([ask], owners_in()))[0]

    assert tell(server, story) == [Home(CELL, "g", 5, "h", NOW_MS + 2)]


@pytest.mark.parametrize(
    ("owner_cell", "owner_first", "cell"),
    [("b/9", True, "b/9"), ("b/9", False, CELL), ("", True, CELL), (None, True, CELL)],
)
def test_the_owners_cell_is_taken_where_it_comes_first_and_is_known(server, owner_cell, owner_first, cell):
    async def story(arbiter):
        if owner_cell is not None:
            await tell_of(arbiter, bound("g"))
        ask = Proposal("b", "m", "lead", "l", CELL, owner_first=owner_first)
        return await arbiter.fix_cells([ask], owners_in(g=owner_cell))

    [home], _ = tell(server, story)
    assert home.cell == cell


def test_f53_the_time_is_that_of_redis(server, monkeypatch):
    async def story(arbiter):
        monkeypatch.setattr(time, "time", lambda: 0.0)
        _, before = await ask(arbiter)
        now_ms = await arbiter.now_ms()
        _, after = await ask(arbiter)
        seconds, _ = await arbiter.scripts.redis.time()
        assert before <= now_ms <= after <= (seconds + 1) * 1000
        assert before > 1_700_000_000_000

    tell(server, story)


@quick
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 3)), max_size=12), st.randoms())
def test_of_a_journeys_seq_the_record_that_is_first_in_the_log_is_kept(server, log, random):
    """In whatever order, and however often, the records are brought."""
    records = [(lead, seq, offset, b"r|%d" % offset) for offset, (lead, seq) in enumerate(log)]
    brought = (
        random.choices(records, k=len(records)) + random.sample(records, len(records)) if records else []
    )
    first = {}
    for lead, seq, offset, record in records:
        first.setdefault((lead, seq), (offset, record))

    async def story(arbiter):
        rows = [("b", "m", "lead", *each) for each in brought]
        await arbiter.keep_journeys(rows)
        return await arbiter.keep_journeys(rows)

    assert tell(server, story) == [first[lead, seq] for lead, seq, *_ in brought]


@quick
@given(
    st.lists(
        st.tuples(st.sampled_from(("lead|a", "lead|b")), st.integers(1, 4) | st.just(10**15), st.booleans()),
        max_size=12,
    ),
    st.randoms(),
)
def test_an_inbox_shows_the_highest_seq_and_of_it_the_record_that_is_first_in_the_log(server, log, random):
    """In whatever order they are brought; a feed tells of each that was news when it came."""
    cards = [(lead, seq, offset, live) for offset, (lead, seq, live) in enumerate(log)]
    random.shuffle(cards)
    held, feed = {}, []
    for lead, seq, offset, live in cards:
        place, shown = held.get(lead.encode(), ((0, 0), b""))
        if (seq, -offset) > place:
            record = b"r%d|" % offset
            card = record if live else b""
            held[lead.encode()] = ((seq, -offset), card)
            if seq > place[0] or card != shown:
                feed.append({b"record": record})

    async def story(arbiter):
        rows = [Card("b", "g", lead, seq, at, b"r%d|" % at, live) for lead, seq, at, live in cards]
        assert await arbiter.deliver_cards(rows) == len(feed)
        assert await arbiter.deliver_cards(rows) == 0
        redis = arbiter.scripts.redis
        assert await redis.hgetall(keys.inbox("b", "g")) == {
            lead: b"%d|%d|%s" % (seq, -minus_offset, card)
            for lead, ((seq, minus_offset), card) in held.items()
        }
        assert [fields for _, fields in await redis.xrange(keys.feed("b", "g"))] == feed

    tell(server, story)


def test_a_claim_that_was_given_up_decides_nothing(server):
    """Whoever has asked again may have been told nothing, and would never publish what this call decides."""

    async def story(arbiter):
        await open_up(arbiter, (CELL, "g", 1, 5))
        [waits] = await arbiter.claim([offer()])
        before = await dump(arbiter)
        patience_s, arbiter.scripts.timeout_s = arbiter.scripts.timeout_s, -1
        for given_up in (offer("other"), offer(shortlist=["g"], cause="response|t", move="0 * waiting>+:w")):
            with pytest.raises(OutageError, match="OVERDUE"):
                await arbiter.claim([given_up])
        assert await dump(arbiter) == before
        arbiter.scripts.timeout_s = patience_s
        [drained] = await arbiter.claim([given_up])
        assert (waits.state, drained.state) == ("waiting", "offered")

    tell(server, story)


def test_nothing_to_do_asks_nothing():
    """Without any server at all."""

    async def story():
        arbiter = Arbiter(Scripts("unix:///nowhere"))
        assert await arbiter.members.contracts([]) == []
        assert await arbiter.members.write([]) == []
        assert await arbiter.members.standings([]) == ([], 0)
        await arbiter.members.touch([])
        await arbiter.set_capacities([])
        assert await arbiter.claim([]) == []
        assert await arbiter.keep_journeys([]) == []
        assert await arbiter.deliver_cards([]) == 0
        assert await arbiter.loads([]) == {}
        assert await arbiter.waiters([], [], 3) == []
        assert await arbiter.records([]) == {}

    asyncio.run(story())


def test_the_servers_that_hold_a_log_are_noted_and_no_others(server):
    async def story(arbiter):
        assert await arbiter.known_identities("a") == {}
        await arbiter.note_identities("a", {"x": 1, "y": 2})
        await arbiter.note_identities("a", {"y": 3})
        assert await arbiter.known_identities("a") == {"y": 3}
        assert await arbiter.known_identities("b") == {}

    tell(server, story)


# --- what Redis has lost comes back from the log -----------------------------------------------------------


def restored(seq, guide="", *, lead="l", cell=CELL):
    """A step of a lead as the log has it: with a guide it is offered, without one it waits."""
    state, choice = ("offered", f"{guide}|{LEAD}|s|0.5000|near") if guide else ("waiting", "hq|3|7|near")
    answer = f"{state} {seq} 2 30 20 7 {seq * LEAD} lead|{lead} - {choice}"
    return Restored(
        brand="b",
        kind="lead",
        lead_id=lead,
        member_id="m",
        cell=cell,
        seq=seq,
        attempt=int(bool(guide)),
        answer=answer,
        digest="d" if seq == 1 else "",
        guide_id=guide,
        ends_ms=str(20 + seq),
        turn=f"{guide} {seq * LEAD} {(seq + 1) * LEAD}" if guide else "",
        record=f"{guide} 1.000,{seq}.000,0.000,0.000,0,0,{seq}" if guide else "",
        slots="",
        moved=False,
    )


records = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(("", "g", "h")), st.sampled_from((CELL, "b/n"))),
    min_size=1,
    max_size=8,
)


@quick
@given(records, st.randoms(), st.lists(st.sampled_from("gh"), max_size=2))
def test_f24_leads_are_restored_to_what_the_log_says_in_any_order(server, log, random, shortlist):
    """Also where Redis decided otherwise; loads and waiting leads follow; once more changes nothing."""
    cells, story_of = {}, {}
    for lead, guide, cell in log:
        cells.setdefault(lead, cell)  # a cell is fixed once
        steps = story_of.setdefault(lead, [])
        steps.append(restored(len(steps) + 1, guide, lead=lead, cell=cells[lead]))
    brought = [step for steps in story_of.values() for step in steps]
    wanted = {lead: steps[-1] for lead, steps in story_of.items()}
    brought = random.choices(brought, k=3) + random.sample(brought, len(brought))

    async def story(arbiter):
        await open_up(arbiter, *((cell, guide, 1, 9) for cell in (CELL, "b/n") for guide in "gh"))
        other = offer("a", shortlist, cell=cells.get("a", CELL), digest="other")
        await arbiter.claim([other])
        await arbiter.restore(brought)
        held = await dump(arbiter)
        assert await arbiter.restore(brought) == 0
        assert await dump(arbiter) == held
        loads, redis = await arbiter.loads([CELL, "b/n"]), arbiter.scripts.redis
        for cell in (CELL, "b/n"):
            here = {lead: each for lead, each in wanted.items() if each.cell == cell}
            if cell == other.cell and "a" not in wanted:
                continue
            assert loads[cell] == Counter(each.guide_id for each in here.values() if each.guide_id)
            waiting = await redis.zrange(keys.waiting(cell), 0, -1)
            assert set(waiting) == {
                b"hq|3|7|near|lead|%s|m" % lead.encode() for lead, e in here.items() if not e.guide_id
            }
            due = dict(await redis.zrange(keys.due(cell), 0, -1, withscores=True))
            assert due == {b"lead|%s|m" % lead.encode(): 20 + each.seq for lead, each in here.items()}
        for lead, steps in story_of.items():
            [answer] = await arbiter.claim([offer(lead, ["g"], cell=cells[lead])])
            assert answer == Answer(
                "replay", steps[-1].answer.split()[0], 1, tuple(step.answer for step in steps)
            )

    tell(server, story)


@pytest.mark.parametrize("overrule", [False, True])
def test_f25_a_cell_fixed_after_the_loss_of_everything_gives_way_to_the_logs(server, overrule):
    async def story(arbiter):
        await arbiter.fix_cells([Proposal("b", "m", "lead", "l", "b/n", owner_first=False)])
        await arbiter.restore([restored(1, "g")], overrule=overrule)
        return await arbiter.loads([CELL, "b/n"])

    held, other = (CELL, "b/n") if overrule else ("b/n", CELL)
    assert tell(server, story) == {held: {"g": 1}, other: {}}


def test_f25_a_cell_that_loses_its_state_on_the_way_is_not_marked(server):
    """Nor is one whose way another one has begun anew; a mark that is there stays as it is."""

    async def story(arbiter):
        cells = [CELL, "b/n"]
        tokens = await arbiter.begin(cells, "one")
        assert await arbiter.begin(cells, "two") == tokens == ["one", "one"]
        await arbiter.scripts.redis.delete(keys.capacity(CELL))
        assert not await arbiter.mark(cells, tokens)
        assert await arbiter.unmarked(cells) == [CELL]
        await arbiter.begin(cells, "three")
        assert not await arbiter.mark(cells, tokens)
        assert await arbiter.mark(cells, ["three", "one"])
        since = await arbiter.scripts.redis.hget(keys.capacity("b/n"), keys.MARK)
        assert await arbiter.mark(cells, ["three", "one"])
        assert await arbiter.scripts.redis.hget(keys.capacity("b/n"), keys.MARK) == since

    tell(server, story)


# --- changes -----------------------------------------------------------------------------------------------


class Follower:
    """What ``router.changes`` needs of a reference: loads, turns and records by cell."""

    def __init__(self, cells):
        self.cells, self.known, self.traffic = cells, {}, self

    def forget_guesses(self):
        pass

    def set_cell(self, cell, loads, turns, records):
        self.known[cell] = {}
        for name in {*loads, *turns, *records}:
            self.change(cell, name, loads.get(name, 0), turns.get(name, 0), records.get(name, "-"))

    def change(self, cell, name, load, turn, record):
        """Of whom nothing is known any more nothing is kept."""
        self.known[cell].pop(name, None)
        if (load, turn, record) != (0, 0, "-"):
            self.known[cell][name] = (load, turn, record)


async def known(arbiter):
    """The same, of Redis."""
    truth = Follower([CELL, "b/n"])
    loads, turns = await arbiter.loads(truth.cells), await arbiter.turns(truth.cells)
    records = await arbiter.records(truth.cells)
    for cell in truth.cells:
        truth.set_cell(cell, loads[cell], turns[cell], records[cell])
    return truth.known


@quick
@given(st.lists(offers_drawn, min_size=1, max_size=5), st.lists(st.booleans(), min_size=10, max_size=10))
def test_who_follows_the_changes_knows_loads_turns_and_records_whenever_it_looks(server, batches, looks):
    async def story(arbiter):
        await open_up(arbiter, *((cell, guide, 1, 2) for cell in (CELL, "b/n") for guide in GUIDES))
        often, seldom = Follower([CELL, "b/n"]), Follower([CELL, "b/n"])
        followers = [(often, Changes(arbiter, often)), (seldom, Changes(arbiter, seldom))]
        for number, batch in enumerate(batches):
            await arbiter.claim(batch)
            await arbiter.restore([restored(2, "g" if looks[number] else "", lead="l1")])
            for follower, changes in followers[: 2 if looks[number + 5] else 1]:
                await changes.follow()
                assert follower.known == await known(arbiter)
        await followers[1][1].follow()
        assert seldom.known == often.known

    tell(server, story)


def test_who_falls_too_far_behind_reads_the_cell_as_a_whole(server, monkeypatch):
    monkeypatch.setattr("router.state.arbiter.CHANGES_MAX", 1)

    async def story(arbiter):
        await open_up(arbiter, (CELL, "g", 1, 1000))
        follower = Follower([CELL])
        changes = Changes(arbiter, follower)
        await arbiter.claim([offer("first", ["g"])])
        await changes.follow()
        for number in range(400):
            await arbiter.claim([offer(f"l{number}", ["g"])])
        [[_, *news]] = await arbiter.changes([CELL], [changes._places[CELL]])
        assert news == ["gap"]
        await changes.follow()
        assert follower.known[CELL]["g"] == (401, 401 * LEAD, "-")
        [[place, *news]] = await arbiter.changes([CELL], [changes._places[CELL]])
        assert (place, news) == (changes._places[CELL], [])

    tell(server, story)


# --- keys --------------------------------------------------------------------------------------------------

CELL_KEYS = keys.OF_CELL
HOSTILE_MARKETS = ("m", "{m}", "}", "a/b", "a b", "a\r\nb", "上海", ":open", "%7B", "m1", "|", "\0")


def test_no_two_identities_share_a_key():
    """Not even those whose parts would run together, or would be another's name."""
    ids = ("a", "b", "a.b", "lead", "m1", "-", "open")
    cells = [cell_name(brand, market) for brand in ("a", "b", "a.b") for market in (None, *HOSTILE_MARKETS)]
    made = [
        *[key(cell) for key in CELL_KEYS for cell in cells],
        *[keys.lead(*each) for each in itertools.product(cells, ("lead", "reservation", "list"), ids)],
        *[key(*each) for key in (keys.member, keys.inbox, keys.feed) for each in itertools.product(ids, ids)],
        *[keys.lead_cell(*each) for each in itertools.product(ids, ("lead", "reservation"), ids)],
        *[keys.journey(*each) for each in itertools.product(ids, ids, ("lead", "reservation"), ids)],
        *[keys.identities(name) for name in ids],
        *[keys.parked(brand) for brand in ids],
    ]
    assert len(set(made)) == len(made)


@given(st.text(min_size=1, max_size=64), st.text(min_size=1, max_size=64))
def test_f49_no_market_chooses_where_a_key_goes(market, other):
    cell = cell_name("b", market)
    assert cell.isascii()
    assert cell.isprintable()
    assert not set("{}:| \r\n") & set(cell)
    assert cell.count("/") == 1
    assert keys.tag(keys.open_attempts(cell)) == keys.tag(keys.lead(cell, "lead", "l")) == cell
    assert (cell == cell_name("b", other)) == (market == other)


def test_the_keys_of_one_step_share_their_tag():
    assert len({keys.tag(key(CELL)) for key in CELL_KEYS}) == 1
    of_member = (keys.member, keys.acts, keys.contacts, keys.track)
    assert len({keys.tag(key("b", "m")) for key in of_member}) == 1
    assert keys.tag(keys.inbox("b", "g")) == keys.tag(keys.feed("b", "g"))


def test_f49_hostile_markets_are_claimed_in_like_any_other(server):
    cells = [cell_name("b", market) for market in HOSTILE_MARKETS]

    async def story(arbiter):
        await open_up(arbiter, *((cell, "g", 1, 1) for cell in cells))
        answers = await arbiter.claim([offer("l", ["g"], cell=cell) for cell in cells])
        assert [answer.result for answer in answers] == ["ok"] * len(cells)
        assert await arbiter.loads(cells) == {cell: {"g": 1} for cell in cells}

    tell(server, story)


# --- foul weather ------------------------------------------------------------------------------------------


def test_f30_flushed_scripts_are_loaded_again(server):
    async def story(arbiter):
        await open_up(arbiter, (CELL, "g", 1, 9))
        await arbiter.scripts.redis.script_flush()
        assert [answer.result for answer in await arbiter.claim([offer("l", ["g"])])] == ["ok"]
        # not even when all the batches in flight meet it at the same time
        await arbiter.scripts.redis.script_flush()
        await asyncio.gather(
            arbiter.claim([offer("k", ["g"])]),
            tell_of(arbiter, bound("g")),
            ask(arbiter),
            arbiter.keep_journeys([("b", "m", "lead", "l", 1, 0, b"x")]),
            arbiter.deliver_cards([Card("b", "g", "lead|l", 1, 0, b"x", live=True)]),
        )

    tell(server, story)


def test_f30_scripts_that_were_loaded_in_part_do_no_harm(server, monkeypatch):
    """A server that dies between two loads is an outage like any other."""

    async def story(arbiter):
        redis = arbiter.scripts.redis
        await redis.script_flush()
        loaded = []

        async def dies(text, load=redis.script_load):
            if len(loaded) == 1:
                raise ConnectionResetError
            loaded.append(await load(text))

        with monkeypatch.context() as patch:
            patch.setattr(redis, "script_load", dies)
            with pytest.raises((OutageError, ConnectionResetError)):
                await ask(arbiter)
        for _ in range(2):
            await ask(arbiter)
            await arbiter.claim([offer("l", marked=False)])

    tell(server, story)


def test_f22_a_hung_server_is_an_outage_in_time_and_is_served_again(own_server):
    """Claims that were executed all the same are answered as first decided, and no answer is mixed up."""

    async def story(arbiter):
        await open_up(arbiter, (CELL, "g", 1, 2))
        own_server.pause()
        began = time.monotonic()
        with pytest.raises(OutageError):
            await arbiter.claim([offer("a", ["g"]), offer("b", ["g"])])
        with pytest.raises(OutageError):
            await arbiter.now_ms()
        assert time.monotonic() - began < 2
        own_server.resume()
        answers = await arbiter.claim([offer("a", ["g"]), offer("b", ["g"]), offer("c", ["g"])])
        held = [answer.offered for answer in answers]
        assert [step and step.guide_id for step in held] == ["g", "g", None]
        assert await arbiter.loads([CELL]) == {CELL: {"g": 2}}

    tell(own_server, story, timeout_s=0.5)


def test_f22_a_call_waits_no_longer_than_a_second_and_is_not_repeated_unasked():
    given = Scripts("unix:///nowhere").redis.connection_pool.connection_kwargs
    assert given["socket_timeout"] <= 1
    assert given["retry"].get_retries() == 0


def test_f20_f28_a_server_that_is_away_is_an_outage_and_comes_back(own_server):
    async def story(arbiter):
        await ask(arbiter)
        own_server.kill()
        for call in (
            ask(arbiter),
            arbiter.now_ms(),
            arbiter.loads([CELL]),
            arbiter.known_identities("a"),
            arbiter.scripts.identities(),
        ):
            with pytest.raises(OutageError):
                await call
        own_server.start()
        await ask(arbiter)

    tell(own_server, story)


def test_f26_a_full_server_is_an_outage_and_nothing_is_half_written(own_server):
    async def story(arbiter):
        redis = arbiter.scripts.redis
        await open_up(arbiter, (CELL, "g", 1, 9))
        held = await dump(arbiter)
        await redis.config_set("maxmemory-policy", "noeviction")
        await redis.config_set("maxmemory", "1mb")
        for call in (
            arbiter.claim([offer(f"l{n}", ["g"]) for n in range(9)]),
            arbiter.fix_cells([Proposal("b", "m", "lead", "l", CELL, owner_first=False)]),
            arbiter.set_capacities([(CELL, "h", 1, 1)]),
            arbiter.members.write([(("b", "m"), b"", follow(Contract(), [bound("g")]))]),
            arbiter.members.touch([Touched("b", "m", 5, "t", "g", "t", came_in=True)]),
            arbiter.keep_journeys([("b", "m", "lead", "l", 1, 0, b"x")]),
            arbiter.deliver_cards([Card("b", "g", "lead|l", 1, 0, b"x", live=True)]),
            arbiter.note_identities("log", {"x": 1}),
        ):
            with pytest.raises(OutageError, match=r"(?i)memory"):
                await call
        await redis.config_set("maxmemory", "0")
        assert await dump(arbiter) == held
        assert [answer.result for answer in await arbiter.claim([offer("l0", ["g"])])] == ["ok"]

    tell(own_server, story)


def test_f29_a_server_that_was_demoted_is_an_outage(own_server):
    async def story(arbiter):
        redis = arbiter.scripts.redis
        await open_up(arbiter, (CELL, "g", 1, 9))
        await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(OutageError):
            await arbiter.claim([offer("l", ["g"])])
        with pytest.raises(OutageError):
            await arbiter.note_identities("log", {"x": 1})
        await redis.execute_command("REPLICAOF", "NO", "ONE")
        assert [answer.result for answer in await arbiter.claim([offer("l", ["g"])])] == ["ok"]

    tell(own_server, story)


def test_f27_a_server_that_cannot_save_is_an_outage(own_server):
    async def story(arbiter):
        redis = arbiter.scripts.redis
        await redis.config_set("min-replicas-to-write", 1)
        with pytest.raises(OutageError, match="NOREPLICAS"):
            await arbiter.claim([offer("l", marked=False)])
        await redis.config_set("min-replicas-to-write", 0)
        # a snapshot that cannot be written: its name is a folder's
        (own_server.folder / "dump.rdb").mkdir()
        await redis.config_set("save", "3600 1")
        await redis.set("changed", 1)
        await redis.bgsave()
        for _ in range(200):
            if (await redis.info("persistence"))["rdb_last_bgsave_status"] == "err":
                break
            await asyncio.sleep(0.01)
        with pytest.raises(OutageError, match="MISCONF"):
            await arbiter.claim([offer("l", marked=False)])
        await redis.config_set("stop-writes-on-bgsave-error", "no")
        await arbiter.claim([offer("l", marked=False)])

    tell(own_server, story)


def test_a_server_that_is_busy_with_a_script_is_an_outage(own_server):
    async def story(arbiter):
        redis = arbiter.scripts.redis
        await ask(arbiter)
        await redis.config_set("busy-reply-threshold", 1)
        busy = asyncio.create_task(redis.eval("while true do end", 0))
        while True:  # until the server has noticed
            try:
                await arbiter.now_ms()
            except OutageError:
                break
        for call in (arbiter.loads([CELL]), ask(arbiter)):
            with pytest.raises(OutageError, match="BUSY"):
                await call
        await redis.script_kill()
        with pytest.raises(ResponseError):
            await busy

    tell(own_server, story)


def test_a_key_of_the_wrong_kind_is_nothing_foreseen(server):
    async def story(arbiter):
        await arbiter.scripts.redis.set(keys.capacity(CELL), "x")
        with pytest.raises(EffectError, match="WRONGTYPE"):
            await arbiter.claim([offer("l", ["g"])])
        await arbiter.scripts.redis.set(keys.open_attempts(CELL), "x")
        with pytest.raises(EffectError, match="WRONGTYPE"):
            await arbiter.loads([CELL])

    tell(server, story)


def test_an_unforeseen_failure_is_not_hidden_by_the_answers_around_it(server):
    async def story(arbiter):
        await arbiter.scripts.redis.set(keys.capacity("b/bad"), "x")
        calls = [
            Call("set_capacity", [keys.capacity(cell), *map(keys.records, [cell] * 4)], [9, "g", 1, 1])
            for cell in ("b/1", "b/bad", "b/2")
        ]
        with pytest.raises(EffectError):
            await arbiter.scripts.run(calls)

    tell(server, story)


def test_a_url_that_is_none_says_which_setting_is_wrong():
    with pytest.raises(ConfigError, match="LEAD_ROUTER_REDIS_URL"):
        Scripts("nonsense")
