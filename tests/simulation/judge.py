"""Whether all went well: the audit over the topics, and Redis against what the log says."""

from __future__ import annotations

from collections import Counter, defaultdict

import orjson

from router.audit import Audit
from router.audit.audit import TOPICS
from router.reference import REFERENCE_TOPICS, Reference
from router.rules.offers import MOMENTS
from router.state import keys
from router.traffic import CLOCK
from scoring.layout import cell_name
from scoring.requests import TIERS
from tests.simulation.scripts import MARK
from topics.assignments import FINAL_STATES, LIVE_STATES
from topics.catalog import ASSIGNMENTS, BINDINGS, DEAD_LETTERS, RESPONSES, STORES, TOUCHES
from topics.responses import ROUTERS_OWN

#: What a failover may bring, as often as it has lost a write: a place or slot that was free by what is lost.
EXCESS = ("double_assigned", "over_capacity", "slots_oversold")


def problems(broker, server, now_ms, expected):
    """Everything that is wrong, in words; nothing when all is well.

    ``expected`` holds the ids that are to be answered, and the places to be set aside with why.
    """
    report, db = audit(broker), server.db
    found = [f"audit: {problem}" for problem in report.problems if not _excused(problem, report, server)]
    for name, told, held in (
        ("outcome", expected, outcomes(broker)),
        *_state(broker, db),
        ("capacities", _capacities(broker, now_ms), _unmarked(_keys(db, ":capacity"))),
        ("owners", _bonds(broker), _bonds_held(db)),
        (
            "touches",
            _touches(broker),
            {
                key: held
                for key, held in db.data.items()
                if keys.is_of_touches(key) or key.endswith(":windows")
            },
        ),
    ):
        if told != held:
            found.append(f"{name}: {_difference(told, held)}")
    found += [f"turns: behind the log, {each}" for each in _turns(broker, db)]
    if not server.lost:  # what was lost may have been told, or be told by another way
        found += _moves(broker)
        found += _untold(broker, db)
        found += _told_otherwise(broker, db)
        found += _oversold(broker, db)
    found += [
        f"feeds: a card stands twice in {key}" for key, held in _keys(db, ":feed:").items() if _twice(held)
    ]
    return found


def audit(broker):
    judge = Audit()
    for topic in TOPICS:
        for record in broker.of(topic):
            judge.feed(
                *(topic, record.partition, record.offset),
                record.key,
                record.value,
                record.headers,
                record.timestamp,
            )
    return judge.report()


def outcomes(broker):
    """What became of the inputs, apart from who got them."""
    found = {}
    for record in broker.of(ASSIGNMENTS.name):
        event = orjson.loads(record.value)
        found[f"{event['kind']}/{event['lead_id']}"] = "answered"
    for record in broker.of(DEAD_LETTERS.name):
        named = {name: value.decode() for name, value in record.headers}
        # who comes first gets the slot, and whether it is over by a change: both are left open
        if named["reason"] not in {"slot_full", "late"}:
            found[place(named["topic"], named["partition"], named["offset"])] = named["reason"]
    return found


def place(topic, partition, offset):
    return f"{topic}[{partition}]@{offset}"


def columns(db, workers):
    """Workers whose columns are not what Redis holds."""
    loads = Counter()
    for key, members in _keys(db, ":open").items():
        loads.update((keys.tag(key), member.decode().partition("|")[0]) for member in members)
    turns = {
        (keys.tag(key), name.decode()): int(turn)
        for key, held in _keys(db, ":turns").items()
        for name, turn in held.items()
    }
    found = []
    for worker in workers:
        roster = worker.reference.roster
        rows = roster.guide_rows()
        known = {
            (roster.cell_of(store), guide): (load, turn)
            for store, guide, load, turn in zip(
                *(roster.guide_store[rows].tolist(), roster.guide_ids.take(rows)),
                *(roster.guide_load[rows].tolist(), roster.guide_turn[rows].tolist()),
                strict=True,
            )
        }
        known |= {(cell, CLOCK): (0, int(roster.cell_clock[n])) for n, cell in enumerate(roster.cells)}
        wanted = {place: (loads[place], turns.get(place, 0)) for place in known}
        if known != wanted:
            found.append(f"columns of {worker.process.name}: {_difference(wanted, known)}")
    return found


