"""``lead-router commission close``, ``pay``, ``dispute``, ``release``, ``adjust``; wrong arguments."""

from __future__ import annotations

import re
import time
from uuid import uuid4

import pytest
from click.testing import CliRunner

from router.cli import main
from router.local import EmbeddedRedis
from router.state import keys
from tests.commission_desk import Desk, copied, many_sales
from tests.ledger_world import DAY_MS, NEXT, PERIOD, RULES, sale
from tests.lifecycle_world import TOML, guide, policy, store
from tests.parts import RealRedis
from tests.world import World
from topics.bindings import Binding
from topics.catalog import BINDINGS, GUIDES, ORDERS, POLICIES, STORES


@pytest.fixture(scope="module")
def redis():
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture(scope="module")
def desk(embedded_kafka, redis):
    return Desk(embedded_kafka, redis, many_sales)


# --- wrong arguments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("show", "a/b"), "order 'a/b' is no id"),
        (("statement", "g2", "--period", "2026-13"), "period '2026-13' is no month"),
        (("statement", "g2", "--csv", "--json"), "--csv and --json"),
        (("prove", "--period", "September"), "period 'September' is no month"),
        (("close", "2026-9"), "period '2026-9' is no month"),
        (("close", PERIOD, "--actor", "a/b"), "actor: "),
        (("pay", "--period", PERIOD, "--to", "g2"), "to 'g2': is not ROLE:PARTY"),
        (("adjust", "--line", "earned:server:g2", "--reason", "x"), "is not ACCOUNT:ROLE:PARTY:FEN"),
        (("adjust", "--line", "earned:server:g2:1.5", "--reason", "x"), "fen is a whole number"),
        (("adjust", "--line", "earned:server:a/b:1", "--reason", "x"), "lines[0].party: "),
    ],
)
def test_what_is_wrong_with_an_argument_is_said_by_its_name(desk, options, what):
    assert what in desk.run(*options, status=2)


def test_a_book_without_postings_is_told_and_one_that_is_not_there_is_refused(desk):
    """Who only reads creates no topic."""
    prefix = f"c{uuid4().hex[:12]}."
    for options in (("show", "part"), ("statement", "g2"), ("prove", "--period", PERIOD), ("verify",)):
        said = desk.run(*options, prefix="nobody.", redis=False, status=2)
        assert "there is no topic nobody.leads: is LEAD_ROUTER_TOPIC_PREFIX right?" in said
    copied({}, desk.kafka.url, prefix)
    assert "no posting at all is there yet" in desk.run("show", "part", prefix=prefix, redis=False)
    assert "the book is empty" in desk.run("verify", prefix=prefix, redis=False)


def test_no_broker_is_named():
    run = CliRunner().invoke(main, ["commission", "show", "o"], env={"LEAD_ROUTER_KAFKA_URL": ""})
    assert (run.exit_code, "LEAD_ROUTER_KAFKA_URL is not set" in run.output) == (2, True)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("release", "settled"), "order settled of brand b is not disputed"),
        (("pay", "--period", NEXT), f"period: {NEXT} of brand b is not closed"),
        (("close", "2026-08"), "period: 2026-08 is before 2026-10"),
    ],
)
def test_what_the_book_would_refuse_is_not_sent(desk, options, what):
    assert what in desk.run(*options, status=1)


def test_a_period_that_was_closed_shows_its_seal(desk):
    assert re.search(rf"{PERIOD} of brand b was closed before: \d+ postings.*chain [0-9a-f]{{64}}",
                     desk.run("close", PERIOD))  # fmt: skip


def test_nobody_at_work_is_told_within_the_wait(desk):
    """A broker of its own topics: the command stays there."""
    prefix = desk.tampered(lambda value: value)
    said = desk.run("close", NEXT, "--wait", "1", prefix=prefix, status=75)
    assert f"no seal of {NEXT} within 1 s: is a worker running?" in said
    line_of = "earned:server:g2:5", "commission:group:group:-5"
    said = desk.run("adjust", "--line", line_of[0], "--line", line_of[1], "--reason", "x", "--wait", "1",
                    prefix=prefix, status=75)  # fmt: skip
    assert "is a worker running?" in said


# --- with a worker -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["embedded", pytest.param("real", marks=pytest.mark.real)])
def shop(request):
    """A worker with a book: one sale whose rights window is over, one that is fresh."""
    kafka = None if request.param == "embedded" else request.getfixturevalue("real_kafka")
    redis_type = RealRedis if kafka else EmbeddedRedis
    kafka = kafka or request.getfixturevalue("embedded_kafka")
    with redis_type() as redis, World(kafka.url, redis.url, f"w{uuid4().hex[:12]}.") as world:
        boss = guide("boss", capacity=0, role="manager")
        people = [guide(name, capacity=5) for name in ("g1", "g2")]
        rules = policy(toml=TOML + RULES)
        world.roster([(STORES, store(region="East")), *((GUIDES, each) for each in (*people, boss)),
                      (POLICIES, rules)])  # fmt: skip
        world.worker.start()
        now_ms = time.time_ns() // 1_000_000
        bound = Binding(command_id="bound", member_id="m", brand="b", occurred_at_ms=now_ms - 30 * DAY_MS,
                        kind="bind", guide_id="g1")  # fmt: skip
        world.publish(BINDINGS, bound)
        world.until(lambda: world.redis.exists(keys.member("b", "m")), "a binding")
        world.publish(ORDERS, sale("old", 1000, occurred_at_ms=now_ms - 10 * DAY_MS),
                      sale("new", 700, occurred_at_ms=now_ms))  # fmt: skip
        earned = ("b", "party", "g2")
        world.until(lambda: world.redis.hexists(keys.earnings(*earned), "earned|server"), "earned")
        yield world


def asked(world, *options, status=0):
    run = CliRunner().invoke(
        main,
        ["commission", *options, *([] if "verify" in options else ["--brand", "b"])],
        env=world.environment,
    )
    assert run.exit_code == status, run.output + repr(run.exception) + world.said()
    return run.output


def test_a_period_is_closed_paid_corrected_and_proved_from_the_command_line(shop):
    now = time.gmtime(time.time() + 8 * 3600)
    period, after = f"{now.tm_year}-{now.tm_mon:02}", f"{now.tm_year + 1}-01"
    assert "has not begun" in asked(shop, "close", after, status=1)
    said = asked(shop, "close", period)
    assert f"{period} of brand b is closed: " in said
    assert "was closed before" in asked(shop, "close", period)
    asked(shop, "pay", "--period", period, "--to", "server:g2")
    shop.until(lambda: shop.redis.hget(keys.earnings("b", "party", "g2"), "paid|server") == b"500", "paid")
    lines = ("--line", "earned:server:g2:9000", "--line", "commission:group:group:-9000")
    assert "checker" in asked(shop, "adjust", *lines, "--reason", "bonus", status=1)
    said = asked(shop, "adjust", *lines, "--reason", "bonus", "--checker", "zoe", "--order", "old")
    assert "posted to " in said
    assert "checked by zoe, because bonus" in asked(shop, "show", "old")
    assert "frozen when it comes" in asked(shop, "dispute", "to-come", "--reason", "whose?")
    asked(shop, "dispute", "new", "--reason", "whose?")
    assert "disputed by" in asked(shop, "show", "new")
    asked(shop, "release", "new", "--reason", "settled among us")
    assert "disputed by" not in asked(shop, "show", "new")
    assert "prove: ok" in asked(shop, "prove", "--period", period)
    assert "verify: ok" in asked(shop, "verify")
