"""The rows of money, and for each the protections that are taken away, as literal lists."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """What must hold; ``name`` is how tests are named after it."""

    name: str
    promise: str


class Piece(NamedTuple):
    """A piece of source, which stands there once, and what stands there without the protection."""

    path: str
    source: str
    instead: str


class Mutant(NamedTuple):
    """A protection of a row, the pieces of source that are it, and the test that misses it."""

    row: str
    protection: str
    pieces: tuple[Piece, ...]
    test: str


ROWS = (
    Row("M1", "amounts are whole fen, bounded, no floats"),
    Row("M2", "every posting and the whole book come to nothing"),
    Row("M3", "shares sum to the commission, none is negative, each is less than a fen off"),
    Row("M4", "no listing decides"),
    Row("M5", "a posting id posts once; other content is a conflict"),
    Row("M6", "nothing is edited: a correction is a reversal, linked, once"),
    Row("M7", "a full refund leaves nobody anything"),
    Row("M8", "no more is given back than was sold; what was paid is owed"),
    Row("M9", "pending, earned, settled, paid: each step in its time, once"),
    Row("M10", "a posting carries what it follows from, and is sealed"),
    Row("M11", "a closed period takes nothing"),
    Row("M12", "balances follow from the postings alone"),
    Row("M13", "an old sale is refunded by the rules it was sold under"),
    Row("M14", "who adjusts gives a reason, and above a limit needs a second person"),
    Row("F08", "kill of the ledger between post and publish: one posting"),
    Row("F42", "same identity, other content: conflict"),
    Row("F65", "refund before sale, partial > sale, double: parked, refused, one"),
    Row("F66", "period closed while a refund arrives: posted to the open one, linked"),
)

_ENTRIES, _LEDGER = "router/rules/money/entries.py", "router/ledger/ledger.py"
_CARRYING, _COMMANDS = "router/ledger/carrying.py", "router/ledger/commands.py"
_LINES = "router/rules/money/lines.py"
_POSTINGS, _BOOK = "router/rules/money/postings.py", "router/rules/money/book.py"
_LOT, _ENTITLED, _POST = (
    "router/rules/money/allotment.py",
    "router/rules/money/entitlement.py",
    "router/state/post.lua",
)
_SPLITS, _SALES = "tests/test_commission_splitting.py::", "tests/test_ledger.py::"
_CRASHES = "tests/test_ledger_crashes.py::"
_REVERSALS = "tests/test_ledger_reversals.py::"

MUTANTS = (
    Mutant(
        "M1",
        "an amount of another type is refused",
        (
            Piece(
                _ENTITLED,
                "type(commission_fen) is not int or ",
                "",
            ),
        ),
        _SPLITS + "test_m1_money_is_whole_fen_up_to_the_largest_amount_and_nothing_else",
    ),
    Mutant(
        "M1",
        "amounts have a largest one",
        (
            Piece(
                "topics/fields.py",
                "AmountFen = Annotated[int, Meta(ge=0, le=INTEGER_MAX, ",
                "AmountFen = Annotated[int, Meta(ge=0, ",
            ),
        ),
        _SPLITS + "test_m1_money_is_whole_fen_up_to_the_largest_amount_and_nothing_else",
    ),
    Mutant(
        "M2",
        "lines that do not sum to zero are no posting",
        (
            Piece(
                "topics/commissions.py",
                "        if total:\n",
                "        if False:\n",
            ),
        ),
        "tests/test_topics.py::test_m02_a_posting_that_does_not_sum_to_zero_is_refused",
    ),
    Mutant(
        "M2",
        "the group's side of every sale",
        (
            Piece(
                _LINES,
                "    return _lines({(COMMISSION, GROUP, GROUP): -fen} | _pending(",
                "    return _lines(_pending(",
            ),
        ),
        _SALES + "test_m2_every_posting_and_the_whole_book_come_to_nothing_at_every_point",
    ),
    Mutant(
        "M3",
        "parts are cut from one whole",
        (
            Piece(
                _LOT,
                "            before = upto\n",
                "            before = whole\n",
            ),
        ),
        _SPLITS + "test_m3_shares_sum_to_the_base_none_is_negative_and_each_is_less_than_a_fen_off",
    ),
    Mutant(
        "M4",
        "claims come in the order of roles and ids, and are laid out by a hash",
        (
            Piece(
                _LOT,
                "sorted(weights, key=lambda key: (_drawn(seed, *key), key))",
                "list(weights)",
            ),
            Piece(
                "router/rules/money/attribution.py",
                (
                    "    claims = sorted(_with_deeds(past, claims), key=lambda claim: "
                    "(claim.role, claim.party))\n"
                ),
                "    claims = [*_with_deeds(past, claims)]\n",
            ),
        ),
        _SPLITS + "test_m4_no_listing_decides",
    ),
    Mutant(
        "M5",
        "the bytes that are kept are compared",
        (
            Piece(
                _POST,
                "      if not same then return 'conflict' end\n",
                "",
            ),
        ),
        _CRASHES + "test_m5_the_script_gives_a_repeat_the_bytes_that_it_keeps_and_refuses_other_content",
    ),
    Mutant(
        "M5",
        "a repeat is told what was posted",
        (
            Piece(
                _POST,
                "  if #before > 0 then return 'repeat', before end\n",
                "",
            ),
        ),
        _CRASHES + "test_m5_the_script_gives_a_repeat_the_bytes_that_it_keeps_and_refuses_other_content",
    ),
    Mutant(
        "M6",
        "a reversal names what it reverses",
        (
            Piece(
                _ENTRIES,
                '(*cause, "base"), lines=lines, reverses=based)',
                '(*cause, "base"), lines=lines)',
            ),
        ),
        _SALES + "test_m6_a_correction_is_a_posting_of_its_own_that_names_what_it_reverses",
    ),
    Mutant(
        "M6",
        "a reversal of anything but its own sale is named",
        (
            Piece(
                _BOOK,
                "        if posting.reverses != wanted:\n",
                "        if False:\n",
            ),
        ),
        _REVERSALS + "test_m6_a_reversal_in_the_book_of_anything_but_its_own_sale_is_named[reversal-base]",
    ),
    Mutant(
        "M7",
        "what remains is shared, not what is given back",
        (
            Piece(
                _LINES,
                (
                    "    wanted = {(role, party): fen for (_, role, party), fen in "
                    "_pending(of.shared(left)).items()}\n"
                ),
                (
                    "    wanted = defaultdict(int)\n"
                    "    for (_, role, party), fen in before.items():\n"
                    "        wanted[role, party] += fen\n"
                    "    for share in of.shared(refunds[-1].commission_fen):\n"
                    "        wanted[share.role, share.party] -= share.fen\n"
                ),
            ),
        ),
        _SALES + "test_m7_a_full_refund_in_parts_leaves_nobody_anything_before_and_after_it_vests",
    ),
    Mutant(
        "M8",
        "refunds are added up and compared with the sale",
        (
            Piece(
                _ENTRIES,
                "        if back > sale[name]:\n",
                "        if False:\n",
            ),
        ),
        _SALES + "test_m8_refunds_above_the_sale_are_refused_whichever_amount_is_exceeded",
    ),
    Mutant(
        "M8",
        "what was paid becomes a debt",
        (
            Piece(
                _LINES,
                '    out["receivable"] -= less  #',
                '    out["paid"] -= less  #',
            ),
        ),
        _SALES + "test_m8_what_is_given_back_after_the_payout_is_owed_and_paid_stays_what_was_paid",
    ),
    Mutant(
        "M9",
        "nothing vests before its time",
        (
            Piece(
                _ENTRIES,
                "    if at_ms < standing.vests_ms:\n",
                "    if False:\n",
            ),
        ),
        _SALES + "test_m9_nothing_vests_before_its_time_whoever_asks",
    ),
    Mutant(
        "M9",
        "what has vested does not vest again",
        (
            Piece(
                _ENTRIES,
                "if not standing.digest or standing.vested or standing.frozen:",
                "if not standing.digest or standing.frozen:",
            ),
        ),
        _SALES + "test_m9_pending_is_earned_after_the_rights_window_and_each_step_is_made_once",
    ),
    Mutant(
        "M9",
        "nothing is paid of an open period",
        (
            Piece(
                _COMMANDS,
                " or period >= (await self.carrier.money.heads([brand]))[brand].since",
                "",
            ),
        ),
        _SALES + "test_m9_nothing_is_paid_of_a_period_that_is_not_closed",
    ),
    Mutant(
        "M10",
        "the digest of a posting",
        (
            Piece(
                _BOOK,
                "        if posting.digest != digest:\n",
                "        if False:\n",
            ),
        ),
        _CRASHES + "test_m10_whichever_byte_of_a_posting_is_flipped_its_posting_is_named",
    ),
    Mutant(
        "M10",
        "the seal of a period chains its postings",
        (
            Piece(
                _POSTINGS,
                '        chain = sha256(f"{chain}/{seq}/{digest}".encode()).hexdigest()\n',
                "        chain = sha256(chain.encode()).hexdigest()\n",
            ),
        ),
        _CRASHES + "test_m10_m11_a_posting_that_is_taken_out_or_swapped_breaks_the_seal",
    ),
    Mutant(
        "M11",
        "what is late is posted to the open period, and the script takes nothing else",
        (
            Piece(
                _POSTINGS,
                "max(month(at_ms, self.utc_offset_h), self.since)",
                "month(at_ms, self.utc_offset_h)",
            ),
            Piece(
                _POST,
                "    elseif not restore and post.period < open then\n      return 'stale'\n",
                "",
            ),
        ),
        _SALES + "test_m11_a_closed_period_takes_nothing_and_its_seal_stands_in_the_book",
    ),
    Mutant(
        "M12",
        "balances move with the posting, in one step",
        (
            Piece(
                _POST,
                ("    for _, each in ipairs(change.bumps) do bump(KEYS[each[1]], each[2], each[3]) end\n"),
                "",
            ),
        ),
        _SALES + "test_m12_balances_at_any_time_follow_from_the_postings_and_are_what_redis_holds",
    ),
    Mutant(
        "M13",
        "a refund goes by what its sale was sold under",
        (
            Piece(
                _CARRYING,
                "            if not read(held[whose].text).digest\n",
                "",
            ),
            Piece(
                _LEDGER,
                "record, partial(_given_back, order, record))",
                "record, partial(_given_back, order, record), order)",
            ),
            Piece(
                _LEDGER,
                (
                    "standing: Standing, inputs: Inputs, _: Inputs | None\n"
                    ") -> Change:\n"
                    "    if not standing.digest:\n"
                    "        return park"
                ),
                (
                    "standing: Standing, inputs: Inputs, now: Inputs | None\n"
                    ") -> Change:\n"
                    '    inputs = {**(now or {}), **({"order": inputs["order"]} if inputs else {})}\n'
                    "    if not standing.digest:\n"
                    "        return park"
                ),
            ),
        ),
        _SALES + "test_m13_an_old_sale_is_given_back_by_the_rules_that_it_was_sold_under",
    ),
    Mutant(
        "M14",
        "a reason",
        (
            Piece(
                _ENTRIES,
                "    if not command.reason or not command.reason.strip():\n",
                "    if False:\n",
            ),
        ),
        _SALES + "test_m14_an_adjustment_has_a_reason_and_above_a_limit_a_second_person",
    ),
    Mutant(
        "M14",
        "a second person",
        (
            Piece(
                _ENTRIES,
                "command.checker in {None, command.actor}",
                "command.checker is None",
            ),
        ),
        _SALES + "test_m14_an_adjustment_has_a_reason_and_above_a_limit_a_second_person",
    ),
    Mutant(
        "F08",
        "a repeat publishes the stored bytes",
        (
            Piece(
                _CARRYING,
                "            again += [(those[0].brand, name) for name in change.again]\n",
                "",
            ),
        ),
        _CRASHES + "test_f08_whoever_dies_between_post_publish_and_acknowledge_leaves_one_posting",
    ),
    Mutant(
        "F08",
        "what was not published goes out before the next command",
        (
            Piece(
                _LEDGER,
                "            await self.carrier.publish([(brand, value) for value in left])\n",
                "",
            ),
        ),
        _CRASHES + "test_f08_a_close_that_was_cut_short_is_finished_by_the_next[1-post-True]",
    ),
    Mutant(
        "F42",
        "the digest of a sale is compared",
        (
            Piece(
                _ENTRIES,
                "standing.digest and standing.digest != digest_of_sale(sale)",
                "False",
            ),
        ),
        _SALES + "test_m5_f42_the_same_order_with_other_content_is_a_conflict",
    ),
    Mutant(
        "F42",
        "the content of a refund is compared",
        (
            Piece(
                _ENTRIES,
                "        if before != refund:\n",
                "        if False:\n",
            ),
        ),
        _SALES + "test_f42_the_same_refund_with_other_content_is_a_conflict_parked_or_not",
    ),
    Mutant(
        "F65",
        "a refund that comes first waits",
        (
            Piece(
                _LEDGER,
                (
                    "    if not standing.digest:\n"
                    "        return park(order.order_id, standing, parked_of(order, record))\n"
                ),
                ("    if not standing.digest:\n        return Change(order.order_id, standing)\n"),
            ),
        ),
        _SALES + "test_f65_a_refund_before_its_sale_waits_for_it",
    ),
    Mutant(
        "F65",
        "what waited is held against the sale as any other",
        (
            Piece(
                _ENTRIES,
                "        if back > sale[name]:\n",
                "        if False:\n",
            ),
        ),
        _SALES + "test_f65_what_a_sale_does_not_bear_of_the_refunds_before_it_is_refused_with_its_own_bytes",
    ),
    Mutant(
        "F65",
        "what waited and is refused is told before anything is posted",
        (
            Piece(
                _CARRYING,
                "            await self.publisher.publish(self.outbox.dead_letters(waited))\n",
                "            pass\n",
            ),
        ),
        _CRASHES + "test_f08_f65_a_refund_that_waited_for_a_smaller_sale_is_told_whoever_dies[post-True]",
    ),
    Mutant(
        "F65",
        "a refund id counts once",
        (
            Piece(
                _ENTRIES,
                "    if (before := known.get(refund.refund_id)) is not None:\n",
                "    if (before := None):\n",
            ),
        ),
        _SALES + "test_f65_a_refund_that_comes_twice_is_one",
    ),
    Mutant(
        "F66",
        "what is late is posted to the open period, and the script takes nothing else",
        (
            Piece(
                _POSTINGS,
                "max(month(at_ms, self.utc_offset_h), self.since)",
                "month(at_ms, self.utc_offset_h)",
            ),
            Piece(
                _POST,
                "    elseif not restore and post.period < open then\n      return 'stale'\n",
                "",
            ),
        ),
        _SALES + "test_f66_m11_a_refund_after_the_close_goes_to_the_open_period_and_names_its_sale",
    ),
)