def _turns(broker, db):
    """Guides and cells whose turn is behind what the log has recorded; one that is ahead lost a record."""
    behind = []
    kept = {}
    for record in broker.of(ASSIGNMENTS.name):
        event = orjson.loads(record.value)
        kept.setdefault((event["brand"], event["kind"], event["lead_id"], event["seq"]), event)
    stores = [orjson.loads(record.value) for record in broker.of(STORES.name)]
    cells = {store["store_id"]: cell_name(store["brand"], store.get("market")) for store in stores}
    for event in kept.values():
        if turn := event.get("turn"):
            cell = cells[event["store_id"]]
            for name, number in ((event["guide_id"], turn["end"]), (CLOCK, turn["start"])):
                if int(db.hget(keys.turns(cell), name.encode()) or -1) < number:
                    behind.append(f"{name} in {cell}")
    return behind


def _moves(broker):  # noqa: C901 - one look at each step
    """Steps that nobody may take: of another guide or offer than the response names, or before time is up."""
    asked = {event["response_id"]: event for event in map(_json, broker.of(RESPONSES.name))}
    stories = defaultdict(dict)
    for event in map(_json, broker.of(ASSIGNMENTS.name)):
        stories[event["brand"], event["kind"], event["lead_id"]].setdefault(event["seq"], event)
    found = []
    for story in stories.values():
        gave_back = set()
        for seq, made in sorted(story.items()):
            if made["state"] in MOMENTS and not _version(made):
                gave_back.add(made["guide_id"])
            elif made["state"] == "offered" and made["guide_id"] in gave_back and made.get("turn"):
                found.append(f"moves: back to who gave it back, {made['lead_id']} seq {seq}")
            before = story.get(seq - 1)
            if before is None or before["cause"] == made["cause"]:
                continue
            if made["cause"]["kind"] != "response":
                if _version(made) <= max(_version(story[at]) for at in story if at < seq):
                    found.append(f"moves: by an older version, {made['lead_id']} seq {seq}")
                continue
            response = asked[made["cause"]["id"]]
            place = f"{made['lead_id']} seq {seq} by {response['response_id']}"
            says = response.get("guide_id")
            if says and made["state"] == response["action"] and made["guide_id"] != says:
                found.append(f"moves: not theirs, {place}")
            if response.get("attempt", before["attempt"]) != before["attempt"]:
                found.append(f"moves: of another offer, {place}")
            if response["action"] == "expired" and made["at_ms"] < before.get("respond_by_ms", 0):
                found.append(f"moves: before its time, {place}")
    return found


def _version(made):
    """The version of a reservation that made a record, 0 for any other cause."""
    return int(made["cause"]["kind"].partition("reservation/")[2] or 0)


def _oversold(broker, db):
    """Slots that more reservations hold than the store has."""
    stores = [_json(record) for record in broker.of(STORES.name)]
    rooms = {store["store_id"]: store.get("slots", {}) for store in stores}
    taken = Counter(slot.decode().rsplit("|", 3)[0] for held in _keys(db, ":slots").values() for slot in held)
    for slot, number in taken.items():
        store_id, service, _ = slot.split("|")
        if number > rooms[store_id][service]:
            yield f"slots: sold twice, {slot}"


def _untold(broker, db):
    """Guides' responses of which nobody has told what became of them."""
    for event in map(_json, broker.of(RESPONSES.name)):
        if "guide_id" in event and not event["response_id"].startswith(ROUTERS_OWN):
            who = (event["brand"], event["member_id"], event.get("kind", "lead"), event["lead_id"])
            if db.hget(keys.journey(*who), f"{keys.RESPONSE}{event['response_id']}".encode()) is None:
                yield f"responses: nobody told of {event['response_id']}"


