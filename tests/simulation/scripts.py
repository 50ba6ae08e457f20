"""What each script of router/state does, once more in Python: held to the real ones by shared cases.

``db`` is a ``Keyspace``, ``keys`` are names, ``args`` bytes; answers are what redis-py would return.
"""

from __future__ import annotations

from redis.exceptions import ResponseError

from scoring.fairness import claimed

MARK, TOKEN = b"|", b"|t"
CLOCK = b"|"


def bind(db, keys, args):
    out = []
    for i, key in enumerate(keys):
        read, *fields = args[5 * i : 5 * i + 5]
        same = (db.hget(key, b"facts") or b"") == read
        if same:
            db.hset(key, dict(zip((b"facts", b"owner", b"owner_at", b"loan"), fields, strict=True)))
        out.append(int(same))
    return out


def claim(db, keys, args):
    opened, capacity, waiting, changes, turns, *leads = keys
    remember_ms, most, marked, horizon, *rest = args
    mark = db.hget(capacity, MARK)
    if marked and (mark is None or marked not in {b"?", mark}):
        raise ResponseError(f"NOSTATE no such mark in {capacity}")
    chosen = set()
    out = [
        _claim(db, (opened, capacity, waiting, turns, key), (remember_ms, int(horizon)), ask, chosen)
        for key, ask in zip(leads, zip(*[iter(rest)] * 4, strict=True), strict=True)
    ]
    if chosen:
        _tell(db, (opened, capacity, changes, turns), most, {*chosen, CLOCK})
    return out


def _claim(db, keys, terms_of_all, ask, chosen):
    opened, capacity, waiting, turns, key = keys
    remember_ms, horizon = terms_of_all
    lead, digest, shortlist, rest = ask
    held = db.hgetall(key)
    if held:
        result = b"replay" if held[b"d"] == digest else b"conflict"
        return [result, int(held[b"q"]), int(held[b"n"]), held[b"a"]]
    arrival, queue, terms = rest.split(b" ", 2)
    state, start, choice = b"waiting", 0, queue
    for entry in shortlist.split():
        guide, step = entry.split(b"|")[:2]
        if _room(db, opened, capacity, guide) > 0:
            db.zadd(opened, guide + b"|" + lead, 0)
            chosen.add(guide)
            turn, clock = (int(db.hget(turns, name) or 0) for name in (guide, CLOCK))
            made = claimed(turn, clock, int(step), horizon)
            db.hset(turns, {guide: b"%d" % made.turn, CLOCK: b"%d" % made.clock})
            state, start, choice = b"offered", made.start, entry
            break
    else:
        db.zadd(waiting, queue + b"|" + lead, float(arrival))
    attempt = int(state == b"offered")
    answer = b" ".join((state, terms, b"%d" % start, choice))
    db.hset(key, {b"s": state, b"q": b"1", b"n": b"%d" % attempt, b"a": answer, b"d": digest})
    db.pexpire(key, remember_ms)
    return [b"ok" if attempt else b"waiting", 1, attempt, answer]


def _room(db, opened, capacity, guide):
    held = db.hget(capacity, guide)
    return int(held.split(b":")[1]) - _load(db, opened, guide) if held else 0


def _load(db, opened, guide):
    return db.zlexcount(opened, guide + b"|", guide + b"}")


def _tell(db, keys, most, names):
    opened, capacity, changes, turns = keys
    mark = db.hget(capacity, MARK)
    if mark and names:
        news = [b"%b %d %b" % (name, _load(db, opened, name), db.hget(turns, name) or b"0") for name in names]
        db.xadd(changes, {b"g": b" ".join(sorted(news))}, int(most), mark=int(mark))


