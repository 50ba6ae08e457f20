"""The mutants of money are of today's source, and the table in the docs names each of them."""

from __future__ import annotations

import ast
import re
import shutil

import pytest

from tests.money.mutants import MUTANTS, ROWS
from tests.money.table import BEGIN, DOCUMENT, END, ROOT, exists, table, take_away


def rows_of(test):
    """The rows that a test is named after; ``test_m02_`` is of M2."""
    letters = re.findall(r"(?<![a-z0-9])([mf])(\d\d?)(?![a-z0-9])", test.rpartition("::")[2])
    return {f"M{int(number)}" if letter == "m" else f"F{number}" for letter, number in letters}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: f"{each.row}: {each.protection}")
def test_a_mutant_is_a_program_without_a_protection_that_is_there(mutant, tmp_path):
    for piece in mutant.pieces:
        (tmp_path / piece.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / piece.path, tmp_path / piece.path)
    take_away(mutant, tmp_path)
    for piece in mutant.pieces:
        if piece.path.endswith(".py"):
            ast.parse((tmp_path / piece.path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: f"{each.row}: {each.protection}")
def test_a_mutant_names_a_test_that_is_there_and_bears_its_row(mutant):
    assert exists(mutant.test)
    assert mutant.row in rows_of(mutant.test)


def test_every_row_of_money_is_in_the_table_with_each_of_its_mutants_red():
    """``make money-mutate ARGS=--write`` brings it up to date."""
    told = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip().splitlines()
    assert told == list(table([(mutant, "red") for mutant in MUTANTS]))


def test_a_row_without_a_test_is_told_as_such():
    lines = list(table([]))[2:]
    assert [line.split(" ")[1] for line in lines] == [row.name for row in ROWS]
    assert all("no test yet" in line for line in lines)
