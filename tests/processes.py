"""How the tests are dealt to several processes (``pytest -n``): what belongs together stays with one."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

from tests.faults.table import kind_of

#: What lasts longest comes first, so that no process ends long after the others.
FIRST = ("faults, embedded", "tests/test_simulation.py", "faults, real")


def together(nodeid):
    """A module shares its fixtures; the faults on one kind of parts wait side by side in several modules."""
    module = nodeid.partition("::")[0]
    return f"faults, {kind_of(nodeid)}" if "/faults/" in module else module


def in_order(nodeid):
    """Sorts the first to the front and leaves the order of the rest, which is random."""
    return [*FIRST, together(nodeid)].index(together(nodeid))


class Dealing(LoadScopeScheduling):
    """Deals them in the order in which they stand."""

    def __init__(self, config, log=None):
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid):
        return together(nodeid)
