"""``make faults``: run exactly the tests that are named after rows, and print which rows hold.

``--write`` puts the table into ``docs/assurance.md`` as well; other arguments are pytest's.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.faults.rows import ROWS

DOCUMENT = Path(__file__).parents[2] / "docs/assurance.md"
BEGIN, END = "<!-- make faults -->\n", "<!-- end of make faults -->\n"
KINDS = ("embedded", "real", "simulation", "in process")


def rows_of(name):
    """The numbers of the rows that a test's name and parameters carry: ``test_f18_f19_…[embedded-…]``."""
    return {int(number) for number in re.findall(r"(?<![a-z0-9])f(\d\d)(?![a-z0-9])", name)}


def kind_of(nodeid, keywords=()):
    """What a test runs on."""
    _, _, parameters = nodeid.lower().partition("[")
    if "test_simulat" in nodeid:
        return "simulation"
    otherwise = "real" if "real" in keywords else "in process"
    return next((kind for kind in KINDS[:2] if kind in parameters), otherwise)


class Results:
    """The worst outcome by row and kind of parts."""

    def __init__(self):
        self.found = defaultdict(dict)

    def pytest_collection_modifyitems(self, config, items):
        named = [item for item in items if rows_of(item.name)]
        config.hook.pytest_deselected(items=[item for item in items if not rows_of(item.name)])
        items[:] = named

    def pytest_runtest_logreport(self, report):
        if report.when != "call" and not report.failed:
            return
        kind = kind_of(report.nodeid, report.keywords)
        for number in rows_of(report.nodeid.rpartition("::")[2]):
            red = report.failed or self.found[number].get(kind) == "red"
            self.found[number][kind] = "red" if red else "holds"


def table(found):
    """The table, in Markdown."""
    yield f"| row | fault | levels | {' | '.join(KINDS)} | red without | missing |"
    yield "|---" * (5 + len(KINDS)) + "|"
    for row in ROWS:
        results = [found.get(row.number, {}).get(kind, "") for kind in KINDS]
        missing = row.missing if any(results) or row.missing else "no test yet"
        cells = [f"F{row.number:02}", row.fault, " ".join(row.levels), *results, row.without, missing]
        yield f"| {' | '.join(cells)} |"


def write(lines):
    """Put the table between its marks in the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    DOCUMENT.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n\n" + END + after, encoding="utf-8")


def main(arguments):
    """Run, print, and return the status: not 0 when a row is red."""
    results = Results()
    own = [each for each in arguments if each != "--write"]
    status = pytest.main(["-q", "--no-header", *own], plugins=[results])
    lines = list(table(results.found))
    print("\n".join(lines))  # noqa: T201 - what it is for
    if len(own) < len(arguments):
        write(lines)
    red = any("red" in kinds.values() for kinds in results.found.values())
    return int(status) or int(red)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
