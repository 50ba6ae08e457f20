"""``lead-router journey``: the steps of a lead, as the projector has kept them."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from router.cli import main
from router.journey import lasted, told
from router.local import EmbeddedRedis
from router.state import keys
from router.state.arbiter import Arbiter
from router.state.redis import Scripts
from tests.parts import PATIENT_S
from topics.assignments import Assignment, Cause
from topics.codec import encode

T0 = 1_790_000_000_000


def step(seq, state, at_ms, cause, **fields):
    common = {"brand": "b", "lead_id": "l", "kind": "lead", "attempt": 1, "member_id": "m"}
    common |= {"policy_version": 0, "cause": Cause(kind=cause[0], id=cause[1])}
    return Assignment(seq=seq, state=state, at_ms=at_ms, **common, **fields)


WHO = {"guide_id": "g1", "store_id": "s1"}
STEPS = [
    step(1, "waiting", T0, ("lead", "l"), queue="here", respond_by_ms=T0 + 3_600_000),
    step(2, "offered", T0 + 125_000, ("response", "d.1"), respond_by_ms=T0 + 425_000, **WHO),
    step(3, "declined", T0 + 126_500, ("response", "r1"), reason="ill\x1b[2J\n", **WHO),
]


@pytest.fixture(scope="module")
def server():
    """A Redis that holds the journey, its records kept in any order, and the outcome of a response."""

    async def keep(url):
        scripts = Scripts(url, timeout_s=PATIENT_S)
        try:
            arbiter = Arbiter(scripts)
            for one in reversed(STEPS):
                await arbiter.keep_journeys([("b", "m", "lead", "l", one.seq, one.seq, encode(one))])
            await scripts.redis.hset(keys.journey("b", "m", "lead", "l"), f"{keys.RESPONSE}r1", b"{}")
        finally:
            await scripts.close()

    with EmbeddedRedis() as redis:
        asyncio.run(keep(redis.url))
        yield redis


def shown(server, *options):
    environment = {"LEAD_ROUTER_REDIS_URL": server.url}
    return CliRunner().invoke(main, ["journey", *options, "--brand", "b"], env=environment)


def test_each_step_says_when_with_whom_until_when_and_by_what(server):
    run = shown(server, "l", "--member", "m")
    assert run.exit_code == 0, run.output
    first, second, third = run.output.splitlines()
    for part in ("  1  ", "waiting", "in here", "until", "by lead l"):
        assert part in first
    for part in ("  2  ", "+2m05s", "offered", "g1 at s1", "until", "by response d.1"):
        assert part in second
    for part in ("+1.500s", "declined", "because ill"):
        assert part in third
    assert third.isprintable()


def test_as_json_the_records_are_those_of_the_log(server):
    run = shown(server, "l", "--member", "m", "--json")
    assert [orjson.loads(line) for line in run.output.splitlines()] == [
        orjson.loads(encode(one)) for one in STEPS
    ]


@pytest.mark.parametrize(
    "options",
    [("x", "--member", "m"), ("l", "--member", "x"), ("l", "--member", "m", "--kind", "list")],
)
def test_a_lead_that_nobody_knows_is_told_in_a_sentence(server, options):
    run = shown(server, *options)
    assert (run.exit_code, run.output.count("\n")) == (0, 1)
    assert "is known" in run.output
    assert shown(server, *options, "--json").output == ""


@pytest.mark.parametrize("options", [("a:b", "--member", "m"), ("l", "--member", "{m}")])
def test_what_is_no_id_reaches_no_key(server, options):
    run = shown(server, *options)
    assert run.exit_code == 2
    assert "is no id" in run.output


def test_of_no_steps_nothing_is_told():
    assert told([]) == []


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0.000s"), (59_999, "59.999s"), (60_000, "1m00s"), (3_661_000, "1h01m"), (90_061_000, "1d01h"),
     (-1_500, "-1.500s")],
)  # fmt: skip
def test_how_long_something_took_is_told_in_its_two_largest_units(ms, text):
    assert lasted(ms) == text


@given(st.integers(0, 10**12))
def test_how_long_something_took_is_never_told_longer_than_it_was(ms):
    units = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000}
    text, total = lasted(ms), 0.0
    for unit, size in units.items():
        head, found, rest = text.partition(unit)
        if found:
            total, text = total + float(head) * size, rest
    assert total <= ms + 0.5
    assert ms - total < 3_600_000
