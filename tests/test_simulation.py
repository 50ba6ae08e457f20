"""Whatever the schedule of faults: nothing lost, doubled, over capacity, and Redis as the log says."""

from __future__ import annotations

import os
import site
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from random import Random, SystemRandom
from typing import ClassVar

import pytest

from router.errors import OutageError
from router.local import EmbeddedRedis
from router.rules.lifecycle import ACTIONS, BOOKINGS, Limits, moves
from router.state import keys
from router.state.arbiter import Arbiter
from router.state.redis import GATEWAY_SCRIPTS, SCRIPTS, Call, Scripts, checked
from scoring.policy import Policy
from tests.parts import PATIENT_S
from tests.simulation import redis as fake
from tests.simulation import scripts
from tests.simulation.faults import EVENTS, KAFKA_FATES, POINTS, REDIS_FATES, Faults
from tests.simulation.loop import Loop, Process
from tests.simulation.simulation import check_aside, told_aside
from tests.simulation.world import BEGIN_MS

SEEDS, CHUNK = 2080, 130
#: Scripts without a fake, and why: nothing that the simulated worker does may call one of them.
WITHOUT_FAKE = {
    "post": "no simulated worker keeps the book; tests/test_ledger_crashes.py and"
    " tests/test_ledger_state_machine.py run the real script under deaths at every step"
}
#: A time that no caller lives to see.
EVER_MS = 2**53
FAKED = tuple(name for name in SCRIPTS if name not in WITHOUT_FAKE)


@pytest.fixture(scope="module")
def two_processes():
    """Seeds hang on nothing but themselves: two at a time."""
    # pytest alone knows where these modules are
    here = {"initializer": site.addsitedir, "initargs": (str(Path(__file__).parents[1]),)}
    with pytest.MonkeyPatch.context() as patch:
        # numpy's threads wait for work by asking over and over
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        with ProcessPoolExecutor(2, mp_context=get_context("spawn"), **here) as pool:
            yield pool


