"""The table of faults, as a literal list; ``make faults`` says which rows hold."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """A fault and what must come of it."""

    number: int
    fault: str
    outcome: str
    levels: str
    """P property test, S seeded simulation, M real Redis and embedded broker, K real Kafka and processes."""
    without: str = ""
    """What was taken away to see its test turn red."""
    missing: str = ""
    """What of the row is not built yet, or does not hold."""


LIFECYCLE = "needs what follows an assignment"
PUSH = "needs the push and web edges"
MONEY = "needs the ledger"

ROWS = (
    Row(1, "kill -9 after reading (c1)", "redelivered, same", "SMK",
        without="acknowledging last"),
    Row(2, "kill -9 while deciding (c2, c3)", "same", "SMK",
        without="acknowledging last"),
    Row(3, "kill -9 when claimed, not published (c4)", "stored decision is published; one assignment", "SMK",
        without="the stored answer of a claim"),
    Row(4, "kill -9 when published, not acknowledged (c5)", "duplicate record, same id; one card", "SMK",
        without="the first record in the log"),
    Row(5, "kill -9 when acknowledged, not committed (c6)", "as F04", "SMK",
        without="the stored answer of a claim"),
    Row(6, "kill between dead letter and acknowledgement", "two copies at most, same id; redrive once", "SM",
        without="dead letters",
        missing="redrive is not built"),
    Row(7, "kill between publishing a due timer and removing it", "same id, one effect", "SM"),
    Row(8, "kill of the ledger between post and publish", "one posting", "SM", missing=MONEY),
    Row(9, "SIGTERM while idle", "stops < 5 s, lag 0 at restart", "MK",
        without="the commit at a stop"),
    Row(10, "SIGTERM in mid-event, Redis fine", "finished or un-acked; never acked unfinished", "MK",
        without="acknowledging last"),
    Row(11, "SIGTERM while Redis is down", "stops < 10 s, nothing acked", "MK",
        without="giving up when leaving"),
    Row(12, "exception on one record (bug)", "bisected, set aside alone, no hole; > 5 a minute: ends un-acked", "M",
        without="the limit of bugs a minute"),
    Row(13, "one event never finishes", "other partitions go on; watchdog metric; head stays un-acked", "M",
        without="the frontier of acknowledged chunks",
        missing="partitions of the same topic on the same worker wait with it"),
    Row(14, "rebalance in mid-batch, both workers alive", "no loss; duplicates harmless", "SMK",
        without="the frontier of acknowledged chunks"),
    Row(15, "zombie resumes 30 s after losing its partition", "publish arbitrated, commit refused", "SMK",
        without="the stored answer of a claim"),
    Row(16, "three workers started/stopped x6, then kill -9 x6", "all delivered, one effective each", "K",
        without="the frontier of acknowledged chunks"),
    Row(17, "two members think they own a partition", "as F15", "S",
        without="the fence of generations"),
    Row(18, "offsets lost / reset to earliest", "replays return stored decisions; no second effect", "SM",
        without="the stored answer of a claim"),
    Row(19, "operator rewinds", "as F18", "M",
        without="the stored answer of a claim"),
    Row(20, "Redis connection refused at start", "not ready, retries, becomes ready, no crash loop", "M",
        without="patience with outages"),
    Row(21, "Redis down 60 s under load", "nothing acked, catches up; p99 recovers < 60 s after", "MK",
        without="patience with outages"),
    Row(22, "Redis hung (SIGSTOP 13 s)", "calls end < 2 s, claims executed twice are harmless", "M",
        without="acknowledging last"),
    Row(23, "executed, but timed out on every call type", "same", "SM",
        without="the stored answer of a claim"),
    Row(24, "failover losing the last k writes", "noticed, claims stop, log re-applied; excess <= k reported", "SM",
        without="the guard of every new connection"),
    Row(25, "total loss (FLUSHALL) while running", "claims stop; rebuild; same", "SM",
        without="the mark of a cell"),
    Row(26, "OOM (noeviction)", "transient; nothing half-written; alert", "M",
        without="acknowledging last"),
    Row(27, "disk full (MISCONF)", "as F26; recovers unaided", "M",
        without="acknowledging last"),
    Row(28, "LOADING after restart", "transient", "M",
        without="acknowledging last"),
    Row(29, "READONLY (a demoted master)", "topology refresh, transient", "M"),
    Row(30, "NOSCRIPT", "reloaded, same", "M",
        without="loading scripts again"),
    Row(31, "MOVED/ASK, slot migration, CLUSTERDOWN, TRYAGAIN", "same", "M",
        without="ClusterError as an outage"),
    Row(32, "one cluster master down, no replica", "only its brands stop; others go on", "M"),
    Row(33, "broker leader killed, 5 x chase", "same", "K",
        without="Kafka's passing errors as outages"),
    Row(34, "min ISR lost (NotEnoughReplicas)", "publish waits; no ack; no loss", "MK",
        without="patience with outages"),
    Row(35, "all brokers down 60 s", "no claim without later publish", "MK",
        missing="the answer to an HTTP accept: " + PUSH),
    Row(36, "Redis and Kafka down, back in either order", "same", "M",
        without="patience with outages"),
    Row(37, "produce succeeds, ack lost", "duplicate, same id", "SM",
        without="the stored answer of a claim"),
    Row(38, "produce fails for good (record too large)", "dead letter with headers; head advances", "M",
        without="telling a record that is too large"),
    Row(39, "commit fails (rebalance in progress)", "retried or redelivered", "M",
        without="trying a refused commit again"),
    Row(40, "input topic truncated by retention", "alert 'offset out of range', never silent", "K",
        without="the comparison with the log's start"),
    Row(41, "exact duplicate event", "one effect", "SM",
        without="the stored answer of a claim"),
    Row(42, "same identity and version, other content", "dead letter 'conflict'; a higher version is a change", "PM",
        without="the digest of a lead"),
    Row(43, "late event (lead already closed)", "stored as late, no effect, counted", "SM"),
    Row(44, "cancel before create; decline before assign", "parked, then applied", "SM"),
    Row(45, "out-of-order updates", "highest seq wins", "PS",
        without="versions"),
    Row(46, "event older than the horizon / 1 day ahead", "dead letter too_old / quarantine", "P"),
    Row(47, "not JSON, wrong types, NaN, huge ints, NUL, BOM", "dead letter, no crash", "PM"),
    Row(48, "10 MB value, deep nesting, 100 000 candidates", "refused before decode; memory flat", "PM"),
    Row(49, "hostile text in names", "escaped; never part of a key or log line unescaped", "PM"),
    Row(50, "lead id containing { }", "rejected: cannot choose its slot", "P"),
    Row(51, "unknown event type / new optional field", "dead letter / accepted", "P"),
    Row(52, "null value (tombstone) on any topic", "handled", "M"),
    Row(53, "clock +1 h / -1 h on a worker", "no effect on decisions", "S"),
    Row(54, "clock jump on the Redis host", "deadlines off at most by the jump", "S"),
    Row(55, "accept twice; after the deadline; someone else's", "one accept; 409; 403", "PM"),
    Row(56, "accept answered, node dies before the reply", "same id, same answer", "M", missing=PUSH),
    Row(57, "SSE dropped / inbox trimmed", "resume or reload; no hole, no double card", "M", missing=PUSH),
    Row(58, "reconnect storm", "jitter, snapshot from memory; p99 < 5 s", "M", missing=PUSH),
    Row(59, "slow SSE reader", "closed at its bound; memory flat", "M", missing=PUSH),
    Row(60, "WeCom 429/5xx/time-outs/DNS rebinding", "schedule, breaker, coalesce; blocked", "M", missing=PUSH),
    Row(61, "no candidate / all full / all off duty", "queued, re-tried on capacity, escalated", "SM"),
    Row(62, "hot brand (10 x load)", "only that brand slows", "M", missing="no test yet"),
    Row(63, "guide deleted / store closed with open leads", "re-routed once each, audited", "S"),
    Row(64, "policy reloaded in mid-batch", "each decision carries one policy version", "M", missing="no test yet"),
    Row(65, "refund before sale; partial > sale; double", "parked / refused / one", "PS", missing=MONEY),
    Row(66, "period closed while a refund arrives", "posted to the open period, linked", "P", missing=MONEY),
    Row(67, "disk full on the router host (logs)", "logging drops and counts; routing goes on", "M", missing="no test yet"),
    Row(68, "memory pressure (cgroup limit)", "bounded; killed, then F01", "K", missing="no test yet"),
    Row(69, "24 h soak with the kill schedule", "verifier clean", "K", missing="no test yet"),
    Row(70, "upgrade: old and new version side by side", "both read each other's records", "M", missing="no test yet"),
)  # fmt: skip
