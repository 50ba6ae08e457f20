"""Lists of customers: what is read of a file, what is told of its rows, and what a worker makes of one."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import ConfigError
from router.lists.answers import Collected
from router.lists.results import COLUMNS as RESULT_COLUMNS
from router.lists.results import Result, counts, results, write
from router.lists.rows import COLUMNS, lead_id_of, list_id_of, read_list
from router.local import EmbeddedRedis
from router.rules.intake import read
from tests.parts import RealRedis
from tests.world import World
from topics.assignments import FINAL_STATES, LIVE_STATES, Assignment, Cause
from topics.catalog import GUIDES, LEADS, STORES
from topics.codec import encode
from topics.guides import Guide
from topics.leads import Lead
from topics.stores import Store

NOW_MS = 1_790_000_000_000
MEMBERS = st.text("abcdefgh_.@-0123456789", min_size=1, max_size=64)


@pytest.fixture
def listed(tmp_path):
    """Write a list and read it."""

    def listed(text, list_id="autumn", encoding="utf-8", name="list.csv"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return read_list(path, "b", list_id, NOW_MS)

    return listed


# --- reading -----------------------------------------------------------------------------------------------


def test_a_row_is_a_lead_with_everything_that_it_says(listed):
    """Columns in any order, cells with spaces, a mark before them all, blank lines and other columns."""
    found = listed(
        "member_id , name,needs,lat,lon,tier,value_fen,price_zone,sku,store_id,lead_id\n"
        "m1,小王,suits ; hats;,31.2,121.5,vip,9900,full,x 1,s1,l1\n\n,,,,,,,,,,\nm2,,,,,,,,,,\n",
        encoding="utf-8-sig",
    )
    assert found.unused == ("name",)
    first = Lead(
        lead_id="l1", member_id="m1", brand="b", occurred_at_ms=NOW_MS, needs=("suits", "hats"), lat=31.2,
        lon=121.5, tier="vip", value_fen=9900, price_zone="full", sku="x 1", store_id="s1", list_id="autumn",
    )  # fmt: skip
    second = lead_id_of("autumn", "m2")
    common = {"member_id": "m2", "brand": "b", "occurred_at_ms": NOW_MS, "list_id": "autumn"}
    assert found.good == [first, Lead(lead_id=second, **common)]
    assert [row.line for row in found.rows] == [2, 5]


@pytest.mark.parametrize(
    ("cells", "column", "what"),
    [
        ({"member_id": "", "tier": "vip"}, "member_id", "empty"),
        ({"member_id": "小王"}, "member_id", "matching regex"),
        ({"lead_id": "x" * 65}, "lead_id", "matching regex"),
        ({"lat": "91", "lon": "0"}, "lat", "<= 90"),
        ({"lat": "nan", "lon": "0"}, "lat", "float"),
        ({"lat": "1"}, "lat", "both or neither"),
        ({"tier": "gold"}, "tier", "gold"),
        ({"value_fen": "12.5"}, "value_fen", "int"),
        ({"value_fen": "true"}, "value_fen", "int"),
        ({"value_fen": "-1"}, "value_fen", ">= 0"),
        ({"price_zone": "half"}, "price_zone", "half"),
        ({"needs": "x" * 65}, "needs", "length <= 64"),
        ({"needs": ";".join(map(str, range(17)))}, "needs", "length <= 16"),
        ({"store_id": "a/b"}, "store_id", "a/b"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_column(listed, cells, column, what):
    """It is part of the list, and the row before it is good."""
    bad = {"member_id": "m2", **cells}
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows([{"member_id": "m1"}, bad])
    found = listed(text.getvalue())
    assert [row.line for row in found.bad] == [3]
    assert [lead.member_id for lead in found.good] == ["m1"]
    assert column in found.bad[0].reason
    assert what in found.bad[0].reason


def test_the_same_lead_twice_and_a_row_that_is_too_long_are_bad(listed):
    found = listed("member_id,lead_id\nm1,\nm1,\nm1,other\nm2,other\nm3,x,y\n")
    assert [row.line for row in found.bad] == [3, 5, 6]
    assert ["line 2 already" in found.bad[0].reason, "line 4 already" in found.bad[1].reason] == [True, True]
    assert "more cells" in found.bad[2].reason


@pytest.mark.parametrize(
    ("text", "encoding", "what"),
    [
        ("", "utf-8", "member_id is missing"),
        ("member\nm1\n", "utf-8", "member_id is missing"),
        ("member_id,tier,tier\nm1,vip,new\n", "utf-8", "tier stands there twice"),
        ("member_id\n", "utf-8", "names no customer"),
        ("member_id,name\nm1,小王\n", "gb18030", "UTF-8"),
    ],
)
def test_a_file_that_is_no_list_is_refused_whole(listed, text, encoding, what):
    with pytest.raises(ConfigError, match=what):
        listed(text, encoding=encoding)


def test_an_id_that_is_none_is_refused(listed):
    with pytest.raises(ConfigError, match="list id 'a/b'"):
        listed("member_id\nm1\n", list_id="a/b")


@given(st.text(max_size=80), st.binary(max_size=99), st.binary(max_size=99))
def test_the_same_file_is_the_same_list_and_another_is_another(stem, content, other):
    """Whatever the file is called, its list has a valid id that hangs on the content."""
    name = f"{stem.replace('/', '')}.csv"
    assert list_id_of(name, content) == list_id_of(name, content)
    assert (list_id_of(name, content) == list_id_of(name, other)) == (content == other)
    encode(Lead(lead_id="l", member_id="m", brand="b", occurred_at_ms=1, list_id=list_id_of(name, content)))


@given(MEMBERS, MEMBERS, MEMBERS)
def test_a_rows_id_hangs_on_the_list_and_the_member(one, other, list_id):
    assert (lead_id_of(list_id, one) == lead_id_of(list_id, other)) == (one == other)
    assert (lead_id_of(one, "m") == lead_id_of(other, "m")) == (one == other)


def test_a_row_sent_again_later_says_the_same_and_a_lead_does_not():
    """A list is dated by its sending, so that its time is no content of its rows."""

    class Record:
        def __init__(self, event):
            self.value, self.timestamp = encode(event), event.occurred_at_ms

    def digests(**fields):
        times = (NOW_MS, NOW_MS + 1)
        events = [Lead(lead_id="l", member_id="m", brand="b", occurred_at_ms=at, **fields) for at in times]
        return {request.digest for request in read(LEADS, [Record(event) for event in events])[0]}

    assert len(digests(list_id="autumn")) == 1
    assert len(digests()) == 2


# --- results -----------------------------------------------------------------------------------------------


def made(lead_id="l", state="offered", seq=1, **fields):
    who = {"guide_id": "g", "store_id": "s"} if state not in {"waiting", "closed", "withdrawn"} else {}
    where = {"queue": "here"} if state == "waiting" else {}
    common = {"brand": "b", "kind": "list", "attempt": 1, "at_ms": 1, "member_id": "m", "policy_version": 0}
    cause = Cause(kind="list", id=lead_id)
    return encode(
        Assignment(lead_id=lead_id, state=state, seq=seq, cause=cause, **{**common, **who, **where, **fields})
    )


STATES = {
    **dict.fromkeys(LIVE_STATES, "assigned"),
    **dict.fromkeys(FINAL_STATES, "closed"),
    "waiting": "waiting",
}


@pytest.mark.parametrize(("state", "outcome"), STATES.items())
def test_every_state_that_lasts_is_an_outcome(state, outcome):
    collected = Collected("b", "autumn", ["l"])
    collected.assignment(made(state=state))
    assert collected.complete
    assert collected.results["l"].outcome == outcome


@pytest.mark.parametrize("state", ["declined", "expired", "returned"])
def test_a_state_of_a_moment_is_no_answer(state):
    collected = Collected("b", "autumn", ["l"])
    collected.assignment(made(state=state))
    assert not collected.complete


def test_what_is_about_others_is_not_counted():
    """Another brand, another kind, another lead, what is no assignment."""
    collected = Collected("b", "autumn", ["l"])
    for value in (made(brand="c"), made(kind="lead"), made("other"), b'{"list"', None):
        collected.assignment(value)
    lead = Lead(lead_id="l", member_id="m", brand="b", occurred_at_ms=1, list_id="spring")
    collected.dead_letter(encode(lead), {"topic": "leads", "reason": "conflict"})
    collected.dead_letter(b"{", {"topic": "leads", "reason": "not_json"})
    collected.dead_letter(b"{", {"topic": "touches"})
    assert collected.results == {}


@given(st.permutations([(1, "waiting"), (2, "offered"), (3, "accepted"), (3, "accepted")]))
def test_the_highest_seq_is_the_result_in_any_order(steps):
    collected = Collected("b", "autumn", ["l"])
    for seq, state in steps:
        collected.assignment(made(seq=seq, state=state, score=seq / 2))
    assert collected.results["l"] == Result("assigned", "g", "s", score=1.5)


def test_a_row_that_was_set_aside_is_refused_whatever_its_id_is_told():
    collected = Collected("b", "autumn", ["l"])
    lead = Lead(lead_id="l", member_id="m", brand="b", occurred_at_ms=1, list_id="autumn")
    collected.assignment(made())
    collected.dead_letter(encode(lead), {"topic": "leads", "reason": "conflict", "detail": "other content"})
    collected.assignment(made(seq=2))
    assert collected.results["l"] == Result("refused", reason="conflict: other content")


def test_a_merged_row_says_into_which_lead():
    collected = Collected("b", "autumn", ["l"])
    collected.assignment(made(state="closed", reason="merged", merged_into="first"))
    assert collected.results["l"].outcome == "closed"
    assert "first" in collected.results["l"].reason


def test_the_result_file_has_every_row_in_order(listed, tmp_path):
    rows = listed("member_id,tier\nm1,\nm2,gold\nm3,\n").rows
    told = {rows[0].lead_id: Result("assigned", "g", "s", score=0.5)}
    found = results(rows, told, "too late")
    assert counts(made for _, made in found) == {
        "assigned": 1, "waiting": 0, "closed": 0, "refused": 1, "unanswered": 1,
    }  # fmt: skip
    write(tmp_path / "out.csv", found)
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == list(RESULT_COLUMNS)
    assert [(line["line"], line["outcome"]) for line in lines] == [
        ("2", "assigned"), ("3", "refused"), ("4", "unanswered"),
    ]  # fmt: skip
    assert (lines[0]["guide_id"], lines[0]["score"], lines[2]["reason"]) == ("g", "0.5", "too late")
    assert "tier" in lines[1]["reason"]


# --- from end to end ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["embedded", pytest.param("real", marks=pytest.mark.real)])
def world(request):
    """A worker, and a shop with room for 30 leads; each test has members of its own."""
    kafka = None if request.param == "embedded" else request.getfixturevalue("real_kafka")
    redis_type = RealRedis if kafka else EmbeddedRedis
    kafka = kafka or request.getfixturevalue("embedded_kafka")
    with redis_type() as redis, World(kafka.url, redis.url, f"l{uuid4().hex[:12]}.") as world:
        common = {"brand": "b", "version": 1, "active": True}
        shop = Store(store_id="s1", lat=31.2, lon=121.5, kind="full_price", **common)
        world.roster(
            [(STORES, shop), (GUIDES, Guide(guide_id="g1", store_id="s1", capacity=30, **common))],
        )
        world.worker.start()
        world.until(lambda: world.metrics()["guides",] == 1, "a roster")
        yield world


@contextmanager
def assigning(world, path, *options):
    """``lead-router assign`` on the list, in a process of its own."""
    command = [sys.executable, "-m", "router", "assign", str(path), "--brand", "b", *options]
    environment = {**os.environ, **world.environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def assigned(world, path, *options, status=0):
    """What the command says, and its result file."""
    with assigning(world, path, *options) as process:
        said, errors = process.communicate(timeout=60)
        assert process.returncode == status, said + errors
    return said, errors, told(path)


def told(path):
    with path.with_suffix(".result.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_list_is_given_out_once_however_often_it_is_sent(world, tmp_path):
    """Every row has its answer, as the log has it; the same file from elsewhere changes nothing."""
    path = tmp_path / "autumn.csv"
    rows = "".join(f"a{n},31.2,121.5,new,{'coat' * (n % 2)}\n" for n in range(12))
    path.write_text("member_id,lat,lon,tier,sku\n" + rows)
    said, errors, rows = assigned(world, path, "--rate", "5000")
    names = [row["lead_id"] for row in rows]
    world.answer("b", *names, kind="list")
    world.settle()
    ours = {name: world.answers("b")["list", name] for name in names}
    assert "assigned 12" in said
    assert "sent 12 of 12" in errors
    for row, records in zip(rows, ours.values(), strict=True):
        assert [record["state"] for record in records] == ["offered"]
        assert (row["outcome"], row["guide_id"], row["store_id"]) == ("assigned", "g1", "s1")
        assert float(row["score"]) == records[0]["score"]

    copy = tmp_path / "elsewhere" / "autumn.csv"
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    assert assigned(world, copy)[2] == rows
    world.until(lambda: all(len(world.answers("b")["list", name]) > 1 for name in names), "repeated")
    world.settle()
    for lead_id, records in ours.items():
        again = world.answers("b")["list", lead_id]
        assert {record["seq"] for record in again} == {1}
        assert {record["turn"]["start"] for record in again} == {records[0]["turn"]["start"]}
    assert world.report().ok


def test_nothing_is_sent_while_a_row_is_bad_unless_it_may_be_left_out(world, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("member_id,lat,lon\nb1,31.2,121.5\nb2,99,121.5\nb3,31.2,121.5\n")
    _, errors, rows = assigned(world, path, status=1)
    assert [row["outcome"] for row in rows] == ["unanswered", "refused", "unanswered"]
    assert "line 3: column lat: '99'" in errors
    assert assigned(world, path, "--skip-bad", status=1)[2][1] == rows[1]
    assert [row["outcome"] for row in told(path)] == ["assigned", "refused", "assigned"]

    def sent():
        members = [event["member_id"] for event in world.events(LEADS, "b")]
        return {name for name in members if name.startswith("b")}

    world.until(lambda: sent() >= {"b1", "b3"}, "read as sent")
    world.settle()
    assert sent() == {"b1", "b3"}


def test_other_content_for_an_id_that_is_known_is_refused(world, tmp_path):
    """The row says so at once, and nothing is given anew."""
    path = tmp_path / "known.csv"
    path.write_text("member_id,lead_id,store_id,tier\nk1,k-lead,s1,vip\n")
    assigned(world, path, "--list-id", "known")
    path.write_text("member_id,lead_id,store_id,tier\nk1,k-lead,s1,new\n")
    [row] = assigned(world, path, "--list-id", "known", status=1)[2]
    assert row["outcome"] == "refused"
    assert row["reason"].startswith("conflict")
    assert len(world.answers("b")["list", "k-lead"]) <= 1


def test_what_was_interrupted_is_picked_up_by_the_next_run(world, tmp_path):
    """Ctrl-C leaves a result file; the same command again brings every row to its answer, once."""
    path = tmp_path / "long.csv"
    path.write_text("member_id,store_id\n" + "".join(f"i{n},s1\n" for n in range(8)))
    with assigning(world, path, "--rate", "1") as process:
        mine = {row.lead_id for row in read_list(path, "b", None, 1).rows}

        def answered():
            return {name for _, name in world.answers("b")} & mine

        world.until(answered, "a first answer")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 130
    assert "run it again" in told(path)[-1]["reason"]
    _, _, rows = assigned(world, path, "--rate", "5000")
    assert [row["outcome"] for row in rows] == ["assigned"] * 8
    world.answer("b", *mine, kind="list")
    world.settle()
    assert world.report().ok


def test_a_dry_run_says_what_would_be_sent_and_does_nothing(tmp_path):
    """It needs no broker, and tells by its status whether every row is good."""
    path = tmp_path / "dry.csv"
    environment = {**os.environ, "LEAD_ROUTER_KAFKA_URL": ""}
    for text, status, said in (
        ("member_id,tier\nm1,vip\nm2,\n", 0, "2 of 2 rows can be sent as list dry-"),
        ("member_id,tier\nm1,vip\nm2,gold\n", 1, "1 of 2 rows can be sent as list dry-"),
    ):
        path.write_text(text)
        command = [sys.executable, "-m", "router", "assign", str(path), "--dry-run"]
        done = subprocess.run(
            command, env=environment, capture_output=True, check=False, text=True, timeout=30
        )
        assert (done.returncode, done.stdout.startswith(said)) == (status, True), done.stdout + done.stderr
        assert list(tmp_path.iterdir()) == [path]
