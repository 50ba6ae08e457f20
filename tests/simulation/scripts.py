"""What each script of router/state does, once more in Python: held to the real ones by shared cases.

``db`` is a ``Keyspace``, ``keys`` are names, ``args`` bytes; answers are what redis-py would return.
"""

from __future__ import annotations

from redis.exceptions import ResponseError


def bind(db, keys, args):
    changed = 0
    for i, key in enumerate(keys):
        at, owner, cell = args[3 * i : 3 * i + 3]
        if int(at) > int(db.hget(key, b"owner_at") or -1):
            db.hset(key, {b"owner": owner, b"owner_cell": cell, b"owner_at": at})
            changed += 1
    return changed


def claim(db, keys, args):
    opened, capacity, waiting, *leads = keys
    asked = [args[1 + 4 * i : 5 + 4 * i] for i in range(len(leads))]
    if not db.exists(capacity) and any(shortlist for _, _, shortlist, _ in asked):
        raise ResponseError(f"NOSTATE no capacities in {capacity}")
    return [
        _claim(db, (opened, capacity, waiting, key), args[0], ask)
        for key, ask in zip(leads, asked, strict=True)
    ]


def _claim(db, keys, remember_ms, ask):
    opened, capacity, waiting, key = keys
    lead, digest, shortlist, rest = ask
    held = db.hgetall(key)
    if held:
        result = b"replay" if held[b"d"] == digest else b"conflict"
        return [result, int(held[b"q"]), int(held[b"n"]), held[b"a"]]
    arrival, queue, terms = rest.split(b" ", 2)
    state, choice = b"waiting", queue
    for entry in shortlist.split():
        guide = entry.split(b"|")[0]
        if _room(db, opened, capacity, guide) > 0:
            db.zadd(opened, guide + b"|" + lead, 0)
            state, choice = b"offered", entry
            break
    else:
        db.zadd(waiting, queue + b"|" + lead, float(arrival))
    attempt = int(state == b"offered")
    answer = b" ".join((state, terms, choice))
    db.hset(key, {b"s": state, b"q": b"1", b"n": b"%d" % attempt, b"a": answer, b"d": digest})
    db.pexpire(key, remember_ms)
    return [b"ok" if attempt else b"waiting", 1, attempt, answer]


def _room(db, opened, capacity, guide):
    held = db.hget(capacity, guide)
    return int(held.split(b":")[1]) - db.zlexcount(opened, guide + b"|", guide + b"}") if held else 0


def fix_cells(db, keys, args):
    remember_ms, *asked = args
    out = db.time()
    for i in range(len(keys) // 2):
        member, fixed = keys[2 * i : 2 * i + 2]
        cell, owner_first = asked[2 * i : 2 * i + 2]
        owner_cell = db.hget(member, b"owner_cell")
        if not db.exists(fixed):
            db.set(fixed, owner_cell if owner_first == b"1" and owner_cell else cell)
            db.pexpire(fixed, remember_ms)
        out += [db.get(fixed), db.hget(member, b"owner") or b""]
    return out


def inbox(db, keys, args):
    keep_ms, feed_max, *cards = args
    fresh = 0
    for i in range(len(keys) // 2):
        box, feed = keys[2 * i : 2 * i + 2]
        lead, seq, record, live = cards[4 * i : 4 * i + 4]
        held = db.hget(box, lead)
        if int(seq) > (int(held.split(b"|")[0]) if held else 0):
            db.hset(box, {lead: seq + b"|" + (record if live == b"1" else b"")})
            db.xadd(feed, {b"record": record}, int(feed_max))
            db.pexpire(box, keep_ms)
            db.pexpire(feed, keep_ms)
            fresh += 1
    return fresh


def journey(db, keys, args):
    keep_ms, *asked = args
    out = []
    for i, key in enumerate(keys):
        seq, record = asked[2 * i : 2 * i + 2]
        if db.hget(key, seq) is None:
            db.hset(key, {seq: record})
            db.pexpire(key, keep_ms)
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
SCRIPTS = {each.__name__: each for each in (bind, claim, fix_cells, inbox, journey, set_capacity)}
