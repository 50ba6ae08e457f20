"""The data of a Redis as plain dicts, with the few commands that the scripts use."""

from __future__ import annotations


class Keyspace:
    """Key to value: hashes and sorted sets are dicts, strings bytes, streams lists of dicts.

    Nothing lapses: what is kept is kept for days, and no simulated run takes as long.
    """

    def __init__(self, now_ms):
        self._now_ms = now_ms
        self.data = {}
        self.kept_ms = {}

    def time(self):
        now_ms = self._now_ms()
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

    def zadd(self, key, member, score):
        self.data.setdefault(key, {})[member] = score

    def zrange(self, key, first, last):
        """Members with their scores, in the order of Redis; ``last`` -1 is the end."""
        ordered = sorted(self.data.get(key, {}).items(), key=lambda item: (item[1], item[0]))
        return ordered[first : last + 1 if last >= 0 else None]

    def zlexcount(self, key, low, high):
        """Members of one score from ``low`` to before ``high``."""
        return sum(low <= member < high for member in self.data.get(key, ()))

    def xadd(self, key, fields, most):
        entries = self.data.setdefault(key, [])
        entries.append(fields)
        del entries[:-most]

    def pexpire(self, key, keep_ms):
        self.kept_ms[key] = int(keep_ms)
