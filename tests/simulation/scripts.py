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


class Cell:
    """The keys of a cell, and what one call knows of it."""

    def __init__(self, db, names, most):
        self.db = db
        (
            self.open,
            self.capacity,
            self.waiting,
            self.changes,
            self.turns,
            self.due,
            self.records,
            self.slots,
        ) = names
        self.most = most
        self.mark = db.hget(self.capacity, MARK)
        self.touched = set()

    def load(self, guide):
        return self.db.zlexcount(self.open, guide + b"|", guide + b"}")

    def tell(self):
        """Tell all that was touched."""
        if self.mark and self.touched:
            news = [
                b"%b %d %b %b" % (name, self.load(name), self.turn(name), self.record(name))
                for name in self.touched
            ]
            fields = {b"g": b" ".join(sorted(news))}
            self.db.xadd(self.changes, fields, int(self.most), mark=int(self.mark))

    def turn(self, name):
        return self.db.hget(self.turns, name) or b"0"

    def record(self, name):
        return (name != CLOCK and self.db.hget(self.records, name)) or b"-"


FINAL = {b"won", b"lost", b"withdrawn", b"closed"}
OFFERED = {b"offered", b"delivered", b"seen"}
GIVEN_BACK = {b"declined", b"expired", b"returned"}
ANSWERS = {b"accepted", b"contacted", b"visited", b"won", b"lost", b"declined"}


def claim(db, keys, args):
    remember_ms, most, marked, rules, *rest = args
    cell = Cell(db, keys[:8], most)
    if marked == b"?" and cell.mark is None:
        raise ResponseError(f"NOTYET no mark in {cell.capacity}")
    if marked not in {b"", b"?", cell.mark}:
        raise ResponseError(f"NOSTATE no such mark in {cell.capacity}")
    rules, by_ms = rules.rsplit(b" ", 1)
    if db.now_ms() > int(by_ms):
        raise ResponseError(f"OVERDUE by {by_ms.decode()}")
    asks = zip(keys[8:], zip(*[iter(rest)] * 8, strict=True), strict=True)
    out = [_claim(cell, key, remember_ms, rules.split(b" "), ask) for key, ask in asks]
    cell.tell()
    return out


def _claim(cell, key, remember_ms, rules, ask):
    return Claim(cell, key, remember_ms, rules, ask).answer()


