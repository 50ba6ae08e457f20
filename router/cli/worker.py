"""``lead-router worker``."""

from __future__ import annotations

import logging
import sys

import click

from router.cli.group import clear_errors
from router.config import Settings


@click.command(epilog="\b\nExample:\n  LEAD_ROUTER_KAFKA_URL=kafka://broker:9092 \\\n  "
              "LEAD_ROUTER_REDIS_URL=redis://redis:6379 lead-router worker")  # fmt: skip
@click.option("-v", "--verbose", is_flag=True, help="Log what Faust and Kafka say, too.")
@clear_errors
def worker(verbose: bool) -> None:  # noqa: FBT001 - a flag of the command line
    """Run one worker until SIGTERM or Ctrl-C.

    Prometheus metrics are on http://127.0.0.1:$LEAD_ROUTER_METRICS_PORT/metrics (any free port by default;
    the log says which).
    """
    from router.local import parts  # noqa: PLC0415 - a help page needs no broker
    from router.worker import run  # noqa: PLC0415 - same

    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("router").setLevel(logging.INFO)
    if verbose:
        logging.getLogger("aiokafka").setLevel(logging.INFO)
    else:  # Faust logs every service it starts under the module that holds its class
        logging.getLogger("router.transport").setLevel(logging.WARNING)
    settings = Settings.from_env()
    with parts(settings) as where:
        if None in (settings.kafka_url, settings.redis_url):
            click.echo(f"{where.description}; for other terminals:", err=True)
            click.echo(f"  export LEAD_ROUTER_KAFKA_URL={where.kafka_url}", err=True)
            click.echo(f"  export LEAD_ROUTER_REDIS_URL={where.redis_url}", err=True)
        run(settings, where.kafka_url, where.redis_url)
