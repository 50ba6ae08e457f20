"""``lead-router gateway`` and ``token``: the guides' page, and a key to it for trying it out."""

from __future__ import annotations

import logging
import re
import sys
import time

import click

from router.cli.group import clear_errors, kafka_url, redis_url
from router.config import Settings
from router.errors import ConfigError

SECRETS = """
\b
Further settings:
  LEAD_ROUTER_GATEWAY_SECRET       signs and checks tokens: 32 bytes or more; several with commas
                                   between, the first signs; or LEAD_ROUTER_GATEWAY_SECRET_FILE
  LEAD_ROUTER_GATEWAY_HOST, _PORT  where guides reach it; 127.0.0.1 and 8080 by default
  LEAD_ROUTER_METRICS_PORT         metrics and health on 127.0.0.1; any free port by default
"""


@click.command(epilog=SECRETS)
@click.option("--insecure", is_flag=True, help="Listen beyond this machine; TLS must end in front of it.")
@clear_errors
def gateway(*, insecure: bool) -> None:
    """Show guides their cards in a browser and take their answers.

    Needs LEAD_ROUTER_KAFKA_URL and LEAD_ROUTER_REDIS_URL, those of the workers.
    """
    from router.web.gateway import check, run  # noqa: PLC0415 - a help page needs no web server

    settings = Settings.from_env()
    check(settings, insecure=insecure)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )

    def started(outside: str, inside: str) -> None:
        click.echo(f"guides on {outside}/, metrics on {inside}/metrics, health on {inside}/health", err=True)

    run(settings, kafka_url(settings), redis_url(settings), started)


@click.command(
    epilog='\b\nExample:\n  echo "http://127.0.0.1:8080/#token=$(lead-router token c01s24-3 --minutes 60)"'
)
@click.argument("guide")
@click.option("--brand", default="demo", show_default=True)
@click.option("--minutes", default=60, show_default=True, type=click.IntRange(1, 24 * 60))
@click.option("--store", default="", help="Where the guide works: shows the open pool of that store.")
@click.option("--market", default="", help="The market of that store, if it has one.")
@clear_errors
def token(guide: str, brand: str, minutes: int, store: str, market: str) -> None:
    """Print a token that lets whoever has it be GUIDE; needs LEAD_ROUTER_GATEWAY_SECRET."""
    from router.web.tokens import sign  # noqa: PLC0415 - a help page needs no signatures
    from topics.fields import ID_PATTERN  # noqa: PLC0415 - same

    settings = Settings.from_env()
    if not settings.gateway_secret:
        raise ConfigError("LEAD_ROUTER_GATEWAY_SECRET is not set: use the gateway's own")
    for name in filter(None, (brand, guide, store)):
        if not re.match(ID_PATTERN, name):
            raise ConfigError(f"{name!r} is no id: 1 to 64 of A-Z a-z 0-9 _ . @ -")
    now_s, life_s = int(time.time()), minutes * 60
    click.echo(sign(settings.gateway_secret, brand, guide, now_s, life_s, store_id=store, market=market))