def _told_otherwise(broker, db):
    """Guides' responses of which it is told that they changed something when they did not, or the reverse."""
    changed = {
        (event["brand"], event["member_id"], event["kind"], event["lead_id"], event["cause"]["id"])
        for event in map(_json, broker.of(ASSIGNMENTS.name))
        if event["cause"]["kind"] == "response"
    }
    for event in map(_json, broker.of(RESPONSES.name)):
        who = (event["brand"], event["member_id"], event.get("kind", "lead"), event["lead_id"])
        told = db.hget(keys.journey(*who), f"{keys.RESPONSE}{event['response_id']}".encode())
        if told and (orjson.loads(told)["outcome"] == "applied") != ((*who, event["response_id"]) in changed):
            yield f"responses: told otherwise of {event['response_id']}, {told.decode()}"


def _json(record):
    return orjson.loads(record.value)


def _excused(problem, report, server):
    name = problem.partition(":")[0]
    return name in EXCESS and getattr(report, name) <= server.lost


def _state(broker, db):
    """Open attempts, waiting leads, journeys and inboxes: what the log tells, and what Redis holds."""
    journeys, latest, cards, held_slots = _told(broker)
    opened, waiting, due, slots = (defaultdict(dict) for _ in range(4))
    for (brand, member_id, kind, lead_id), (event, _) in latest.items():
        cell = (db.get(keys.lead_cell(brand, kind, lead_id)) or b"?").decode()
        whom = f"{kind}|{lead_id}|{member_id}"
        if event["state"] in LIVE_STATES:
            opened[keys.open_attempts(cell)][f"{event['guide_id']}|{whom}".encode()] = 0
        elif event["state"] == "waiting":
            choice = (
                event["queue"],
                str(TIERS.index(event["tier"])),
                str(event["lead_at_ms"]),
                event["rung"],
            )
            waiting[keys.waiting(cell)]["|".join((*choice, whom)).encode()] = 0
        if event["state"] not in FINAL_STATES:
            due[keys.due(cell)][whom.encode()] = event.get("remind_at_ms") or event["respond_by_ms"]
        for slot in held_slots.get((brand, kind, lead_id), ()) if event["state"] not in FINAL_STATES else ():
            slots[keys.slots(cell)][f"{slot}|{whom}".encode()] = 0
    inboxes = defaultdict(dict)
    for brand, seqs in cards.items():
        for (guide_id, lead), (_, event, offset, value) in seqs.items():
            shown = value if event["state"] in LIVE_STATES else b""
            inboxes[keys.inbox(brand, guide_id)][lead.encode()] = b"%d|%d|%s" % (event["seq"], offset, shown)
    return (
        ("open attempts", opened, _keys(db, ":open")),
        ("waiting", waiting, _keys(db, ":waiting")),
        ("slots", slots, _keys(db, ":slots")),
        ("due", due, {key: held for key, held in _keys(db, "}:due").items() if "/parked" not in key}),
        ("journeys", journeys, {key: _steps(held) for key, held in _keys(db, ":journey:").items()}),
        ("inboxes", inboxes, _keys(db, ":inbox:")),
    )


def _told(broker):
    """What the log tells: journeys by key, each lead's newest record and slots, each guide's cards."""
    journeys, latest, cards, held_slots = defaultdict(dict), {}, defaultdict(dict), {}
    for record in broker.of(ASSIGNMENTS.name):
        event = orjson.loads(record.value)
        who = (event["brand"], event["member_id"], event["kind"], event["lead_id"])
        value = b"%d|%s" % (record.offset, record.value)
        first = journeys[keys.journey(*who)].setdefault(b"%d" % event["seq"], value)
        if first is not value:
            continue
        if event["seq"] >= latest.get(who, (event,))[0]["seq"]:
            latest[who] = (event, value)
        if "reservation" in event:
            held_slots[event["brand"], event["kind"], event["lead_id"]] = event.get("slots", ())
        if guide_id := event.get("guide_id"):
            card = (guide_id, f"{event['kind']}|{event['lead_id']}")
            if event["seq"] >= cards[event["brand"]].get(card, (0,))[0]:
                cards[event["brand"]][card] = (event["seq"], event, record.offset, record.value)
    return journeys, latest, cards, held_slots


def _steps(held):
    """A journey without what became of responses."""
    return {seq: value for seq, value in held.items() if not seq.startswith(keys.RESPONSE.encode())}