def restore(db, keys, args):
    opened, capacity, waiting, changes, turns, *leads = keys
    moved, changed = set(), 0
    for i, key in enumerate(leads):
        lead, state, seq, attempt, answer, digest, guide, arrival, turn = args[2 + 9 * i : 11 + 9 * i]
        held = db.hgetall(key)
        known, before = int(held.get(b"q", 0)), held.get(b"a")
        if known < int(seq) or (known == int(seq) and (before, held[b"d"]) != (answer, digest)):
            if before is not None:
                moved |= _release(db, opened, waiting, lead + b" " + before)
            db.hset(key, {b"s": state, b"q": seq, b"n": attempt, b"a": answer, b"d": digest})
            db.pexpire(key, args[0])
            changed += 1
        if known <= int(seq):
            member = guide + b"|" + lead
            if guide:
                if member not in db.hgetall(opened):
                    moved.add(guide)
                db.zadd(opened, member, 0)
            elif state == b"waiting":
                db.zadd(waiting, answer.rpartition(b" ")[2] + b"|" + lead, float(arrival))
        moved |= _raise_turns(db, turns, turn)
    _tell(db, (opened, capacity, changes, turns), args[1], moved)
    return changed


def _raise_turns(db, turns, turn):
    """Raise the turn of a guide and the clock; whose number has changed."""
    moved = set()
    if turn:
        whose, start, end = turn.split(b" ")
        for name, to in ((whose, end), (CLOCK, start)):
            if int(db.hget(turns, name) or -1) < int(to):
                db.hset(turns, {name: to})
                moved.add(name)
    return moved


def _release(db, opened, waiting, lead_and_answer):
    """Give back what an answer occupies; the guides whose load it changes."""
    lead, state, *_, choice = lead_and_answer.split(b" ")
    if state == b"waiting":
        db.zrem(waiting, choice + b"|" + lead)
        return set()
    guide = choice.partition(b"|")[0]
    return {guide} if db.zrem(opened, guide + b"|" + lead) else set()


def changes(db, keys, args):
    out = []
    for capacity, key, place in zip(keys[::2], keys[1::2], args, strict=True):
        if db.hget(capacity, MARK) is None:
            raise ResponseError(f"NOSTATE no mark in {capacity}")
        entries = db.xrange(key)
        newest = entries[-1][0] if entries else (int(db.hget(capacity, MARK)), -1)
        known = tuple(map(int, place.split(b"-", 1))) if place else None
        news = [fields[b"g"] for at, fields in entries if known and known < at]
        text = b"%d-%d" % newest
        if known == newest:
            out.append(text)
        elif not known or known[0] != newest[0] or not news or len(news) < newest[1] - known[1]:
            out.append(text + b" gap")
        else:
            out.append(b" ".join((text, *news)))
    return out


def mark(db, keys, args):
    action, *tokens = args
    out = []
    for capacity, changes, token in zip(keys[::2], keys[1::2], tokens, strict=True):
        if action == b"begin" and db.hget(capacity, TOKEN) is None:
            db.hset(capacity, {TOKEN: token})
        same = db.hget(capacity, TOKEN) == token
        if action == b"end" and same and db.hget(capacity, MARK) is None:
            db.hset(capacity, {MARK: b"%d" % db.now_ms()})
            db.delete(changes)
        if action == b"begin":
            out.append(db.hget(capacity, TOKEN))
        else:
            out.append((db.hget(capacity, MARK) or b"") if action == b"ask" or same else b"")
    return out


def members(db, keys, args):
    assert not args
    out = [db.now_ms()]
    for key, acts in zip(keys[::2], keys[1::2], strict=True):
        owner, since, loan = (db.hget(key, name) for name in (b"owner", b"owner_at", b"loan"))
        done = [part for name, at in reversed(db.zrange(acts, 0, -1)) for part in (name, b"%d" % at)]
        text = b"|".join((owner or b"", since or b"", loan or b"||"))
        out.append(b" ".join((text, *done)) if owner is not None or done else b"")
    return out


