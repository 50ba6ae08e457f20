"""The gateway over HTTP: who may do what, streams that resume, answers that count once."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, suppress
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.local import EmbeddedKafka, EmbeddedRedis
from router.state import keys
from router.web import answers, gateway, sending, streaming
from router.web.admission import BURST, RATE_PER_S, SECURITY_HEADERS, Allowance
from router.web.routes import ROUTES
from tests.gateway_world import BRAND, SECRET, asked, beside, made, running, token
from tests.parts import free_ports
from topics.codec import MESSAGE_BYTES_MAX, partition_of


@pytest.fixture(scope="module")
def redis():
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
async def scene(embedded_kafka, redis, prefix):
    async with running(embedded_kafka.url, redis.url, prefix) as scene:
        await scene.redis.flushall()
        await scene.whole()
        yield scene


@pytest.fixture
def impatient(monkeypatch):
    """Nobody waits as long as a guide would."""
    monkeypatch.setattr(answers, "OUTCOME_S", 0.1)
    monkeypatch.setattr(sending, "CONFIRM_S", 0.5)


def said(action="accepted", response_id="r1", lead_id="l", **more):
    return {"response_id": response_id, "lead_id": lead_id, "kind": "lead", "action": action, **more}


# --- who may call what -------------------------------------------------------------------------------------

#: For every route the status that each kind of caller gets; "foreign" asks about somebody else's lead.
MATRIX = {
    ("GET", "/"): {"nobody": 200, "forged": 200, "expired": 200, "own": 200, "foreign": 200},
    ("GET", "/app.js"): {"nobody": 200, "forged": 200, "expired": 200, "own": 200, "foreign": 200},
    ("GET", "/style.css"): {"nobody": 200, "forged": 200, "expired": 200, "own": 200, "foreign": 200},
    ("POST", "/v1/session"): {"nobody": 401, "forged": 401, "expired": 401, "own": 200, "foreign": 200},
    ("GET", "/v1/session"): {"nobody": 401, "forged": 401, "expired": 401, "own": 200, "foreign": 200},
    ("GET", "/v1/inbox/stream"): {"nobody": 401, "forged": 401, "expired": 401, "own": 200, "foreign": 200},
    ("GET", "/v1/pool"): {"nobody": 401, "forged": 401, "expired": 401, "own": 200, "foreign": 200},
    ("POST", "/v1/responses"): {"nobody": 401, "forged": 401, "expired": 401, "own": 200, "foreign": 404},
}
TOKENS = {
    "nobody": lambda: "",
    "forged": lambda: token(secret="another-secret-that-is-long-enough"),
    "expired": lambda: token(since_s=-700),
    "own": lambda: token("g"),
    "foreign": lambda: token("h"),
}
BODIES = {"/v1/session": lambda key: {"token": key}, "/v1/responses": lambda _: said()}


def test_t01_every_route_stands_in_the_matrix():
    assert {(route.method, route.path) for route in ROUTES} == set(MATRIX)
    for route in ROUTES:
        assert (MATRIX[route.method, route.path]["nobody"] == 200) == (
            route.who == "anybody" and route.path != "/v1/session"
        )


async def test_t01_every_caller_gets_what_the_matrix_says_and_nothing_of_others(scene):
    await scene.project(made("l", member_id="m-canary"))
    async with beside(scene.answer_all()):
        for (method, path), expected in MATRIX.items():
            for caller, status in expected.items():
                key = TOKENS[caller]()
                headers = {"X-Lead-Router": "1"} | ({"Authorization": f"Bearer {key}"} if key else {})
                body = BODIES[path](key) if path in BODIES else None
                async with scene.http.request(
                    method, scene.base + path, json=body, headers=headers, cookies={}
                ) as answer:
                    where = (method, path, caller)
                    assert answer.status == status, where
                    # a stream goes on: what comes first is the snapshot
                    text = await (answer.content.readuntil(b"\n\n") if "stream" in path else answer.read())
                    assert (b"m-canary" in text) == ("stream" in path and caller == "own"), where
                    for name, value in SECURITY_HEADERS.items():
                        assert answer.headers[name] == value, where
                scene.http.cookie_jar.clear()


async def test_t01_there_are_no_other_routes(scene):
    for path in (
        "/metrics",
        "/health",
        "/v1/inbox/stream/h",
        "/v1/inbox",
        "/page/index.html",
        "/../pyproject.toml",
    ):
        async with scene.http.get(scene.base + path, headers=asked()) as answer:
            assert answer.status == 404, path
    async with scene.http.delete(f"{scene.base}/v1/session", headers=asked()) as answer:
        assert (answer.status, await answer.json()) == (405, {"error": "method not allowed"})


async def test_t01_who_speaks_stands_in_the_token_alone(scene):
    await scene.project(made("l", guide_id="g"))
    await scene.project(made("x", guide_id="h"))
    stolen = said(guide_id="h", brand="other", member_id="m-other")
    async with beside(scene.answer_all()):
        assert (await scene.post(stolen))[0] == 200
        assert await scene.post(said(lead_id="x", guide_id="h")) == (404, {"error": "no such lead"})
        for place in ("?guide=h", "?guide_id=h&brand=b"):
            async with scene.stream("g", query=place) as stream:
                assert [card["lead_id"] for card in (await stream.next()).data["cards"]] == ["l"]
    [(_, record)] = scene.heard
    assert (record.guide_id, record.brand, record.member_id) == ("g", BRAND, "m-l")


# --- the session and other sites ---------------------------------------------------------------------------


async def test_t04_the_session_is_a_cookie_that_no_script_reads(scene):
    async with scene.http.post(
        f"{scene.base}/v1/session", json={"token": token(life_s=300)}, headers={"X-Lead-Router": "1"}
    ) as answer:
        assert (await answer.json())["guide_id"] == "g"
        cookie = answer.cookies["lead-router"]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
    assert 290 < int(cookie["max-age"]) <= 300
    async with scene.http.get(f"{scene.base}/v1/session") as answer:
        assert (await answer.json())["guide_id"] == "g"
    async with scene.http.post(
        f"{scene.base}/v1/session",
        json={"token": token()},
        headers={"X-Lead-Router": "1", "Host": "inbox.example.com"},
    ) as answer:
        cookie = answer.cookies["__Host-lead-router"]
        assert (cookie["secure"], cookie["domain"]) == (True, "")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"Sec-Fetch-Site": "same-origin"}, 400),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),  # another port is another site
        ({"X-Lead-Router": ""}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
async def test_t05_a_change_comes_from_our_own_page_or_a_tool(scene, headers, status):
    async with scene.http.post(
        f"{scene.base}/v1/responses",
        data=b"{}",
        headers=asked() | {"Content-Type": "application/json"} | headers,
    ) as answer:
        assert answer.status == status
    origin = headers.get("Origin") or headers.get("Sec-Fetch-Site", "same-origin") != "same-origin"
    async with scene.http.get(f"{scene.base}/v1/inbox/stream", headers=asked() | headers) as answer:
        assert answer.status == (403 if origin else 200)


async def test_t05_our_own_origin_is_let_in(scene):
    async with (
        scene.stream() as _,
        scene.http.post(
            f"{scene.base}/v1/responses", json={}, headers=asked() | {"Origin": scene.base}
        ) as answer,
    ):
        assert answer.status == 400


# --- limits ------------------------------------------------------------------------------------------------


async def test_t12_f48_a_body_has_a_size_and_a_shape(scene):
    await scene.project(made("l"))
    for body, status in (
        (b"x" * (MESSAGE_BYTES_MAX + 1), 413),
        (b"[" * 60_000, 400),
        (b"{}", 400),
        (b'{"response_id":"r","response_id":"s"}', 400),
        (b"\xff", 400),
    ):
        async with scene.http.post(
            f"{scene.base}/v1/responses", data=body, headers=asked() | {"Content-Type": "application/json"}
        ) as answer:
            assert answer.status == status
    for wrong in (
        said("delivered"),
        said("expired"),
        said(lead_id="{x}"),
        said(attempt=-1),
        said(reason="x" * 201),
    ):
        assert (await scene.post(wrong))[0] == 400


async def test_t12_a_guide_in_a_hurry_waits_and_others_do_not(scene):
    statuses = [(await scene.post({}))[0] for _ in range(int(BURST) + 5)]
    assert statuses.count(400) in range(int(BURST), int(BURST) + 4)
    assert statuses[-1] == 429
    assert (await scene.post({}, "h"))[0] == 400


@given(st.lists(st.floats(0, 30), max_size=80))
def test_t12_no_more_is_allowed_than_a_burst_and_the_rate(gaps):
    allowance, now_s, allowed = Allowance(), 0.0, 0
    for gap in gaps:
        now_s += gap
        allowed += allowance.take(("b", "g"), now_s)
    assert allowed <= BURST + RATE_PER_S * now_s
    assert allowed >= min(len(gaps), BURST)


async def test_t12_a_connection_that_never_sends_a_request_is_closed(
    embedded_kafka, redis, prefix, monkeypatch
):
    monkeypatch.setattr(gateway, "IDLE_S", 0.2)
    async with running(embedded_kafka.url, redis.url, prefix) as scene:
        where = urlsplit(scene.base)
        for start in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n"):
            reader, writer = await asyncio.open_connection(where.hostname, where.port)
            writer.write(start)
            async with asyncio.timeout(5):
                assert await reader.read() == b""
            writer.close()


async def test_t03_metrics_and_health_have_a_listener_of_their_own_on_loopback(scene):
    assert urlsplit(scene.inside).hostname == urlsplit(scene.base).hostname == "127.0.0.1"
    async with scene.stream() as stream:
        await stream.next()
        assert (await scene.metrics())["leadrouter_push_connections"] == 1
        async with scene.http.get(f"{scene.inside}/health") as answer:
            assert set(await answer.json()) == {"redis", "kafka"}
        await scene.project(made("l"))
        await stream.next()
    found = await scene.metrics()
    assert found['leadrouter_push_seconds_count{channel="sse"}'] == 1
    assert not [name for name in found if "guide" in name or "brand" in name]


# --- the stream --------------------------------------------------------------------------------------------


async def test_f57_a_dropped_stream_resumes_over_http(scene):
    async with scene.stream() as stream:
        first = await stream.next()
        assert (first.name, first.data) == ("snapshot", {"cards": []})
        await scene.project(made("a"))
        second = await stream.next()
        assert (second.name, second.data["lead_id"]) == ("card", "a")
    await scene.project(made("b"), made("a", 2, "expired"))
    async with scene.stream(after=second.position, query="?lang=en") as stream:
        card, gone = await stream.next(), await stream.next()
        assert (card.name, card.data["action"]["text"].split()[0]) == ("card", "Contact")
        assert (gone.name, gone.data) == (
            "gone",
            {"lead_id": "a", "kind": "lead", "seq": 2, "state": "expired"},
        )
    # the page's own way, which can send no header
    async with scene.stream(query=f"?after={second.position}") as stream:
        assert (await stream.next()).position == card.position
    async with scene.stream(after="5-5") as stream:
        assert [(await stream.next()).name for _ in range(2)] == ["reload", "snapshot"]


async def test_t04_the_stream_ends_with_its_token(scene):
    async with scene.stream(life_s=1) as stream:
        events = [await stream.next() for _ in range(3)]
    assert [event and event.name for event in events] == ["snapshot", "bye", None]
    assert events[1].data == {"reason": "expired"}
    async with scene.http.get(f"{scene.base}/v1/session", headers=asked(since_s=-20, life_s=10)) as answer:
        assert answer.status == 401


async def test_a_quiet_stream_has_a_heartbeat(scene, monkeypatch):
    monkeypatch.setattr(streaming, "HEARTBEAT_S", 0.05)
    async with scene.stream() as stream:
        await stream.next()
        assert await stream.response.content.readuntil(b"\n\n") == b": .\n\n"


async def test_f57_what_does_not_end_when_the_gateway_stops_is_cancelled_again(monkeypatch):
    monkeypatch.setattr(gateway, "_STOP_S", 0.01)

    async def stubborn():
        for _ in range(3):
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await gateway._ended([task])
    assert task.done()


async def test_f59_a_reader_who_does_not_read_is_hung_up_on(scene, monkeypatch):
    monkeypatch.setattr(streaming, "SLOW_S", 0.3)
    where = urlsplit(scene.base)
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect((where.hostname, where.port))
        request = f"GET /v1/inbox/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token()}\r\n\r\n"
        reader.sendall(request.encode())
        batch = 0
        while not (await scene.metrics()).get('leadrouter_push_ended_total{reason="slow"}'):
            batch += 1  # the test's own time limit ends this
            await scene.project(*[made(f"l{batch}-{number}") for number in range(100)])
    found = await scene.metrics()
    assert found["leadrouter_push_connections"] == 0


async def test_told_to_stop_the_gateway_says_goodbye(embedded_kafka, redis, prefix):
    async with AsyncExitStack() as stack, running(embedded_kafka.url, redis.url, prefix) as scene:
        stream = await stack.enter_async_context(scene.stream("leaving"))
        await stream.next()
        ending = asyncio.create_task(stream.next())
        await asyncio.sleep(0)
        scene.stop.set()
        assert (await ending).data == {"reason": "restart"}


async def test_f21_without_redis_there_is_no_answer_rather_than_an_empty_inbox(embedded_kafka, prefix):
    with EmbeddedRedis() as redis:
        async with running(embedded_kafka.url, redis.url, prefix) as scene:
            await scene.project(made("l"))
            await scene.redis.flushall()
            for _ in range(2):
                async with scene.http.get(f"{scene.base}/v1/inbox/stream", headers=asked()) as answer:
                    assert (answer.status, "Retry-After" in answer.headers) == (503, True)
                assert await scene.post(said()) == (503, {"outcome": "unknown", "retry": "same id"})
                redis.kill()
            async with scene.http.get(f"{scene.inside}/health") as answer:
                assert (answer.status, (await answer.json())["redis"]) == (503, False)
            redis.start()
            await scene.whole()


# --- the open pool -----------------------------------------------------------------------------------------

HERE = {"store_id": "s", "market": "上海"}
CELL = f"{BRAND}/%E4%B8%8A%E6%B5%B7"
WAITING = (
    "%E4%B8%8A%E6%B5%B7|2|500|near|lead|anywhere|m-1",
    "%E4%B8%8A%E6%B5%B7/store/s|2|400|near|lead|ours|m-2",
    "%E4%B8%8A%E6%B5%B7/store/s/needs/suits|0|900|near|lead|vip|m-3",
    "%E4%B8%8A%E6%B5%B7/store/t|0|100|near|lead|theirs|m-4",
    "%E4%B8%8A%E6%B5%B7/region|0|100|region|lead|gone-further|m-5",
    "%E4%B8%8A%E6%B5%B7/store/s/booked|0|100|near|reservation|booked|m-6",
)


async def test_a_guide_sees_who_waits_at_their_store_in_the_order_to_go_and_not_whose_they_are(scene):
    await scene.wait_in_pool(*WAITING, cell=CELL)
    names, text = await scene.pool(**HERE)
    assert names == ["vip", "ours", "anywhere"]
    assert "m-" not in text
    assert (await scene.pool(**HERE | {"store_id": "t"}))[0] == ["theirs", "anywhere"]
    assert (await scene.pool(**HERE | {"market": "北京"}))[0] == []
    assert (await scene.pool())[0] == []  # a token that does not tell where


async def test_a_guide_takes_out_of_the_pool_of_their_store_alone(scene):
    await scene.wait_in_pool(*WAITING, cell=CELL)
    async with beside(scene.answer_all()):
        assert (await scene.post(said("grabbed", lead_id="ours", attempt=3), where=HERE))[0] == 200
        for lead_id, where in (("theirs", HERE), ("booked", HERE), ("ours", None), ("nothing", HERE)):
            assert (await scene.post(said("grabbed", "r2", lead_id), where=where))[0] == 404
    [(_, record)] = scene.heard
    assert (record.guide_id, record.member_id, record.attempt) == ("g", "m-2", None)


# --- answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "state", "expected"),
    [
        ("applied", "accepted", (200, {"outcome": "applied", "state": "accepted", "seq": 2})),
        ("late", "expired", (409, {"outcome": "late", "state": "expired", "seq": 2})),
        ("illegal", "won", (409, {"outcome": "illegal", "state": "won", "seq": 2})),
        ("not_yours", "accepted", (403, {"outcome": "not_yours"})),
        ("unknown", "closed", (404, {"outcome": "unknown"})),
    ],
)
async def test_f55_the_router_decides_and_the_guide_is_told_what_without_whose(
    scene, outcome, state, expected
):
    await scene.project(made("l"))
    async with beside(scene.answer_all(outcome, state)):
        assert await scene.post(said()) == expected
        assert await scene.post(said()) == expected


async def test_f55_a_second_device_with_another_id_is_the_routers_to_judge(scene):
    await scene.project(made("l"))
    records = scene.responses()
    first = asyncio.create_task(scene.post(said(response_id="a")))
    _, one = await anext(records)
    await scene.write_outcome(one)
    assert (await first)[0] == 200
    second = asyncio.create_task(scene.post(said(response_id="b")))
    _, two = await anext(records)
    await scene.write_outcome(two, "illegal")
    assert await second == (409, {"outcome": "illegal", "state": "accepted", "seq": 2})
    assert (one.response_id, two.response_id) == ("a", "b")


@pytest.mark.usefixtures("impatient")
async def test_f56_an_answer_that_got_lost_is_given_again_and_nothing_is_published_twice(scene):
    # one member: what was published twice would stand before the next
    await scene.project(made("l"), made("k", member_id="m-l"))
    records = scene.responses()
    pending = asyncio.create_task(scene.post(said(response_id="lost")))
    _, record = await anext(records)
    pending.cancel()  # the guide, or the gateway, is gone before the answer
    await scene.write_outcome(record)
    for _ in range(2):
        assert await scene.post(said(response_id="lost")) == (
            200,
            {"outcome": "applied", "state": "accepted", "seq": 2},
        )
    # over by now: the inbox keeps its place alone
    await scene.project(made("l", 2, "declined"))
    assert (await scene.post(said(response_id="lost")))[0] == 200
    await asyncio.gather(scene.post(said(response_id="next", lead_id="k")))
    assert (await anext(records))[1].response_id == "next"


@pytest.mark.usefixtures("impatient")
async def test_an_answer_without_an_outcome_yet_is_pending(scene):
    await scene.project(made("l", attempt=3))
    assert await scene.post(said(reason="午休")) == (202, {"outcome": "pending", "retry": "same id"})
    record, response = await anext(scene.responses())
    assert (record.key, record.topic) == (b"m-l", f"{scene.prefix}responses")
    assert record.partition == partition_of(b"m-l", 4)
    assert (response.attempt, response.reason, response.guide_id) == (3, "午休", "g")
    assert abs(response.occurred_at_ms - record.timestamp) < 60_000
    journey = keys.journey(BRAND, "m-l", "lead", "l")
    assert not await scene.redis.exists(journey)


async def test_a_lead_that_is_over_can_be_answered_late_while_the_feed_knows_it(scene):
    await scene.project(made("l"), made("l", 2, "expired"))
    async with beside(scene.answer_all("late", "expired")):
        assert (await scene.post(said()))[0] == 409
    await scene.redis.delete(keys.feed(BRAND, "g"))
    assert (await scene.post(said(response_id="r2")))[0] == 404


@pytest.mark.usefixtures("impatient")
async def test_f35_while_kafka_hangs_the_answer_is_unknown_and_the_same_id_retries(redis, prefix):
    with EmbeddedKafka() as kafka:
        async with running(kafka.url, redis.url, prefix) as scene:
            await scene.redis.flushall()
            await scene.whole()
            await scene.project(made("l"))
            assert (await scene.post(said(response_id="r0")))[0] == 202
            kafka.pause()
            assert await scene.post(said()) == (503, {"outcome": "unknown", "retry": "same id"})
            kafka.resume()
            async with beside(scene.answer_all()):
                assert (await scene.post(said()))[0] == 200


async def test_f35_without_any_broker_streams_go_on(redis, prefix):
    [port] = free_ports(1)
    async with running(f"kafka://127.0.0.1:{port}", redis.url, prefix) as scene:
        await scene.redis.flushall()
        await scene.whole()
        await scene.project(made("l"))
        assert (await scene.post(said()))[0] == 503
        async with scene.stream() as stream:
            assert (await stream.next()).name == "snapshot"
        async with scene.http.get(f"{scene.inside}/health") as answer:
            assert (answer.status, (await answer.json())["kafka"]) == (503, False)


async def test_t06_t15_no_token_and_no_secret_reaches_the_log(scene, caplog, monkeypatch):
    monkeypatch.setattr(gateway.log, "propagate", True)
    await scene.project(made("l"))
    wrong = token(secret="another-secret-that-is-long-enough")
    async with scene.http.get(f"{scene.base}/v1/session", headers={"Authorization": f"Bearer {wrong}"}):
        pass
    await scene.redis.hset(keys.journey(BRAND, "m-l", "lead", "l"), "r|r1", b"not json")
    status, body = await scene.post(said())
    assert (status, body) == (500, {"error": "internal"})
    told = caplog.text
    assert "a request failed" in told
    for hidden in (SECRET, wrong, token(), "m-l"):
        assert hidden not in told


async def test_nobody_takes_the_name_of_what_time_brings(scene):
    """The router's own ids can be foreseen: with one of them a guide could stop the clock of a lead."""
    await scene.project(made("l"))
    body = {"response_id": "t.0123456789abcdef01234567", "lead_id": "l", "kind": "lead", "action": "seen"}
    status, told = await scene.post(body, "g")
    assert status == 400
    assert "response_id" in told["error"]
