"""The data of a Redis as plain dicts, with the few commands that the scripts use."""

from __future__ import annotations


class Keyspace:
    """Key to value: hashes and sorted sets are dicts, strings bytes, streams lists of (id, fields).

    Nothing lapses: what is kept is kept for days, and no simulated run takes as long.
    """

    def __init__(self, now_ms):
        self.now_ms = now_ms
        self.data = {}
        self.kept_ms = {}

    def time(self):
        now_ms = self.now_ms()
        return [b"%d" % (now_ms // 1000), b"%d" % (now_ms % 1000 * 1000)]

    def exists(self, key):
        return key in self.data

    def get(self, key):
        return self.data.get(key)

    def set(self, key, value):
        self.data[key] = value

    def hget(self, key, field):
        return self.data.get(key, {}).get(field)

    def hgetall(self, key):
        return self.data.get(key, {})

    def hset(self, key, fields):
        self.data.setdefault(key, {}).update(fields)

    def hdel(self, key, field):
        """Whether it was there; an empty hash is no key."""
        held = self.data.get(key, {})
        there = held.pop(field, None) is not None
        if there and not held:
            del self.data[key]
            self.kept_ms.pop(key, None)
        return there

    def zadd(self, key, member, score):
        self.data.setdefault(key, {})[member] = score

    def zrem(self, key, member):
        """Whether it was there; an empty set is no key."""
        held = self.data.get(key, {})
        there = held.pop(member, None) is not None
        if there and not held:
            del self.data[key]
            self.kept_ms.pop(key, None)
        return there

    def zrange(self, key, first, last, *, withscores=False, byscore=False, bylex=False, offset=0, num=None):
        """Members in the order of Redis: from place to place (``last`` -1: the end), by score or name."""
        ordered = sorted(self.data.get(key, {}).items(), key=lambda item: (item[1], item[0]))
        if bylex:
            low, high = first.removeprefix("[").encode(), last.removeprefix("(").encode()
            ordered = [item for item in ordered if low <= item[0] < high]
        elif byscore:
            ordered = [item for item in ordered if item[1] <= last][offset : offset + num]
        else:
            ordered = ordered[first : last + 1 if last >= 0 else None]
        return (
            [(member, float(score)) for member, score in ordered] if withscores else [m for m, _ in ordered]
        )

    def zlexcount(self, key, low, high):
        """Members of one score from ``low`` to before ``high``."""
        return sum(low <= member < high for member in self.data.get(key, ()))

    def xadd(self, key, fields, most, *, mark=None):
        """Add an entry with the next id of a mark, or with one of its own kind."""
        entries = self.data.setdefault(key, [])
        last = entries[-1][0] if entries else (-1, 0)
        entries.append(((mark, last[1] + 1 if last[0] == mark else 0), fields))
        del entries[:-most]

    def xrange(self, key):
        return self.data.get(key, [])

    def delete(self, key):
        self.data.pop(key, None)

    def pexpire(self, key, keep_ms):
        self.kept_ms[key] = int(keep_ms)
