"""``lead-router journey``: what has happened to a lead, and by what."""

from __future__ import annotations

import asyncio
import re

import click

from router.cli.group import clear_errors, redis_url
from router.config import Settings
from router.errors import ConfigError


@click.command(epilog="\b\nExample:\n  lead-router journey l0000054 --member m0000064")
@click.argument("lead")
@click.option("--member", required=True, help="Whose lead it is.")
@click.option("--brand", default="demo", show_default=True)
@click.option("--kind", default="lead", show_default=True, type=click.Choice(["lead", "reservation", "list"]))
@click.option("--json", "as_json", is_flag=True, help="One JSON object per step.")
@clear_errors
def journey(lead: str, member: str, brand: str, kind: str, *, as_json: bool) -> None:
    """Show every step of LEAD: its state, when, with whom, until when, and what caused it.

    Needs LEAD_ROUTER_REDIS_URL. A row of a customer list is of kind ``list``, a reservation of kind
    ``reservation``. Times are UTC.
    """
    from router.journey import Journey, told  # noqa: PLC0415 - a help page needs no Redis
    from router.state.redis import Scripts  # noqa: PLC0415 - same
    from topics.codec import encode  # noqa: PLC0415 - same
    from topics.fields import ID_PATTERN  # noqa: PLC0415 - same

    for name in (brand, member, lead):
        if not re.match(ID_PATTERN, name):
            raise ConfigError(f"{name!r:.80} is no id: 1 to 64 of A-Z a-z 0-9 _ . @ -")
    url = redis_url(Settings.from_env())

    async def show() -> None:
        scripts = Scripts(url)
        try:
            steps = await Journey(scripts.redis, brand, member, kind, lead).steps()
        finally:
            await scripts.close()
        for line in [encode(step).decode() for step in steps] if as_json else told(steps):
            click.echo(line)
        if not steps and not as_json:
            click.echo(
                f"no {kind} {lead} of member {member} and brand {brand} is known: never routed, "
                "over for more than two weeks, or of another --kind"
            )

    asyncio.run(show())