def _capacities(broker, now_ms):
    reference = Reference(lambda *_: None)
    for topic in REFERENCE_TOPICS:
        for record in broker.of(topic.name):
            reference.apply(topic, record.key, record.value)
    told = defaultdict(dict)
    for cell, guide_id, version, capacity in reference.refresh(now_ms):
        told[keys.capacity(cell)][guide_id.encode()] = b"%d:%d" % (version, capacity)
    return told


def _bonds(broker):
    """Owner and loan of each member, by what was said about them in the order in which it happened."""
    said = [orjson.loads(record.value) for record in broker.of(BINDINGS.name)]
    bonds = {}
    for event in sorted(said, key=lambda event: (event["occurred_at_ms"], event["command_id"])):
        key, kind, to = (
            keys.member(event["brand"], event["member_id"]),
            event["kind"],
            event.get("to_guide_id"),
        )
        owner, loan = bonds.get(key, ("", ""))
        if kind in {"bind", "unbind", "transfer_done"}:
            bonds[key] = (to or "", loan if (to or "") == owner else "")
        elif kind in {"lend", "return"}:
            lent = f"{to}|{event['occurred_at_ms']}|" if kind == "lend" else ""
            bonds[key] = (owner, lent if owner or not lent else loan)
        else:
            bonds[key] = (owner, loan)
    return bonds


def _bonds_held(db):
    return {
        key: (held[b"owner"].decode(), held[b"loan"].decode()) for key, held in _keys(db, ":member:").items()
    }


def _touches(broker):
    """Acts, contacts, tracks, windows, and what was done for members."""
    told = defaultdict(lambda: defaultdict(int))
    for who, entry, at_ms in _done(broker):
        told[keys.deeds(*who)][entry.encode()] = max(told[keys.deeds(*who)][entry.encode()], at_ms)
    for record in broker.of(TOUCHES.name):
        try:
            event = orjson.loads(record.value)
        except orjson.JSONDecodeError:
            continue
        who, guide = (event["brand"], event["member_id"]), event.get("guide_id", "")
        way = event.get("direction", "")
        entry = f"{event['touch_id']}|{event['kind']}|{way}|{guide}|"
        noted = [(keys.track(*who), entry)]
        if way == "out":
            noted.append((keys.contacts(*who), event["touch_id"]))
        else:
            noted += [(keys.acts(*who), keys.ITSELF), (keys.windows(event["brand"]), event["member_id"])]
        if guide and (way == "out" or event["kind"] in {"chat", "live"}):
            noted.append((keys.acts(*who), guide))
            kind = event["kind"] if event["kind"] in {"chat", "live"} else "contacted"
            noted.append((keys.deeds(*who), f"{kind}|{event['touch_id']}|{guide}|"))
        for key, name in noted:
            told[key][name.encode()] = max(told[key][name.encode()], event["occurred_at_ms"])
    return told


def _done(broker):
    """What guides did with leads, by the first record of each step."""
    seen = set()
    for event in map(_json, broker.of(ASSIGNMENTS.name)):
        who = (event["brand"], event["member_id"])
        step = (*who, event["kind"], event["lead_id"], event["seq"])
        kind = {"accepted": "accepted", "contacted": "contacted", "visited": "visit"}.get(event["state"])
        if step not in seen and kind is not None:
            yield who, f"{kind}|{event['lead_id']}|{event['guide_id']}|", event["at_ms"]
        seen.add(step)


def _unmarked(cells):
    """Capacities without marks; a cell whose guides were never told has nothing else."""
    rest = {
        key: {name: held[name] for name in held if not name.startswith(MARK)} for key, held in cells.items()
    }
    return {key: held for key, held in rest.items() if held}


def _keys(db, part):
    return {key: held for key, held in db.data.items() if part in key}


def _twice(cards):
    return len({card[b"record"] for _, card in cards}) < len(cards)


def _difference(told, held):
    """The first key that differs; of hashes and sets only what differs in them."""
    key = min(key for key in told.keys() | held.keys() if told.get(key) != held.get(key))
    wanted, found = told.get(key), held.get(key)
    if isinstance(wanted, dict) and isinstance(found, dict):
        both = wanted.items() & found.items()
        wanted, found = ({k: v for k, v in each.items() if (k, v) not in both} for each in (wanted, found))
    return f"{key} should be {wanted} and is {found}"
