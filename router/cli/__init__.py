"""``lead-router``: the list of its commands; each imports itself what it needs, so that help is quick."""

from __future__ import annotations

from router.cli.assign import assign
from router.cli.checks import rebuild, verify
from router.cli.commission import commission
from router.cli.demo import demo, simulate
from router.cli.gateway import gateway, token
from router.cli.group import main
from router.cli.inbox import inbox
from router.cli.journey import journey
from router.cli.schemas import schemas
from router.cli.worker import worker

for command in (
    worker,
    gateway,
    token,
    assign,
    demo,
    simulate,
    verify,
    rebuild,
    inbox,
    journey,
    commission,
    schemas,
):
    main.add_command(command)

__all__ = ["main"]
