"""``make money-mutate``: take each protection of money away, in a copy, and show that its test turns red.

The source is never touched. ``--write`` puts the table into ``docs/assurance.md`` as well; other arguments
are words: rows whose mutants alone are run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.money.mutants import MUTANTS, ROWS

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/assurance.md"
BEGIN, END = "<!-- make money-mutate -->\n", "<!-- end of make money-mutate -->\n"
PARTS = ("bench", "router", "scoring", "tests", "topics", "pyproject.toml")
#: A test that takes longer than this without its protection is stopped, and did not turn red.
PATIENCE_S = 180
#: Tests at a time: each has a server of its own.
AT_ONCE = 2
#: How pytest ends when all passed, and when some failed; anything else is no answer.
GREEN, RED = 0, 1
#: What a mutant raises that is no program, rather than one without a protection.
BROKEN = {"AttributeError", "ImportError", "NameError", "SyntaxError", "TypeError"}
#: The same examples each time, and of those that fail the first: nobody reads it.
SAME = ("--hypothesis-seed=0", "--hypothesis-profile=first failure")


def take_away(mutant, folder):
    """Write the source without the protection.

    Raises:
        ValueError: a piece of it does not stand there exactly once.

    """
    for piece in mutant.pieces:
        path = folder / piece.path
        text = path.read_text(encoding="utf-8")
        if (times := text.count(piece.source)) != 1:
            raise ValueError(f"{mutant.row}: {piece.path} has {times} times {piece.source!r}")
        path.write_text(text.replace(piece.source, piece.instead), encoding="utf-8")


def exists(test):
    """Whether the test that a mutant names is there."""
    path, _, name = test.partition("[")[0].partition("::")
    return (ROOT / path).exists() and f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")


def outcome(tests, mutant=None):
    """What becomes of tests in a copy, with a mutant or without: pytest's exit status, and what it said."""
    with tempfile.TemporaryDirectory(prefix="money-") as folder:
        copy = Path(folder)
        for part in PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / part)
        if mutant is not None:
            take_away(mutant, copy)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "--no-header",
            "-p",
            "no:cacheprovider",
            *tests,
        ]
        # the copy stands before what is installed; a line is long enough for the reason of a failure
        environment = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "400"}
        try:
            done = subprocess.run(
                command,
                cwd=copy,
                env=environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None, f"still running after {PATIENCE_S} s"
    return done.returncode, done.stdout[-3000:] + done.stderr[-1000:]


def verdict(mutant):
    """One word for the table, and what pytest said where the word is not ``red``."""
    if not exists(mutant.test):
        return "no such test yet", ""
    try:
        status, said = outcome([mutant.test], mutant)
    except ValueError as error:
        return "no such protection", str(error)
    if status != RED:
        return ("green" if status == GREEN else "no answer"), said
    # a test that fails because the source is no program any more tells nothing
    failed = re.search(r"^FAILED \S+(?: - (\w+))?", said, re.MULTILINE)
    if failed is None or failed[1] in BROKEN:
        return "no answer", said
    return "red", ""


def table(found, rows=ROWS):
    """The table, in Markdown, from the mutants that were run and their words."""
    yield "| row | promise | taken away | where | the test | it turns |"
    yield "|---" * 6 + "|"
    for row in rows:
        mutants = [(mutant, word) for mutant, word in found if mutant.row == row.name]
        promise = row.promise
        for mutant, word in mutants:
            where = ", ".join(f"`{path}`" for path in dict.fromkeys(piece.path for piece in mutant.pieces))
            test = f"`{mutant.test.rpartition('::')[2]}`"
            yield f"| {row.name} | {promise} | {mutant.protection} | {where} | {test} | {word} |"
            promise = ""
        if not mutants:
            yield f"| {row.name} | {row.promise} | | | | no test yet |"


def write(lines):
    """Put the table between its marks in the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    DOCUMENT.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n\n" + END + after, encoding="utf-8")


def main(arguments):
    """Run, print, and return the status: not 0 when a test stays green, or is red by itself."""
    say = print
    words = {each.upper() for each in arguments if each != "--write"}
    mutants = [mutant for mutant in MUTANTS if not words or mutant.row in words]
    started_s = time.monotonic()
    tests = list(dict.fromkeys(mutant.test for mutant in mutants if exists(mutant.test)))
    status, said = outcome(tests)
    if status != GREEN:
        say(f"{said}\nthe tests are not green with every protection in its place")
        return 1
    with ThreadPoolExecutor(AT_ONCE) as pool:
        verdicts = list(pool.map(verdict, mutants))
    for mutant, (word, said) in zip(mutants, verdicts, strict=True):
        if word != "red":
            say(f"--- {mutant.row}, {mutant.protection}: {word}\n{said}")
    found = [(mutant, word) for mutant, (word, _) in zip(mutants, verdicts, strict=True)]
    lines = list(table(found, [row for row in ROWS if not words or row.name in words]))
    say("\n".join(lines))
    red = sum(word == "red" for _, word in found)
    took_s = time.monotonic() - started_s
    say(f"{red} of {len(found)} protections are missed when they are gone, {took_s:.0f} s")
    if "--write" in arguments and not words:
        write(lines)
    return int(red < len(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
