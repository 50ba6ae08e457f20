"""Whom or what an id is of: guides, stores, partners and regions may bear the same one."""

from __future__ import annotations

from collections.abc import Iterable

from router.rules.money.evidence import holder
from router.rules.money.postings import COMMISSION
from router.rules.money.standing import place_of
from topics.commissions import Posting

#: What an id may be of; the word stands before it where it is of several: ``store:1001``.
NUMBERINGS = ("guide", "store", "partner", "region")


class AmbiguousError(Exception):
    """A name that stands for several in the book; the message says what to write instead."""


def meant(postings: Iterable[Posting], name: str) -> tuple[str, str]:
    """Of which numbering a name is, and the id alone.

    Raises:
        AmbiguousError: the name is an id alone, and of several in these postings.

    """
    if (bare := id_of(name)) != name:
        return name.removesuffix(f":{bare}"), bare
    found = _bearers(postings, name)
    if len(found) > 1:
        ways = " or ".join(f"{each}:{name}" for each in found)
        raise AmbiguousError(f"{name} is {', '.join(f'a {each}' for each in found)}: write {ways}")
    return next(iter(found), "guide"), name


def id_of(name: str) -> str:
    """The id in a name that may have the word of its numbering before it."""
    word, _, rest = name.partition(":")
    return rest if rest and word in NUMBERINGS else name


def _bearers(postings: Iterable[Posting], name: str) -> list[str]:
    found: set[str] = set()
    for posting in postings:
        for line in posting.lines:
            if line.account != COMMISSION:
                store, region = place_of(posting.inputs.get("parties", {}), line)
                found |= {holder(line.role)} if line.party == name else set()
                found |= {kind for kind, at in (("store", store), ("region", region)) if at == name}
    return [each for each in NUMBERINGS if each in found]
