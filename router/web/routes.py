"""Every route of the gateway, with who may call it: a literal list, of which the tests make their matrix."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

from aiohttp import hdrs, web

from router.errors import OutageError
from router.web.admission import caller_of, cookie_name, on_loopback, refuse_other_sites
from router.web.answers import Said
from router.web.parts import CALLER, PARTS, Parts
from router.web.streaming import language_of, stream
from router.web.tokens import Caller, TokenError, verify
from scoring.requests import TIERS
from topics.codec import BadEventError, decode
from topics.fields import Event

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: A request's headers and body must be here in that time.
READ_S = 10.0
_TYPES = {"index.html": "text/html", "app.js": "text/javascript", "style.css": "text/css"}


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    ``who``: anybody, or a guide with a valid token. ``guarded``: it changes or opens something, so it is
    refused to other sites and, for a guide, counted.
    """

    method: str
    path: str
    who: Literal["anybody", "guide"]
    guarded: bool
    handler: Handler


class Login(Event, frozen=True):
    """The body that opens a session."""

    token: str


async def page(request: web.Request) -> web.Response:
    """One file of the page; the frame in the language that the browser asks for."""
    name = request.path.removeprefix("/") or "index.html"
    text = (files("router.web") / "page" / name).read_text(encoding="utf-8")
    if name == "index.html" and language_of(request) == "en":
        text = text.replace('lang="zh"', 'lang="en"', 1)
    vary = {hdrs.VARY: hdrs.ACCEPT_LANGUAGE}
    return web.Response(text=text, content_type=_TYPES[name], charset="utf-8", headers=vary)


async def open_session(request: web.Request) -> web.Response:
    """Keep a token in a cookie that no script can read, since a browser's event source sends no headers."""
    try:
        token = decode(Login, await _body(request)).token
        caller = verify(request.app[PARTS].secrets, token)
    except (BadEventError, TokenError):
        raise web.HTTPUnauthorized from None
    answer = _session(caller)
    answer.set_cookie(
        cookie_name(request),
        token,
        expires=None,
        max_age=max(0, caller.expires_s - request.app[PARTS].now_s()),
        path="/",
        secure=not on_loopback(request),
        httponly=True,
        samesite="Strict",
    )
    return answer


async def session(request: web.Request) -> web.Response:
    """Who is signed in, and for how long."""
    return _session(request[CALLER])


def _session(caller: Caller) -> web.Response:
    return web.json_response(
        {"brand": caller.brand, "guide_id": caller.guide_id, "expires_at_ms": caller.expires_s * 1000}
    )


async def respond(request: web.Request) -> web.Response:
    """Take a guide's response to one of the guide's own cards."""
    parts: Parts = request.app[PARTS]
    try:
        said = decode(Said, await _body(request))
    except BadEventError as error:
        return web.json_response({"error": str(error)}, status=400)
    reply = await parts.answers.answer(request[CALLER], said)
    parts.metrics.responses.labels(reply.outcome).inc()
    return web.json_response(reply.body, status=reply.status)


async def pool(request: web.Request) -> web.Response:
    """Who waits where the guide works, in the order to go; whose they are is told to who takes them."""
    try:
        waiting = await request.app[PARTS].answers.reading.pool(request[CALLER])
    except OutageError:
        raise web.HTTPServiceUnavailable(headers={hdrs.RETRY_AFTER: "1"}) from None
    leads = [
        {"kind": kind, "lead_id": lead_id, "tier": TIERS[tier], "arrival_ms": arrival_ms}
        for tier, arrival_ms, kind, lead_id, _ in waiting
    ]
    return web.json_response({"leads": leads})


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(READ_S):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None


ROUTES = (
    Route("GET", "/", "anybody", guarded=False, handler=page),
    Route("GET", "/app.js", "anybody", guarded=False, handler=page),
    Route("GET", "/style.css", "anybody", guarded=False, handler=page),
    Route("POST", "/v1/session", "anybody", guarded=True, handler=open_session),
    Route("GET", "/v1/session", "guide", guarded=False, handler=session),
    Route("GET", "/v1/inbox/stream", "guide", guarded=True, handler=stream),
    Route("GET", "/v1/pool", "guide", guarded=True, handler=pool),
    Route("POST", "/v1/responses", "guide", guarded=True, handler=respond),
)


def admitted(route: Route) -> Handler:
    """The handler of a route behind everything that is asked of its callers."""

    async def handle(request: web.Request) -> web.StreamResponse:
        parts: Parts = request.app[PARTS]
        if route.guarded:
            refuse_other_sites(request)
        if route.who == "guide":
            caller = request[CALLER] = caller_of(request, parts.secrets)
            guide = (caller.brand, caller.guide_id)
            if route.guarded and not parts.allowance.take(guide, asyncio.get_running_loop().time()):
                raise web.HTTPTooManyRequests(headers={hdrs.RETRY_AFTER: "1"})
        return await route.handler(request)

    return handle
