"""The command line: the same by either name, and quick to help."""

from __future__ import annotations

import subprocess
import sys

from click.testing import CliRunner

from router.cli import main

HEAVY = {"aiohttp", "aiokafka", "confluent_kafka", "faust", "jwt", "numpy", "redis"}


def test_help_imports_nothing_heavy():
    """All the way down to the help of each command."""
    script = f"""
import sys
from router.cli import main
for name in ["", *main.commands]:
    try:
        main([*filter(None, [name]), "--help"])
    except SystemExit as ended:
        assert not ended.code
assert not {HEAVY} & set(sys.modules), {HEAVY} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_command_says_what_it_does():
    assert set(main.commands) == {
        *("worker", "gateway", "token", "assign", "demo", "simulate"),
        *("verify", "rebuild", "inbox", "journey", "commission", "schemas"),
    }
    for name, command in main.commands.items():
        shown = CliRunner().invoke(main, [name, "-h"])
        assert (shown.exit_code, bool(command.help)) == (0, True), name
    assert CliRunner().invoke(main, ["inbox", "g"], env={"LEAD_ROUTER_REDIS_URL": ""}).exit_code == 2


def test_the_module_is_the_command():
    command = [sys.executable, "-m", "router", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("lead-router, version ")