def touch(db, keys, args):
    keep_ms, guides_max, contacts_max, track_max, *rest = args
    three, five = zip(*[iter(keys)] * 3, strict=True), zip(*[iter(rest)] * 5, strict=True)
    for (acts, contacts, track), (at, entry, actor, contact, came_in) in zip(three, five, strict=True):
        _latest(db, track, entry, at, keep_ms=keep_ms, most=int(track_max))
        if contact:
            _latest(db, contacts, contact, at, keep_ms=keep_ms, most=int(contacts_max))
        if came_in == b"1":
            _latest(db, acts, b"|", at, keep_ms=keep_ms)
        if actor:
            _latest(db, acts, actor, at, keep_ms=keep_ms)
            guides = [name for name, _ in db.zrange(acts, 0, -1) if name != b"|"]
            for name in guides[: -int(guides_max)]:
                db.zrem(acts, name)


def _latest(db, key, name, at, *, keep_ms=None, most=0):
    """The later time of a name counts; the ``most`` latest names are kept."""
    db.zadd(key, name, max(int(at), db.hgetall(key).get(name, 0)))
    for older, _ in db.zrange(key, 0, -1)[:-most] if most else ():
        db.zrem(key, older)
    if keep_ms is not None:
        db.pexpire(key, keep_ms)


def window(db, keys, args):
    action, *rest = args
    for key, member, at in zip(keys, rest[::2], rest[1::2], strict=True):
        if action == b"open":
            _latest(db, key, member, at)
        elif db.hgetall(key).get(member) == int(at):
            db.zrem(key, member)


def remind(db, keys, args):
    now, day, *rest = args
    out = []
    for key, lead, most in zip(keys, rest[::2], rest[1::2], strict=True):
        for name, at in db.zrange(key, 0, -1):
            if at <= int(now) - int(day):
                db.zrem(key, name)
        held = db.hgetall(key)
        through = lead in held or len(held) < int(most)
        if through and lead not in held:
            db.zadd(key, lead, int(now))
            db.pexpire(key, day)
        out.append(int(through))
    return out


def fix_cells(db, keys, args):
    remember_ms, overrule, *cells = args
    out = [db.now_ms()]
    for key, cell in zip(keys, cells, strict=True):
        if overrule == b"1" or not db.exists(key):
            db.set(key, cell)
            db.pexpire(key, remember_ms)
        out.append(db.get(key))
    return out


def inbox(db, keys, args):
    keep_ms, feed_max, *cards = args
    fresh = 0
    for i in range(len(keys) // 2):
        box, feed = keys[2 * i : 2 * i + 2]
        lead, seq, offset, record, live = cards[5 * i : 5 * i + 5]
        known, at, shown = (db.hget(box, lead) or b"0|0|").split(b"|", 2)
        if (int(seq), -int(offset)) <= (int(known), -int(at)):
            continue
        card = record if live == b"1" else b""
        db.hset(box, {lead: b"|".join((seq, offset, card))})
        if int(seq) > int(known) or card != shown:
            db.xadd(feed, {b"record": record}, int(feed_max))
            db.pexpire(box, keep_ms)
            db.pexpire(feed, keep_ms)
            fresh += 1
    return fresh


def journey(db, keys, args):
    keep_ms, *asked = args
    out = []
    for i, key in enumerate(keys):
        seq, offset, record = asked[3 * i : 3 * i + 3]
        held = db.hget(key, seq)
        if held is None:
            db.pexpire(key, keep_ms)
        if held is None or int(offset) < int(held.split(b"|")[0]):
            db.hset(key, {seq: offset + b"|" + record})
        out.append(db.hget(key, seq))
    return out


def set_capacity(db, keys, args):
    taken = 0
    for i in range(len(args) // 3):
        guide, version, capacity = args[3 * i : 3 * i + 3]
        held = db.hget(keys[0], guide)
        if held is None or int(version) >= int(held.split(b":")[0]):
            db.hset(keys[0], {guide: version + b":" + capacity})
            taken += 1
    return taken


#: By the name that ``Call.script`` gives; the shared cases ask for one of each in router.state.redis.SCRIPTS.
SCRIPTS = {
    each.__name__: each
    for each in (
        bind,
        changes,
        claim,
        fix_cells,
        inbox,
        journey,
        mark,
        members,
        remind,
        restore,
        set_capacity,
        touch,
        window,
    )
}
