"""``lead-router verify`` and ``rebuild``: the log's word against what Redis holds."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping

import click
import orjson

from router.cli.group import clear_errors, kafka_url, redis_url
from router.config import Settings
from topics.catalog import ASSIGNMENTS


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the table.")
@clear_errors
def verify(*, as_json: bool) -> None:
    """Audit what the topics hold, and Redis against them.

    Reads every input, assignment, order, posting and dead letter from the raw topics of
    LEAD_ROUTER_KAFKA_URL and counts again, with code that shares nothing with the router: lost, doubled, over
    capacity, wrong price zone, out of order, and whether every fen of commission is where it belongs. Where
    LEAD_ROUTER_REDIS_URL is set, every key there is compared with what the log says it should hold; let the
    workers be idle meanwhile. The exit status is 1 when anything is found.
    """
    from router.demo.tail import verify  # noqa: PLC0415 - a help page needs no broker
    from router.demo.words import summary  # noqa: PLC0415 - same

    settings = Settings.from_env()
    report = asyncio.run(verify(kafka_url(settings), settings.topic_prefix))
    wrong = asyncio.run(_compare(settings, mend=False)) if settings.redis_url else {}
    if as_json:
        click.echo(orjson.dumps({**report.as_dict(), "redis": wrong}))
    else:
        click.echo(summary(report))
        _name(wrong, checked=settings.redis_url is not None)
    sys.exit(0 if report.ok and not wrong else 1)


@click.command()
@clear_errors
def rebuild() -> None:
    """Make Redis hold what the log says; stop the workers first.

    Reads the topics of LEAD_ROUTER_KAFKA_URL, compares LEAD_ROUTER_REDIS_URL with them, names every
    difference and writes the log's word over it. An empty Redis becomes what it was; a right one is left
    alone.
    """
    wrong = asyncio.run(_compare(Settings.from_env(), mend=True))
    _name(wrong, checked=True)
    if wrong:
        click.echo(f"{len(wrong):,} keys rebuilt")


async def _compare(settings: Settings, *, mend: bool) -> dict[str, str]:
    """The keys of Redis that differ from the log, after writing them anew if they are to be mended.

    And the postings that are not what they say, which nobody can mend.
    """
    from router.demo.words import ProgressLine  # noqa: PLC0415 - a help page needs no broker
    from router.rebuild import differences, refuse_running_workers, repair, replay  # noqa: PLC0415 - same
    from router.state.arbiter import Arbiter  # noqa: PLC0415 - same
    from router.state.redis import Scripts  # noqa: PLC0415 - same
    from router.topology import ensure_topics  # noqa: PLC0415 - same

    broker, redis = kafka_url(settings), redis_url(settings)
    if mend:
        await refuse_running_workers(broker, settings.group)
    line = ProgressLine()

    def show(what: str, done: int, total: int) -> None:
        if line.due or done == total:
            line.show(f"{what}: {done:,} of {total:,}")

    counts = await ensure_topics(broker, settings.topic_prefix, settings.partitions)
    scripts = Scripts(redis)
    try:
        expected = await replay(broker, settings.topic_prefix, counts, show)
        wrong = await differences(expected, scripts, show)
        if mend:
            await repair(expected, wrong, scripts, show)
            since_ms = dict.fromkeys(await scripts.identities(), 0)  # nothing is on its way: no worker runs
            await Arbiter(scripts).note_identities(settings.topic_prefix + ASSIGNMENTS.name, since_ms)
        return wrong | {
            f"book of {fault.brand or '?'}, posting {fault.posting_id or '-'}": fault.what
            for fault in expected.books.faults
        }
    finally:
        line.end()
        await scripts.close()


def _name(wrong: Mapping[str, str], *, checked: bool) -> None:
    """Name every difference, one a line."""
    for key, fault in wrong.items():
        click.echo(f"  {key}: {fault}")
    if checked:
        click.echo(f"redis: {len(wrong):,} keys differ from the log" if wrong else "redis: as the log says")
