"""``lead-router inbox``: a guide's cards on a terminal."""

from __future__ import annotations

import asyncio
import signal

import click

from router.cli.group import clear_errors, redis_url
from router.config import Settings


@click.command()
@click.argument("guide")
@click.option("--brand", default="demo", show_default=True)
@click.option("--follow", is_flag=True, help="Go on and show cards as they arrive.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per card.")
@clear_errors
def inbox(guide: str, brand: str, *, follow: bool, as_json: bool) -> None:
    """Show the cards of GUIDE; needs LEAD_ROUTER_REDIS_URL."""
    from router.inbox import Inbox, line  # noqa: PLC0415 - a help page needs no Redis
    from router.state.redis import Scripts  # noqa: PLC0415 - same
    from topics.codec import encode  # noqa: PLC0415 - same

    url = redis_url(Settings.from_env())

    async def show() -> None:
        scripts = Scripts(url)
        box = Inbox(scripts.redis, brand, guide)
        write = (lambda card: encode(card).decode()) if as_json else line
        try:
            position = await box.position()
            cards = await box.cards()
            for card in cards:
                click.echo(write(card))
            if not cards and not as_json:
                click.echo(f"no cards for {guide} of {brand}" + (", waiting for some ..." if follow else ""))
            if follow:
                stop = asyncio.Event()
                # a flag, not a cancellation: the Redis client may swallow one that meets its own time-out
                asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
                async for card in box.arriving(position, stop):
                    click.echo(write(card))
        finally:
            await scripts.close()

    asyncio.run(show())
