"""``GET /v1/inbox/stream``: one guide's cards as server-sent events, until somebody ends it."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress

from aiohttp import hdrs, web

from router.errors import OutageError
from router.web.cards import HEARTBEAT, LANGUAGES, Language, event
from router.web.channel import Channel
from router.web.metrics import GatewayMetrics
from router.web.parts import CALLER, PARTS, Parts
from router.web.reading import place
from router.web.tokens import Caller

#: Streams of one process.
STREAMS_MAX = 12_000
HEARTBEAT_S = 15.0
#: A reader who has not made room for the next bytes by then is gone or too slow.
SLOW_S = 10.0
#: Bytes that the kernel may hold for a reader: left alone it would take megabytes for each.
_SOCKET_BYTES = 64 * 1024

_HEADERS = {
    hdrs.CONTENT_TYPE: "text/event-stream",
    "X-Accel-Buffering": "no",  # a proxy must not keep cards back
}


async def stream(request: web.Request) -> web.StreamResponse:
    """Send what a guide has missed or all cards there are, then every card as it comes."""
    parts, caller = request.app[PARTS], request[CALLER]
    guide = (caller.brand, caller.guide_id)
    if parts.tail.channels >= STREAMS_MAX:
        raise web.HTTPServiceUnavailable(headers={hdrs.RETRY_AFTER: "5"})
    channel, response = Channel(language_of(request)), web.StreamResponse(headers=_HEADERS)
    # the page's own way of reconnecting can send no header
    known = request.headers.get("Last-Event-ID") or request.query.get("after", "")
    try:
        await parts.tail.join(guide, place(known), channel)
    except OutageError:
        raise web.HTTPServiceUnavailable(headers={hdrs.RETRY_AFTER: "1"}) from None
    try:
        _bound(request)
        await response.prepare(request)
        if not await _write(response, channel, parts, caller) and request.transport is not None:
            request.transport.abort()  # nobody reads what it still holds
    except Exception:
        if request.transport is not None:
            request.transport.abort()  # too late for another answer
        raise
    finally:
        parts.tail.leave(guide, channel)
    return response


async def _write(response: web.StreamResponse, channel: Channel, parts: Parts, caller: Caller) -> bool:
    """Write until the token expires, the channel is ended or the reader is gone; False for a slow reader."""
    clock = asyncio.get_running_loop().time
    expires_s = clock() + caller.expires_s - parts.now_s()
    with parts.metrics.connections.track_inprogress(), suppress(ConnectionError):
        try:
            while channel.over is None:
                left_s = expires_s - clock()
                if left_s <= 0:
                    channel.end("expired")
                chunk, at_ms = await channel.take(min(HEARTBEAT_S, left_s))
                async with asyncio.timeout(SLOW_S):
                    await response.write(chunk or HEARTBEAT)
                _observe(parts.metrics, at_ms)
            if channel.over != "slow":
                async with asyncio.timeout(SLOW_S):
                    await response.write(event("bye", {"reason": channel.over}))
        except TimeoutError:
            channel.end("slow")
        parts.metrics.ended.labels(channel.over).inc()
    return channel.over != "slow"


def language_of(request: web.Request) -> Language:
    """The language of ``?lang=``, else the first we know of those the browser asks for, else Chinese."""
    asked = [request.query.get("lang", "")]
    asked += [
        each.partition(";")[0].strip() for each in request.headers.get(hdrs.ACCEPT_LANGUAGE, "").split(",")
    ]
    for tag in asked:
        for language in LANGUAGES:
            if tag.lower().partition("-")[0] == language:
                return language
    return LANGUAGES[0]


def _observe(metrics: GatewayMetrics, at_ms: list[int]) -> None:
    now_ms = time.time() * 1000
    for each in at_ms:
        metrics.push.labels("sse").observe(max(0.0, now_ms - each) / 1000)


def _bound(request: web.Request) -> None:
    transport = request.transport
    if transport is not None and (connection := transport.get_extra_info("socket")) is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