def check_all(pool, seeds):
    outcomes = zip(seeds, pool.map(check_aside, seeds), strict=True)
    failed = {seed: found for seed, found in outcomes if found}
    assert not failed, "\n".join(
        f"make simulate SEED={seed}: {'; '.join(found)}" for seed, found in failed.items()
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_schedule_of_faults_ends_well(two_processes, first):
    check_all(two_processes, range(first, first + CHUNK))


@pytest.mark.skipif("CI" in os.environ, reason="what fails there must fail here as well")
def test_schedules_that_nobody_has_seen_end_well(two_processes):
    check_all(two_processes, SystemRandom().sample(range(SEEDS, 10**9), 30))


def test_a_seed_gives_the_same_run_to_the_byte_in_every_process():
    def replay(hash_seed):
        command = [sys.executable, "-m", "tests.simulation", "17"]
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        return subprocess.run(command, env=environment, capture_output=True, check=True).stdout

    assert replay("1") == replay("2") != b""


def test_the_schedules_hold_every_fault(two_processes):
    """A fault that never happens would prove nothing."""
    lines = [line for told in two_processes.map(told_aside, range(100), chunksize=5) for line in told]
    text = "\n".join(lines)
    expected = [f"killed at {point}" for point in POINTS]
    expected += [f"Redis call {fate}" for fate in REDIS_FATES[1:]]
    told = {line.rpartition(" ")[2] for line in lines if "produce of" in line}
    assert told >= set(KAFKA_FATES[1:])
    expected += [*EVENTS, "is expelled", "is told that it lost", "ends with status 70", "ends with status 75"]
    assert [each for each in expected if each not in text] == []


# The fake Redis and the real one, case by case


@pytest.fixture(scope="module")
def valkey():
    with EmbeddedRedis() as server:
        yield server


class Cases:
    """Random calls over few names, so that they meet; some names are beginnings of others."""

    CELLS = ("b/-", "b/%E4%B8%8A")
    GUIDES = ("g1", "g10", "g", "G1")
    RUNG_OF: ClassVar = {"g1": "owner", "g": "store"}
    LEADS = ("l1", "l10", "l2", "l3")
    MEMBERS = ("m1", "m2")

    def __init__(self, seed, db):
        self.rng = Random(seed)  # noqa: S311 - made-up calls, not a secret
        self._db = db
        self.now_ms = 1_000

    def call(self, script):
        names, args = getattr(self, f"_{script}")()
        return Call(script, names, args)

    def _some(self, values):
        return [self.rng.choice(values) for _ in range(self.rng.randint(1, 4))]

    def _bind(self):
        names = [keys.member("b", member) for member in self._some(self.MEMBERS)]
        args = []
        for name in names:
            held = (self._db.hget(name, b"facts") or b"").decode()
            args += (self.rng.choice((held, held, "", "1")), self.rng.choice("123"))
            args += (self.rng.choice(("", *self.GUIDES)), self.rng.randint(-1, 9))
            args.append(self.rng.choice(("", "g1|5|", "g10|5|9")))
        return names, args

    def _touch(self):
        names, args = [], [600_000, 2, 2, 3]
        for member in self._some(self.MEMBERS):
            names += (key("b", member) for key in (keys.acts, keys.contacts, keys.track))
            number = self.rng.randint(1, 9)
            args += (self.rng.choice((number, 1_790_000_000_000 + number)), f"t{number}|chat|||")
            args.append(self.rng.choice(("", *self.GUIDES)))
            args += (self.rng.choice(("", f"t{number}")), self.rng.randint(0, 1))
        return names, args

    def _brought(self):
        names, args = [], [600_000, 2]
        for member in self._some(self.MEMBERS):
            names.append(keys.origins("b", member))
            party = self.rng.choice(("p1|partner", "p2|partner", "p3|ecommerce"))
            args += (self.rng.randint(1, 9), f"origin|t{self.rng.randint(1, 9)}|{party}")
        return names, args

    def _window(self):
        args = [self.rng.choice(("open", "open", "close"))]
        members = self._some(self.MEMBERS)
        for member in members:
            args += (member, self.rng.randint(1, 4))
        return [keys.windows("b")] * len(members), args

    def _remind(self):
        names, args = [], [self.rng.randint(10, 30), 600_000]
        if self.rng.random() < 0.1:
            args[0] += 600_000
        for guide in self._some(self.GUIDES):
            names.append(keys.reminded("b", guide))
            args += (f"w.{self.rng.randint(1, 5)}", self.rng.randint(0, 3))
        return names, args

    def _cell_keys(self, cell):
        return [key(cell) for key in keys.OF_CELL]

    def _claim(self):
        cell = self.rng.choice(self.CELLS)
        # the time of Redis itself has no part in it
        self.now_ms += self.rng.choice((0, 1, 40, 5_000))
        tiers, bound_ms = self.rng.choice(("0123", "2013")), self.rng.randint(1, 40)
        by_ms = self.rng.choice((EVER_MS,) * 9 + (1,))
        rules = f"{self.now_ms} 2000000 {tiers} 30 20000 2 60 {bound_ms} 9 {by_ms}"
        names, args = self._cell_keys(cell), [600_000, 500, self._mark_seen(cell), rules]
        for lead in self._some(self.LEADS):
            names.append(keys.lead(cell, "lead", lead))
            guides = self.rng.sample((*self.GUIDES, "nobody"), self.rng.randint(0, 4))
            entries = " ".join(
                f"{g}|{self.rng.choice((0, 333_333, 10**9))}|s1|0.5|{self.RUNG_OF.get(g, 'near')}"
                for g in guides
            )
            args += (f"lead|{lead}|m-{lead}", self.rng.choice(("d1", "d1", "d2")), entries)
            queue = self.rng.choice(("@hq", "@hq/store/s1", "@hq/hq"))
            arrival_ms, tier = self.now_ms - self.rng.randint(0, 90), self.rng.randint(0, 3)
            limits = f"{self.now_ms + 50} {self.rng.choice((0, self.now_ms + 20))} {self.now_ms + 70}"
            args += (f"{arrival_ms} {tier} {queue} near 5 {limits}", *self._cause(lead), self._with_it())
        return names, args

    def _with_it(self):
        """What a lead brings from another cell."""
        if self.rng.random() < 0.8:
            return ""
        answer = "waiting 0 2 3 0 4 0 lead|l1 - @hq|0|5|near"
        if self.rng.random() < 0.4:
            return f"q\t9\nd\td1\n9\t{answer}"  # back from a cell in which more has happened
        return f"q\t1\nd\td1\n1\t{answer}"

    def _leave(self):
        cell = self.rng.choice(self.CELLS)
        names, args = self._cell_keys(cell), [self.now_ms + self.rng.choice((0, 100)), 500]
        for lead in self._some(self.LEADS):
            names.append(keys.lead(cell, "lead", lead))
            args += (f"lead|{lead}|m-{lead}", self.rng.choice(self.CELLS), self.rng.randint(0, 1))
            args.append(self.rng.choice(("", "", 1, 4)))
        return names, args

    def _arrive(self):
        cell, args = self.rng.choice(self.CELLS), [600_000]
        names = [keys.lead(cell, "lead", lead) for lead in self._some(self.LEADS)]
        for name in names:
            held = self._db.hgetall(name)
            args += (held.get(b"to", b"b/-").decode(), int(held.get(b"q", 0)) - (self.rng.random() < 0.2))
        return names, args

    def _cause(self, lead):
        """A new lead, or one of many things that may happen to it."""
        slots = (
            " ".join(f"{self.rng.randint(1, 2)}:s1|fit|{at}" for at in range(self.rng.randint(0, 2))) or "-"
        )
        if self.rng.random() < 0.4:
            kind = self.rng.choice(("lead", "lead", "reservation/1", "reservation/2"))
            slots = slots if kind != "lead" else ""
            return (f"{kind}|{lead}", self.rng.choice(("", "", "", "=closed")), slots)
        action = self.rng.choice(ACTIONS)
        over = self.rng.random() < 0.2
        policy = Policy()
        text = moves(action, self.now_ms, policy, Limits(self.now_ms + 10**9, wait_ms=7), over=over)
        attempt, guide = self.rng.choice("-1-2-"), self.rng.choice(("*", "*", *self.GUIDES))
        if action in BOOKINGS:
            return (f"reservation/{self.rng.randint(1, 6)}|{lead}", f"{attempt} {guide} {text}", slots)
        return (f"response|r{self.rng.randint(1, 60)}", f"{attempt} {guide} {text}", "")

    def _restore(self):
        cell = self.rng.choice(self.CELLS)
        names, args = self._cell_keys(cell), [600_000, 500]
        for lead in self._some(self.LEADS):
            names.append(keys.lead(cell, "lead", lead))
            guide = self.rng.choice(("", *self.GUIDES))
            state = self.rng.choice(("offered", "seen")) if guide else self.rng.choice(("waiting", "closed"))
            choice = f"{guide}|{10**6}|s1|0.5|near" if guide else f"@hq|{self.rng.randint(0, 3)}|5|near"
            record = f"1.000,2.500,0.000,0.000,1,{self.rng.choice((0, 70))},{self.rng.randint(1, 9)}"
            # the first seqs leave no hole, as those of the log do not
            held = self._db.hgetall(keys.lead(cell, "lead", lead))
            seq = self.rng.randint(1, int(held.get(b"q", 0)) + 1)
            cause = self.rng.choice(("lead", "reservation/1", "reservation/2", "reservation/3"))
            answer = f"{state} 1 2 {self.rng.randint(1, 2)} 0 4 7 {cause}|{lead} - {choice}"
            args += (f"lead|{lead}|m-{lead}", seq, answer, "d1" if seq == 1 else "", guide)
            args += (
                self.rng.choice(("", 9)),
                f"{guide} {self.rng.randint(0, 10**7)} {10**7}" if guide else "",
            )
            args.append(f"{guide} {record}" if guide and self.rng.random() < 0.5 else "")
            args.append(self.rng.choice(("", "-", "s1|fit|0", "s1|fit|0 s1|fit|1")))
        return names, args

    def _meet(self):
        members = self._some(self.MEMBERS)
        args = [600_000]
        for _ in members:
            # by the fake's clock all windows are open or none is
            window_ms = self.rng.choice((0, 10**12))
            args += (self.rng.choice(("x", "y")), f"lead|{self.rng.choice(self.LEADS)}", window_ms)
            args.append(self.rng.choice(("", *(f"lead|{lead}" for lead in self.LEADS))))
        return [keys.needs("b", member) for member in members], args

    def _part(self):
        members = self._some(self.MEMBERS)
        leads = [f"lead|{self.rng.choice(self.LEADS)}" for _ in members]
        return [keys.needs("b", member) for member in members], leads

    def _waiters(self):
        most = self.rng.randint(1, 3)
        skips = [self.rng.choice((0, most, most + 1)) for _ in self.CELLS]
        return [keys.waiting(cell) for cell in self.CELLS], [most, *skips]

    def _forget(self):
        cell = self.rng.choice(self.CELLS)
        args = []
        for lead in self._some(self.LEADS):
            args += (f"lead|{lead}|m-{lead}", self.now_ms + self.rng.randint(-90, 90))
        return [keys.due(cell)], args

    def _mark(self):
        action = self.rng.choice(("ask", "begin", "end", "end"))
        cells = self._some(self.CELLS)
        names = [key(cell) for cell in cells for key in (keys.capacity, keys.changes)]
        return names, [action, *("" if action == "ask" else self.rng.choice("tu") for _ in cells)]

    def _changes(self):
        cells = self._some(self.CELLS)
        names = [key(cell) for cell in cells for key in (keys.capacity, keys.changes)]
        return names, [self._place(cell) for cell in cells]

    def _place(self, cell):
        mark = (self._db.hget(keys.capacity(cell), scripts.MARK) or b"1").decode()
        return self.rng.choice(("", "1--1", "1-7", *(f"{mark}-{number}" for number in range(-1, 12))))

    def _mark_seen(self, cell):
        mark = (self._db.hget(keys.capacity(cell), scripts.MARK) or b"?").decode()
        return self.rng.choice((mark, mark, mark, "?", "", "1"))

    def _members(self):
        members = self._some(self.MEMBERS)
        return [key("b", member) for member in members for key in (keys.member, keys.acts)], []

    def _clock(self):
        return [keys.capacity(cell) for cell in self._some(self.CELLS)], []

    def _fix_cells(self):
        names, args = [], [600_000, self.rng.randint(0, 1)]
        for lead in self._some(self.LEADS):
            names.append(keys.lead_cell("b", "lead", lead))
            args.append(self.rng.choice(self.CELLS))
        return names, args

    def _inbox(self):
        names, args = [], [600_000, 500]
        for guide in self._some(self.GUIDES):
            names += (keys.inbox("b", guide), keys.feed("b", guide))
            record = self.rng.randbytes(4)  # records need not be text
            args += (f"lead|{self.rng.choice(self.LEADS)}", self.rng.randint(1, 12), self.rng.randint(0, 9))
            args += (record, self.rng.randint(0, 1))
        return names, args

    def _journey(self):
        leads = self._some(self.LEADS)
        args = [600_000]
        for _ in leads:
            args += (self.rng.randint(1, 3), self.rng.randint(0, 9), self.rng.randbytes(4))
        return [keys.journey("b", "m1", "lead", lead) for lead in leads], args

    def _set_capacity(self):
        args = [500]
        for guide in self._some(self.GUIDES):
            # versions have more digits than a floating point number holds
            version = self.rng.choice((9, 10, 10**40, 10**40 + 1)) + self.rng.randint(0, 2)
            args += (guide, version, self.rng.randint(0, 3))
        cell = self.rng.choice(self.CELLS)
        places = (keys.capacity, keys.records, keys.changes, keys.open_attempts, keys.turns)
        return [key(cell) for key in places], args


def plain(call, answer):
    """An answer without the time of day, and the fields of hashes in their order."""
    if call.script == "leave":
        return [sorted(zip(fields[::2], fields[1::2], strict=True)) for fields in answer]
    if call.script == "meet":
        return [told.rpartition(b"|")[0] for told in answer]
    if call.script == "mark" and call.args[0] != "begin":
        return [bool(each) for each in answer]
    if call.script == "clock":
        return len(answer)
    return answer[1:] if call.script in {"fix_cells", "members"} else answer


async def contents(redis):
    """Everything in a real Redis, as the fake keeps it, and what of it is kept for how long."""
    data, kept_s = {}, {}
    for key in await redis.keys():
        name, kind = key.decode(), await redis.type(key)
        if kind == b"hash":
            data[name] = await redis.hgetall(key)
        elif kind == b"zset":
            data[name] = dict(await redis.zrange(key, 0, -1, withscores=True))
        elif kind == b"stream":
            data[name] = await redis.xrange(key)
        else:
            data[name] = await redis.get(key)
        if (left_ms := await redis.pttl(key)) >= 0:
            kept_s[name] = round(left_ms / 200_000)
    return data, kept_s


def without_ids(data):
    """Feeds are told apart by the time of day, changes by their place; needs stand until a time of day."""
    data = {
        key: {what: lead.rpartition(b"|")[0] for what, lead in held.items()} if "}:needs:" in key else held
        for key, held in data.items()
    }
    return {
        key: [fields for _, fields in held] if keys.follows_along(key) else held for key, held in data.items()
    }


async def take_marks(call, server, real):
    """Marks hold the time of day: the fake takes the real ones."""
    for key in call.keys[::2] if call.script == "mark" else ():
        server.db.data.get(key, {}).update(await real.redis.hgetall(key))


def fake_redis():
    loop = Loop()
    faults = Faults(0, lambda *_: None, harmless=True)
    server = fake.Server(loop, lambda: BEGIN_MS)
    process = Process("w")
    return loop, server, fake.Scripts(fake.Connection(server, faults, process), faults, process)


def told(ask, *args):
    """The answer, or the outage in words."""
    try:
        return ask(*args)
    except OutageError as outage:
        return str(outage)


@pytest.mark.parametrize("seed", range(12))
async def test_the_fake_scripts_do_what_the_real_ones_do(valkey, seed):
    real = Scripts(valkey.url, timeout_s=PATIENT_S)
    await real.redis.flushall()
    _, server, _ = fake_redis()
    cases = Cases(seed, server.db)
    for _ in range(200):
        call = cases.call(cases.rng.choice(FAKED))
        try:
            [answer] = await real.run([call])
        except OutageError as outage:
            answer = str(outage)
        copied = told(lambda call=call: checked([server.execute(call)])[0])
        assert plain(call, copied) == plain(call, answer), call
        await take_marks(call, server, real)
    kept_s = {key: round(kept_ms / 200_000) for key, kept_ms in server.db.kept_ms.items()}
    data, really_kept_s = await contents(real.redis)
    assert (without_ids(server.db.data), kept_s) == (without_ids(data), really_kept_s)
    await real.close()


async def test_the_cell_that_a_lead_left_does_nothing_more_with_it(valkey):
    """Too short a moment for the seeds: it has left, and is not yet at home in the other cell."""
    cell, lead = "b/-", ("lead|l1|m1",)
    names, key = [each(cell) for each in keys.OF_CELL], keys.lead(cell, "lead", "l1")
    head = (600_000, 500, "", f"1000 2000000 0123 30 20000 2 60 30 30 {EVER_MS}", *lead, "d1")
    about = "900 2 @hq near 5 1050 0 1070"
    wait = Call("claim", [*names, key], (*head, "", about, "lead|l1", "", "", ""))
    leave = Call("leave", [*names, key], (1_070, 500, *lead, "b/x", 0, ""))
    drain = (about, "response|t1", "0 * waiting>+:w", "", "")
    real, (_, server, _) = Scripts(valkey.url, timeout_s=PATIENT_S), fake_redis()
    await real.redis.flushall()
    for call, expected in (
        (wait, b"waiting"),
        (leave, None),
        (Call("claim", [*names, key], (*head, "g1|1|s1|0.5|near", *drain)), b"nothing"),
        (Call("leave", leave.keys, (1_070, 500, *lead, "b/y", 0, "")), None),
    ):
        for [answer] in (await real.run([call]), checked([server.execute(call)])):
            [told] = [answer[0][0]] if expected else [dict(zip(*[iter(answer[0])] * 2, strict=True))[b"to"]]
            assert told == (expected or b"b/x")
    data, _ = await contents(real.redis)
    assert keys.waiting(cell) not in {**data, **server.db.data}
    await real.close()


async def test_a_lead_that_is_merged_does_not_take_the_place_of_its_target(valkey):
    """The seeds cannot tell: it is closed at once, and who asks next becomes a lead of their own."""
    real, (_, server, _) = Scripts(valkey.url, timeout_s=PATIENT_S), fake_redis()
    await real.redis.flushall()
    for lead, target in (("l1", b""), ("l2", b"lead|l1"), ("l3", b"lead|l1"), ("l1", b"")):
        call = Call("meet", [keys.needs("b", "m1")], (600_000, "suits", f"lead|{lead}", 10**6, ""))
        for [told] in (await real.run([call]), checked([server.execute(call)])):
            assert plain(call, told) == [target]
    await real.close()


def test_every_script_has_its_fake_and_its_cases():
    """But for those that are named with a reason: they are scripts, and have no fake in truth."""
    assert sorted(scripts.SCRIPTS) == sorted(FAKED)
    assert all(hasattr(Cases, f"_{name}") for name in FAKED)
    assert set(WITHOUT_FAKE) <= set(SCRIPTS)
    assert not set(SCRIPTS) & set(GATEWAY_SCRIPTS)


async def test_what_the_arbiter_reads_directly_is_the_same(valkey):
    real = Scripts(valkey.url, timeout_s=PATIENT_S)
    await real.redis.flushall()
    loop, server, copied = fake_redis()
    cases = Cases(0, server.db)
    for script in ("set_capacity",) * 9 + ("mark",) * 9 + ("claim",) * 9 + ("touch", "window") * 9:
        call = cases.call(script)
        server.execute(call)
        with suppress(OutageError):  # a claim with another mark
            await real.run([call])
        await take_marks(call, server, real)

    def in_made_up_time(coroutine):
        answers = []

        async def keep():
            answers.append(await coroutine)

        loop.spawn(keep())
        loop.run_until(loop.now_s + 10)
        return answers[0]

    for ask in (
        lambda arbiter: arbiter.loads(Cases.CELLS),
        lambda arbiter: arbiter.loads([]),
        lambda arbiter: arbiter.waiters(Cases.CELLS, [0] * len(Cases.CELLS), 3),
        lambda arbiter: arbiter.waiters(Cases.CELLS, [3] * len(Cases.CELLS), 3),
        lambda arbiter: arbiter.records(Cases.CELLS),
        lambda arbiter: arbiter.held(Cases.CELLS[0], Cases.GUIDES),
        lambda arbiter: arbiter.due([keys.due(cell) for cell in Cases.CELLS], 10**9, 3),
        lambda arbiter: arbiter.members.contracts([("b", "m1"), ("b", "nobody")]),
        lambda arbiter: arbiter.members.contacts([("b", "m1"), ("b", "nobody")], 5),
        lambda arbiter: arbiter.members.waiting_windows("b", 3, 1),
        lambda arbiter: arbiter.known_identities("log"),
        lambda arbiter: arbiter.note_identities("log", {"a": 1, "b": 2}),
        lambda arbiter: arbiter.note_identities("log", {"c": 3}),
        lambda arbiter: arbiter.known_identities("log"),
    ):
        assert in_made_up_time(ask(Arbiter(copied))) == await ask(Arbiter(real))
    assert in_made_up_time(Arbiter(copied).now_ms()) == BEGIN_MS
    await real.close()
