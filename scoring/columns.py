"""Columns of a roster by name: made, lengthened, written into."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from scoring.arrays import Rows
from scoring.layout import GuideTable
from scoring.roster import Roster

#: Columns of skills come by so many.
_TAGS_STEP = 8


def resize(roster: Roster, names: Iterable[str], used: int, more: int) -> None:
    """Make room for more rows behind the used ones; new rows are 0."""
    for name in names:
        column = getattr(roster, name)
        if used + more > len(column):
            setattr(roster, name, _grown(column, 2 * used + more + 8, column.shape[1:]))


def write(roster: Roster, columns: dict[str, Any], rows: Rows) -> None:
    """Write columns into rows."""
    for name, values in columns.items():
        getattr(roster, name)[rows] = values


def write_skills(roster: Roster, table: GuideTable, row: Rows) -> None:
    """Write the skills of guides into their rows; a row of -1 is nobody's."""
    widen_skills(roster)
    roster.guide_skills[row[row >= 0]] = 0
    at = row[table.skill_guide]
    known = at >= 0
    roster.guide_skills[at[known], table.skill_tag[known]] = table.skill_bits[known]


def widen_skills(roster: Roster) -> None:
    """Have a column for every tag, and the last one for none."""
    skills = roster.guide_skills
    if len(roster.tags) >= skills.shape[1]:
        width = -(-(len(roster.tags) + 1) // _TAGS_STEP) * _TAGS_STEP
        wider = np.zeros((width, len(skills)), np.int8).T
        wider[:, : skills.shape[1]] = skills
        roster.guide_skills = wider


def _grown(column: Any, length: int, shape: tuple[int, ...]) -> Any:  # noqa: ANN401 - a column of any type
    # whole columns stand together in memory: skills are read one at a time
    grown = np.zeros((*shape[::-1], length), column.dtype).T
    grown[: len(column)] = column
    return grown