class Claim:
    """One lead of a call."""

    def __init__(self, cell, key, remember_ms, rules, ask):
        self.cell, self.db, self.key, self.remember_ms = cell, cell.db, key, remember_ms
        now, self.horizon, self.tiers, age_up, half_life, silent_max, pause, owner, store = rules
        self.bounds = {b"owner": int(owner), b"store": int(store)}
        self.now, self.rules = int(now), [int(each) for each in (age_up, half_life, silent_max, pause)]
        self.whom, self.digest, self.shortlist, about, self.cause, self.move, self.wanted, brought = ask
        if brought:
            self.bring(dict(line.split(b"\t") for line in brought.split(b"\n")))
        self.arrival, self.tier, self.queue, self.rung, self.policy, *self.limits = about.split(b" ")
        self.held = self.db.hgetall(key)
        self.seq = int(self.held.get(b"q", 0))
        # a restored lead may have lost its first steps
        self.steps = [self.held.get(b"%d" % seq, b" " * 9).split(b" ") for seq in range(1, self.seq + 1)]
        self.tried = {
            each[9].split(b"|")[0]
            for each in self.steps
            if each[0] in GIVEN_BACK and not each[7].startswith(b"reservation/")
        }
        self.attempt = int(self.steps[-1][1] or 0) if self.steps else 0
        self.made, self.ends, self.brought = [], None, brought

    def bring(self, fields):
        """What comes along from another cell; it may have been here before."""
        there = self.db.hgetall(self.key)
        if b"to" in there and int(there[b"q"]) < int(fields[b"q"]):
            self.db.delete(self.key)
            there = {}
        if b"q" not in there:
            self.db.hset(self.key, fields)
            self.db.pexpire(self.key, self.remember_ms)

    def answer(self):
        if self.steps and self.steps[-1][0] == b"" and b"to" in self.held:
            return [b"stale", b"", self.seq]
        before = [seq for seq, each in enumerate(self.steps, 1) if each[7] == self.cause]
        if self.steps and self.differs():
            return [b"conflict", self.steps[-1][0], self.seq]
        if before:
            made = [self.held[b"%d" % seq] for seq in before]
            return [b"replay", made[-1].split(b" ")[0], before[0], *made]
        if self.steps and self.move.startswith(b"="):
            result = b"stale"
        elif self.is_old():
            result = b"late"
        elif self.steps:
            result = self.moved()
        else:
            result = self.first() if not self.move else self.over_before(self.move)
        if self.made:
            self.keep()
        newest = self.made[-1].split(b" ") if self.made else self.steps[-1] if self.steps else [b""]
        return [result, newest[0], self.seq + bool(self.made), *self.made]

    def differs(self):
        """Whether the same lead, or version of a reservation, has come with other content."""
        if self.version is not None:
            return self.held.get(b"d%d" % self.version, self.digest) != self.digest
        return (not self.move or self.move.startswith(b"=")) and self.held.get(b"d") != self.digest

    @property
    def version(self):
        kind = self.cause.partition(b"|")[0]
        return int(kind.partition(b"/")[2]) if kind.startswith(b"reservation/") else None

    def is_old(self):
        """A later version is known, or the first answer is forgotten."""
        if not self.steps:
            return False
        return not self.move or (self.version is not None and self.version <= int(self.held.get(b"v", 0)))

    def over_before(self, move, choice=None):
        if not move.startswith(b"="):
            return b"late"
        self.write(move[1:], b"0", b"0", b"0", b"-", choice or self.choice())
        self.ends = None
        return b"ok"

    def hold(self, names):
        """Take the slots that are wanted and let go of the others; false where one is sold out."""
        slots, wanted = self.cell.slots, [each.split(b":") for each in names.split() if b":" in each]
        for most, slot in wanted:
            new = slot + b"|" + self.whom not in self.db.hgetall(slots)
            if new and self.db.zlexcount(slots, slot + b"|", slot + b"}") >= int(most):
                return False
        for slot in self.held.get(b"h", b"").split():
            self.db.zrem(slots, slot + b"|" + self.whom)
        for _, slot in wanted:
            self.db.zadd(slots, slot + b"|" + self.whom, 0)
        if wanted or b"h" in self.held:
            self.db.hset(self.key, {b"h": b" ".join(slot for _, slot in wanted)})
        return True

    def first(self):
        if not self.hold(self.wanted):
            self.over_before(b"=closed")
            return b"full"
        if not self.behind() and self.place():
            return b"ok"
        self.wait()
        return b"waiting"

    def moved(self):  # noqa: PLR0911 - as many cases as the script has
        which, who, *moves = self.move.split(b" ")
        state, holder = self.steps[-1][0], self.steps[-1][9].split(b"|")[0]
        following = next((each.split(b">")[1] for each in moves if each.startswith(state + b">")), None)
        to = again = after = by = None
        if following is not None:
            nexts, by = following.split(b":")
            to, again, after = nexts.partition(b"+")
            if after:
                self.tried.discard(who)
        early = b"!" in moves and self.is_early()
        if state in FINAL or early or which not in {b"-", b"%d" % self.attempt}:
            return b"late"
        if who in self.tried and holder != who:
            return b"late"
        if following is None:
            return b"illegal"
        if who not in {b"*", holder} and not after and (state != b"waiting" or not again):
            return b"not_yours"
        if b"to" in self.held:
            return b"stale" if to else b"full" if after else b"nothing"
        if self.wanted and not self.hold(self.wanted):
            if self.brought:
                self.over_before(b"=closed", holding(self.steps[-1]))
                self.hold(b"")
            return b"full"
        return self.step(state, holder, who, (to, again, after, by))

    def is_early(self):
        """Whether the time of a state is not over yet; then it is due later."""
        state, _, _, by, remind, *_ = self.steps[-1]
        if self.now < int(by) and state not in FINAL and b"to" not in self.held:
            self.db.zadd(self.cell.due, self.whom, float(by if remind == b"0" else remind))
        return self.now < int(by)

    def step(self, state, holder, who, following):
        to, again, after, by = following
        record = self.noted(state, to, holder)
        result = None
        if to:
            choice = holding(self.steps[-1])
            self.write(to, self.steps[-1][3] if by == b"k" else by, b"0", b"0", record, choice)
            result = b"ok"
            if again or to in FINAL:
                self.let_go(state, holder)
            if to in GIVEN_BACK and self.version is None:
                self.tried.add(holder)
            if to in FINAL:
                self.ends = None
                self.hold(b"")
        if again:
            result = self.offered_again(state, after, by, who)
        return result

    def offered_again(self, state, after, by, who):
        old = self.steps[-1][9] if state == b"waiting" else None
        only = old and (after or (who != b"*" and self.behind(itself=True)))
        if entry := self.place(who if only else None):
            if old:
                self.let_go(state, None)
            if after:
                guide, _, store = entry.split(b"|")[:3]
                record = self.note(guide, (1, 1, 0, 0), silent=False)
                self.write(after, by, b"0", b"0", record, b"|".join((guide, b"0", store)))
            return b"ok"
        if after:
            return b"full"
        if old and by != b"w" and old.split(b"|")[0] == self.queue:
            return b"nothing"
        if old:
            self.let_go(state, None)
        self.wait()
        return b"waiting"

    def noted(self, state, to, holder):
        if state == b"waiting":
            return b"-"
        silent = state in OFFERED and to == b"expired"
        answered = state in OFFERED and to in ANSWERS
        closed = to in {b"won", b"lost", b"closed"}
        if not (silent or answered or closed):
            return b"-"
        return self.note(holder, (answered, silent or answered, to == b"won", closed), silent=silent)

    def note(self, guide, more, *, silent):
        _, half_life, silent_max, pause = self.rules
        held = self.db.hget(self.cell.records, guide) or b"0,0,0,0,0,0,0"
        *shares, running, paused, at = held.split(b",")
        faded = 0.5 ** (max(self.now - int(at), 0) / half_life)
        shares = [float(share) * faded + one for share, one in zip(shares, more, strict=True)]
        running = int(running) + 1 if silent else 0
        if silent and running >= silent_max:
            running, paused = 0, self.now + pause
        text = ",".join([*(f"{share:.3f}" for share in shares), f"{running},{int(paused)},{self.now}"])
        self.db.hset(self.cell.records, {guide: text.encode()})
        self.cell.touched.add(guide)
        return text.encode()

    def behind(self, *, itself=False):
        """Whether the queue holds somebody who comes first."""
        mine, since = self.tiers.index(self.tier), int(self.arrival)
        for waiter in self.db.hgetall(self.cell.waiting):
            queue, tier, arrival, _, whom = waiter.split(b"|", 4)
            place, arrived = self.tiers.index(tier), int(arrival)
            if queue != self.queue or (itself and whom == self.whom):
                continue
            theirs = self.standing(place, arrived)
            its = self.standing(mine, since) if itself else mine
            before = (theirs, arrived) < (its, since) if itself else place <= mine or theirs <= its
            if before:
                return True
        return False

    def standing(self, place, arrived):
        return max(place - max(self.now - arrived, 0) // self.rules[0], 0)

    def place(self, only=None):
        for entry in self.shortlist.split():
            guide, step = entry.split(b"|")[:2]
            if guide not in self.tried and only in {None, guide} and self.has_room(guide):
                self.db.zadd(self.cell.open, guide + b"|" + self.whom, 0)
                self.attempt += 1
                turn, clock = (int(self.cell.turn(name)) for name in (guide, CLOCK))
                made = claimed(turn, clock, int(step), int(self.horizon))
                self.db.hset(self.cell.turns, {guide: b"%d" % made.turn, CLOCK: b"%d" % made.clock})
                self.cell.touched |= {guide, CLOCK}
                self.write(b"offered", *self.lasts(entry), b"%d" % made.start, b"-", entry)
                return entry
        return None

    def lasts(self, entry):
        offer_by, remind, _ = self.limits
        bound = self.bounds.get(entry.rpartition(b"|")[2])
        within = int(offer_by) - self.now
        if bound is None or bound >= within:
            return offer_by, remind
        sooner = self.now + (int(remind) - self.now) * bound // within
        return b"%d" % (self.now + bound), remind if remind == b"0" else b"%d" % sooner

    def has_room(self, guide):
        record = self.db.hget(self.cell.records, guide)
        paused = record is not None and int(record.split(b",")[5]) > self.now
        return not paused and _room(self.db, self.cell.open, self.cell.capacity, guide) > 0

    def choice(self):
        return b"|".join((self.queue, self.tier, self.arrival, self.rung))

    def wait(self):
        choice = self.choice()
        self.db.zadd(self.cell.waiting, choice + b"|" + self.whom, 0)
        self.write(b"waiting", self.limits[2], b"0", b"0", b"-", choice)

    def let_go(self, state, holder):
        if state == b"waiting":
            self.db.zrem(self.cell.waiting, self.steps[-1][9] + b"|" + self.whom)
        elif self.db.zrem(self.cell.open, holder + b"|" + self.whom):
            self.cell.touched.add(holder)

    def write(self, state, by, remind, start, record, choice):  # noqa: PLR0917 - the words of an answer
        words = (state, b"%d" % self.attempt, b"%d" % self.now, by, remind, self.policy, start)
        self.made.append(b" ".join((*words, self.cause, record, choice)))
        self.ends = by if remind == b"0" else remind

    def keep(self):
        answers = {b"%d" % (self.seq + n): each for n, each in enumerate(self.made, 1)}
        self.db.hset(self.key, {b"q": b"%d" % (self.seq + len(self.made)), **answers})
        if self.version is not None:
            self.db.hset(self.key, {b"d%d" % self.version: self.digest, b"v": b"%d" % self.version})
        elif not self.seq:
            self.db.hset(self.key, {b"d": self.digest})
        if not self.seq or self.version is not None:
            self.db.pexpire(self.key, self.remember_ms)
        self.keep_time()

    def keep_time(self):
        if self.ends is None:
            self.db.zrem(self.cell.due, self.whom)
        else:
            self.db.zadd(self.cell.due, self.whom, float(self.ends))


def holding(step):
    """Of a step's choice who holds the lead, and in which store; or where it waits."""
    words = step[9].split(b"|")
    return step[9] if step[0] == b"waiting" else b"|".join((words[0], b"0", words[2]))


def _room(db, opened, capacity, guide):
    held = db.hget(capacity, guide)
    return int(held.split(b":")[1]) - db.zlexcount(opened, guide + b"|", guide + b"}") if held else 0


def restore(db, keys, args):
    cell, changed = Cell(db, keys[:8], args[1]), 0
    for i, key in enumerate(keys[8:]):
        whom, seq, answer, digest, guide, ends, turn, record, holds = args[2 + 9 * i : 11 + 9 * i]
        held = dict(db.hgetall(key))
        known, its = int(held.get(b"q", 0)), int(seq)
        named = b"d%b" % (_version(answer) or b"")
        other = held.get(seq) != answer or (digest and held.get(named) != digest)
        if other or known < its:
            if 0 < known <= its:
                _release(cell, whom, held.get(b"%d" % known, b""))
            db.hset(key, {seq: answer, b"q": b"%d" % max(known, its)} | ({named: digest} if digest else {}))
            db.pexpire(key, args[0])
            changed += 1
        if b"to" not in held:
            if known <= its:
                _hang(cell, whom, answer, guide, ends)
            later = [held[b"%d" % at] for at in range(its + 1, known + 1) if b"%d" % at in held]
            if not any(_tells(step, answer, held) for step in later):
                _hold_again(cell, key, whom, held, holds)
            _raise_version(db, key, held, answer)
        cell.touched |= _raise_turns(db, cell.turns, turn)
        if record:
            whose, text = record.split(b" ")
            old = db.hget(cell.records, whose)
            if old is None or int(old.rpartition(b",")[2]) < int(text.rpartition(b",")[2]):
                db.hset(cell.records, {whose: text})
                cell.touched.add(whose)
    cell.tell()
    return changed


def _hang(cell, whom, answer, guide, ends):
    """Make a lead held, or waiting, and due."""
    member = guide + b"|" + whom
    if guide:
        if member not in cell.db.hgetall(cell.open):
            cell.touched.add(guide)
        cell.db.zadd(cell.open, member, 0)
    elif answer.startswith(b"waiting "):
        cell.db.zadd(cell.waiting, answer.rpartition(b" ")[2] + b"|" + whom, 0)
    _restore_due(cell, whom, ends)


def _restore_due(cell, whom, ends):
    if ends:
        cell.db.zadd(cell.due, whom, float(ends))
    else:
        cell.db.zrem(cell.due, whom)


def _tells(later, answer, held):
    """Whether a later step tells what slots are held: the last of all, or another version where any are."""
    other = _version(later) not in {None, _version(answer)}
    return later.split(b" ")[0] in FINAL or (b"h" in held and other)


def _hold_again(cell, key, whom, held, holds):
    if holds:
        for slot in held.get(b"h", b"").split():
            cell.db.zrem(cell.slots, slot + b"|" + whom)
        slots = holds.removeprefix(b"-")
        for slot in slots.split():
            cell.db.zadd(cell.slots, slot + b"|" + whom, 0)
        if b"h" in held or slots:
            cell.db.hset(key, {b"h": slots})


def _raise_version(db, key, held, answer):
    version = int(_version(answer) or 0)
    if version > int(held.get(b"v", 0)):
        db.hset(key, {b"v": b"%d" % version})


def _version(answer):
    cause = answer.split(b" ")[7]
    return cause.partition(b"|")[0].partition(b"/")[2] if cause.startswith(b"reservation/") else None


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


def _release(cell, whom, answer):
    """Give back what an answer occupies."""
    if not answer:
        return
    state, *_, choice = answer.split(b" ")
    if state == b"waiting":
        cell.db.zrem(cell.waiting, choice + b"|" + whom)
        return
    guide = choice.partition(b"|")[0]
    if cell.db.zrem(cell.open, guide + b"|" + whom):
        cell.touched.add(guide)


def meet(db, keys, args):
    keep_ms, *asks = args
    out = []
    for key, (what, lead, window_ms, instead) in zip(keys, zip(*[iter(asks)] * 4, strict=True), strict=True):
        held, _, until_ms = (db.hget(key, what) or b"").rpartition(b"|")
        if held and held != lead and int(until_ms) > db.now_ms() and held != instead:
            out.append(b"%b|%d" % (held, max(db.now_ms() - int(until_ms) + int(window_ms), 0)))
            continue
        if held != lead:
            db.hset(key, {what: b"%b|%d" % (lead, db.now_ms() + int(window_ms))})
            db.pexpire(key, keep_ms)
        out.append(b"")
    return out


def part(db, keys, args):
    gone = 0
    for key, lead in zip(keys, args, strict=True):
        for what, held in list(db.hgetall(key).items()):
            if held.rpartition(b"|")[0] == lead:
                gone += db.hdel(key, what)
    return gone


def leave(db, keys, args):
    now, most, *asks = args
    here, out, asks = Cell(db, keys[:8], most), [], zip(*[iter(asks)] * 4, strict=True)
    for key, (whom, cell, attempt, version) in zip(keys[8:], asks, strict=True):
        held = db.hgetall(key)
        words = held.get(held.get(b"q"), b"").split(b" ")
        if version:
            leaves = b"to" in held or int(version) > int(held.get(b"v", 0))
            leaves = leaves and words[0] not in {b"", *FINAL}
        else:
            early = b"to" not in held and int((words + [b"0"] * 4)[3] or 0) > int(now)
            leaves = words[0] == b"waiting" and words[1] == attempt and not early
        if not leaves:
            out.append([])
            continue
        if b"to" not in held:
            db.hset(key, {b"to": cell})
        db.zrem(here.due, whom)
        _release(here, whom, held[held[b"q"]])
        for slot in held.get(b"h", b"").split():
            db.zrem(here.slots, slot + b"|" + whom)
        out.append([part for field in db.hgetall(key).items() for part in field])
    here.tell()
    return out


def arrive(db, keys, args):
    keep_ms, *asks = args
    shrunk = 0
    for key, to, seq in zip(keys, asks[::2], asks[1::2], strict=True):
        if (db.hget(key, b"q"), db.hget(key, b"to")) == (seq, to):
            db.delete(key)
            db.hset(key, {b"q": seq, b"to": to})
            db.pexpire(key, keep_ms)
            shrunk += 1
    return shrunk


def waiters(db, keys, args):
    out, most = [], int(args[0])
    for key, after in zip(keys, map(int, args[1:]), strict=True):
        groups = {}
        for member in sorted(db.hgetall(key)):
            groups.setdefault(tuple(member.split(b"|")[:2]), []).append(member)
        told = (those[:most] + (those[after : after + most] if after else []) for those in groups.values())
        out.append(b" ".join(member for those in told for member in those))
    return out


def forget(db, keys, args):
    held = db.hgetall(keys[0])
    gone = [m for m, at in zip(args[::2], args[1::2], strict=True) if m in held and held[m] <= float(at)]
    return sum([db.zrem(keys[0], member) for member in dict.fromkeys(gone)])


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
        done = [
            part
            for name, at in reversed(db.zrange(acts, 0, -1, withscores=True))
            for part in (name, b"%d" % at)
        ]
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
            guides = [name for name, _ in db.zrange(acts, 0, -1, withscores=True) if name != b"|"]
            for name in guides[: -int(guides_max)]:
                db.zrem(acts, name)


def _latest(db, key, name, at, *, keep_ms=None, most=0):
    """The later time of a name counts; the ``most`` latest names are kept."""
    db.zadd(key, name, max(int(at), db.hgetall(key).get(name, 0)))
    for older, _ in db.zrange(key, 0, -1, withscores=True)[:-most] if most else ():
        db.zrem(key, older)
    if keep_ms is not None:
        db.pexpire(key, keep_ms)


def brought(db, keys, args):
    keep_ms, most, *rest = args
    for key, at, entry in zip(keys, rest[::2], rest[1::2], strict=True):
        db.zadd(key, entry, min(int(at), db.hgetall(key).get(entry, int(at))))
        seen = set()
        for held in db.zrange(key, 0, -1):
            party = held.split(b"|", 2)[2]
            if party in seen or len(seen) == int(most):
                db.zrem(key, held)
            else:
                seen.add(party)
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
        for name, at in db.zrange(key, 0, -1, withscores=True):
            if at <= int(now) - int(day):
                db.zrem(key, name)
        held = db.hgetall(key)
        through = lead in held or len(held) < int(most)
        if through and lead not in held:
            db.zadd(key, lead, int(now))
            db.pexpire(key, day)
        out.append(int(through))
    return out


def clock(db, keys, _):
    return [db.now_ms()] * len(keys)


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
    capacity, records, changes, opened, turns = keys
    cell = Cell(db, (opened, capacity, None, changes, turns, None, records, None), args[0])
    taken = 0
    for guide, version, room in zip(args[1::3], args[2::3], args[3::3], strict=True):
        held = db.hget(capacity, guide)
        known = held.split(b":")[0] if held is not None else None
        if known is None or int(version) >= int(known):
            db.hset(capacity, {guide: version + b":" + room})
            taken += 1
            record = db.hget(records, guide)
            if record and known and int(known[-16:]) < int(version[-16:]) and int(record.split(b",")[5]):
                *shares, _, _, at = record.split(b",")
                db.hset(records, {guide: b",".join((*shares, b"0", b"0", at))})
                cell.touched.add(guide)
    cell.tell()
    return taken


#: By the name that ``Call.script`` gives; the shared cases ask for one of each in router.state.redis.SCRIPTS
#: but for those that tests/test_simulation.py names as without a fake.
SCRIPTS = {
    each.__name__: each
    for each in (
        arrive,
        bind,
        brought,
        changes,
        claim,
        clock,
        fix_cells,
        forget,
        inbox,
        journey,
        leave,
        mark,
        meet,
        members,
        part,
        remind,
        restore,
        set_capacity,
        touch,
        waiters,
        window,
    )
}
