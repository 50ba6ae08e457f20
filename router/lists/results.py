"""What became of the rows of a list, one line for each."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from router.errors import ConfigError
from router.lists.rows import Row
from topics.assignments import FINAL_STATES, LIVE_STATES, Assignment

Outcome = Literal["assigned", "waiting", "closed", "refused", "unanswered"]
#: The outcomes by which the router has taken a row on, or has done with it.
ANSWERED: tuple[Outcome, ...] = ("assigned", "waiting", "closed")
OUTCOMES: tuple[Outcome, ...] = (*ANSWERED, "refused", "unanswered")
COLUMNS = ("line", "member_id", "lead_id", "outcome", "guide_id", "store_id", "queue", "score", "reason")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one row, as far as it is known."""

    outcome: Outcome = "unanswered"
    guide_id: str = ""
    store_id: str = ""
    queue: str = ""
    score: float | str = ""
    reason: str = ""


def result_of(made: Assignment) -> Result | None:
    """What a record says; None for a state of a moment, which another record follows."""
    reason = made.reason or ""
    if made.merged_into:
        reason = f"asks for the same as {made.merged_into}, which is open"
    if made.state in LIVE_STATES:
        score = made.score if made.score is not None else ""
        return Result("assigned", made.guide_id or "", made.store_id or "", "", score, reason)
    if made.state == "waiting":
        return Result("waiting", queue=made.queue or "", reason=reason)
    if made.state in FINAL_STATES:
        return Result("closed", made.guide_id or "", made.store_id or "", reason=reason or made.state)
    return None


def results(rows: Iterable[Row], answers: Mapping[str, Result], unanswered: str) -> list[tuple[Row, Result]]:
    """Each row with its result; ``unanswered`` says why one may have none."""
    silent = Result(reason=unanswered)
    return [
        (row, Result("refused", reason=row.reason) if row.lead is None else answers.get(row.lead_id, silent))
        for row in rows
    ]


def counts(found: Iterable[Result]) -> dict[Outcome, int]:
    """How many of each outcome, in the order of ``OUTCOMES``."""
    counted = Counter(result.outcome for result in found)
    return {outcome: counted[outcome] for outcome in OUTCOMES}


def write(path: Path, found: Iterable[tuple[Row, Result]]) -> None:
    """Write the result file, whole or not at all.

    Raises:
        ConfigError: it cannot be written.

    """
    beside = path.with_name(f"{path.name}.new")
    try:
        with beside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for row, made in found:
                where = (made.guide_id, made.store_id, made.queue, made.score)
                writer.writerow((row.line, row.member_id, row.lead_id, made.outcome, *where, made.reason))
        beside.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
