"""The table in the docs names what there is: rows with tests, and for every other row why there is none."""

from __future__ import annotations

from pathlib import Path

from tests.faults.rows import ROWS
from tests.faults.table import BEGIN, DOCUMENT, END, rows_of

TESTS = Path(__file__).parents[1]


def documented():
    """Row number to its cells in the document."""
    table = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    lines = [line for line in table.splitlines() if line.startswith("| F")]
    return {int(line[3:5]): [cell.strip() for cell in line.strip("|").split("|")] for line in lines}


def rows_with_tests():
    """Every row that a test is named after, by its function or by the id of a parameter."""
    names = set()
    for path in TESTS.rglob("test_*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            named = line.startswith(("def test_", "async def test_")) or "ids=" in line
            if named or (path.name == "test_simulated.py" and line.startswith('    "f')):
                names |= rows_of(line.replace('"', " "))
    return names


def test_the_table_has_every_row_in_order():
    assert [row.number for row in ROWS] == list(range(1, 71))
    for number, cells in documented().items():
        row = ROWS[number - 1]
        assert (cells[1], cells[2], cells[-2]) == (row.fault, " ".join(row.levels), row.without), number
    assert len(documented()) == len(ROWS)


def test_the_table_claims_exactly_what_tests_exist_for():
    """``make faults ARGS=--write`` brings it up to date."""
    claimed = {number for number, cells in documented().items() if "holds" in cells[3:7]}
    assert claimed == rows_with_tests()
    assert not [number for number, cells in documented().items() if "red" in cells[3:7]]


def test_a_row_without_a_test_says_why():
    for number, cells in documented().items():
        assert "holds" in cells[3:7] or cells[-1], number
