"""``lead-router gateway``: the public listener for guides, the internal one for metrics and health."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from importlib.metadata import version
from ipaddress import ip_address

from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from router.config import Settings
from router.errors import ConfigError
from router.state.redis import Scripts
from router.topology import bootstrap
from router.web.admission import SECURITY_HEADERS
from router.web.answers import Answers
from router.web.metrics import GatewayMetrics
from router.web.parts import PARTS, Parts
from router.web.reading import Reading
from router.web.routes import ROUTES, Handler, admitted
from router.web.sending import Sending
from router.web.tail import Tail
from topics.catalog import ASSIGNMENTS
from topics.codec import MESSAGE_BYTES_MAX

log = logging.getLogger(__name__)

#: How long open requests get when the gateway is told to stop.
_STOP_S = 5.0
#: How long a connection may go without a whole request.
IDLE_S = 30.0
#: Connections that wait to be accepted while all guides come back at once.
_BACKLOG = 4096


def application(parts: Parts) -> web.Application:
    """What guides reach: exactly the routes of the list."""
    app = web.Application(middlewares=[_told], client_max_size=MESSAGE_BYTES_MAX)
    app[PARTS] = parts
    app.on_response_prepare.append(_secured)
    for route in ROUTES:
        app.router.add_route(route.method, route.path, admitted(route))
    return app


def internal(parts: Parts, sending: Sending) -> web.Application:
    """What only this machine reaches: metrics and health."""

    async def metrics(_: web.Request) -> web.Response:
        text = generate_latest(parts.metrics.registry)
        return web.Response(body=text, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST})

    async def health(_: web.Request) -> web.Response:
        well = {"redis": parts.tail.well, "kafka": sending.well}
        return web.json_response(well, status=200 if all(well.values()) else 503)

    app = web.Application()
    app.router.add_route(hdrs.METH_GET, "/metrics", metrics)
    app.router.add_route(hdrs.METH_GET, "/health", health)
    return app


async def serve(
    settings: Settings,
    kafka_url: str,
    redis_url: str,
    stop: asyncio.Event,
    started: Callable[[str, str], None],
) -> None:
    """Serve until told to stop; ``started`` hears where guides and where metrics are."""
    scripts = Scripts(redis_url)
    reading = Reading(scripts, settings.topic_prefix + ASSIGNMENTS.name)
    sending = Sending(bootstrap(kafka_url), settings.topic_prefix)
    tail = Tail(reading)
    metrics = GatewayMetrics(version("lead-router"))
    parts = Parts(settings.gateway_secret, Answers(reading, sending), tail, metrics)
    try:
        async with (
            _listening(internal(parts, sending), "127.0.0.1", settings.metrics_port) as inside,
            _listening(application(parts), settings.gateway_host, settings.gateway_port) as outside,
            asyncio.TaskGroup() as tasks,
        ):
            background = [tasks.create_task(each.run()) for each in (tail, sending)]
            started(outside, inside)
            await stop.wait()
            tail.end("restart")
            await _ended(background)
    finally:
        await scripts.close()


async def _ended(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: what they wait for may swallow it, or hang while it is closed."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_STOP_S)
        for task in pending:
            log.warning("%s goes on: cancelled once more", task.get_coro())


def run(settings: Settings, kafka_url: str, redis_url: str, started: Callable[[str, str], None]) -> None:
    """Run one gateway until SIGTERM or Ctrl-C."""
    _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))  # a stream is an open file

    async def until_told() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await serve(settings, kafka_url, redis_url, stop, started)

    asyncio.run(until_told())


def check(settings: Settings, *, insecure: bool) -> None:
    """Refuse to start without a secret, or where others could listen in; raises ConfigError."""
    if not settings.gateway_secret:
        raise ConfigError(
            "LEAD_ROUTER_GATEWAY_SECRET is not set: give a secret of 32 bytes or more, for instance "
            "export LEAD_ROUTER_GATEWAY_SECRET=$(openssl rand -hex 32)"
        )
    if not (insecure or ip_address(settings.gateway_host).is_loopback):
        raise ConfigError(
            f"LEAD_ROUTER_GATEWAY_HOST={settings.gateway_host} is reached from other machines without TLS: "
            "end TLS in front of the gateway, and say --insecure if nobody can go around it"
        )


@asynccontextmanager
async def _listening(app: web.Application, host: str, port: int) -> AsyncIterator[str]:
    runner = web.AppRunner(
        app,
        access_log=None,  # lines of who looks at what are personal data
        handler_cancellation=True,
        keepalive_timeout=IDLE_S,
        auto_decompress=False,  # a body is as large as it says
        shutdown_timeout=_STOP_S,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=_BACKLOG)
        try:
            await site.start()
        except OSError as error:
            raise ConfigError(f"{host} port {port}: {error.strerror}") from None
        name, number, *_ = runner.addresses[0]
        yield f"http://[{name}]:{number}" if ":" in name else f"http://{name}:{number}"
    finally:
        await runner.cleanup()


@web.middleware
async def _told(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell every refusal as JSON, and nothing of what went wrong inside."""
    try:
        return await handler(request)
    except web.HTTPException as refusal:
        headers = {
            name: refusal.headers[name]
            for name in (hdrs.RETRY_AFTER, hdrs.WWW_AUTHENTICATE, hdrs.ALLOW)
            if name in refusal.headers
        }
        return web.json_response({"error": refusal.reason.lower()}, status=refusal.status, headers=headers)
    except Exception:
        log.exception("a request failed")
        return web.json_response({"error": "internal"}, status=500)


async def _secured(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
