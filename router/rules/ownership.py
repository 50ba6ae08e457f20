"""Who is responsible for a member, as far as routing asks today: the latest bind or unbind counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from router.rules.intake import Record, Refusal
from topics.bindings import Binding
from topics.codec import BadEventError, decode

#: Brand, member, since when, owner or '', the owner's cell or ''.
Bound = tuple[str, str, int, str, str]


def read_bindings(
    records: Sequence[Record], cell_of: Callable[[str, str], str]
) -> tuple[list[Bound], list[Refusal]]:
    """Decode a batch of ``bindings``; ``cell_of(brand, guide)`` is '' for a guide nobody knows."""
    bound: list[Bound] = []
    refusals: list[Refusal] = []
    for record in records:
        try:
            binding = decode(Binding, record.value)
        except BadEventError as error:
            refusals.append(Refusal(record, error.reason, error.detail))
            continue
        if binding.kind not in {"bind", "unbind"}:
            # set aside whole until lending and transfer have rules of their own
            refusals.append(Refusal(record, "unsupported", f"kind {binding.kind} is not followed yet"))
            continue
        owner = (binding.guide_id or binding.to_guide_id or "") if binding.kind == "bind" else ""
        cell = cell_of(binding.brand, owner) if owner else ""
        bound.append((binding.brand, binding.member_id, binding.occurred_at_ms, owner, cell))
    return bound, refusals
