"""Replay one seed with a readable trace: ``python -m tests.simulation SEED``; ends with 1 when it fails."""

from __future__ import annotations

import logging
import sys

from tests.simulation.simulation import replay


def main(seed):
    """Print what happens, what the router logs of it, and what is wrong."""
    log = logging.StreamHandler(sys.stdout)
    log.addFilter(_without_traceback)
    logging.basicConfig(handlers=[log], format="           log  %(message)s")
    found = replay(seed, print)
    print("\n".join(found or ["all is well"]))  # noqa: T201 - a program's answer
    return bool(found)


def _without_traceback(record):
    record.exc_info = None
    return True


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
