"""The answers to a list: read from the ends of the topics on, by nobody's leave."""

from __future__ import annotations

from collections.abc import Collection
from typing import Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from router.feed import POLL_MS
from router.lists.results import Result, result_of
from router.topology import bootstrap
from topics.assignments import Assignment
from topics.catalog import ASSIGNMENTS, DEAD_LETTERS, LEADS
from topics.codec import BadEventError, decode
from topics.leads import Lead

#: Every record about a row of a list holds this; most of the others do not.
_IS_LIST = b'"list"'


class Collected:
    """The results of those leads of a brand that are rows of one list, from any records in log order.

    What was set aside is refused, whatever else is told about its id: that is about another content.
    """

    def __init__(self, brand: str, list_id: str, lead_ids: Collection[str]) -> None:
        self.results: dict[str, Result] = {}
        self._brand, self._list_id, self._lead_ids = brand, list_id, frozenset(lead_ids)
        self._seqs: dict[str, int] = {}

    @property
    def complete(self) -> bool:
        """Whether every lead has a result."""
        return len(self.results) == len(self._lead_ids)

    def assignment(self, value: bytes | None) -> None:
        """Take a record of ``assignments``."""
        if value is None or _IS_LIST not in value:
            return
        try:
            made = decode(Assignment, value)
        except BadEventError:
            return
        if (made.brand, made.kind) != (self._brand, "list") or made.lead_id not in self._lead_ids:
            return
        refused = made.lead_id in self.results and self.results[made.lead_id].outcome == "refused"
        result = result_of(made)
        if result is not None and not refused and made.seq > self._seqs.get(made.lead_id, 0):
            self._seqs[made.lead_id] = made.seq
            self.results[made.lead_id] = result

    def dead_letter(self, value: bytes | None, headers: dict[str, str]) -> None:
        """Take a record of ``dead-letters``."""
        if headers.get("topic") != LEADS.name:
            return
        try:
            lead = decode(Lead, value)
        except BadEventError:
            return
        if (lead.brand, lead.list_id) == (self._brand, self._list_id) and lead.lead_id in self._lead_ids:
            why = ": ".join(filter(None, (headers.get("reason"), headers.get("detail"))))
            self.results[lead.lead_id] = Result("refused", reason=why)


class Answers:
    """Reads what is answered after it was entered, without a group; an async context manager."""

    def __init__(self, kafka_url: str, prefix: str, partitions: dict[str, int], collected: Collected) -> None:
        self._collected = collected
        self._letters = prefix + DEAD_LETTERS.name
        names = (prefix + ASSIGNMENTS.name, self._letters)
        self._partitions = [TopicPartition(name, part) for name in names for part in range(partitions[name])]
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap(kafka_url), enable_auto_commit=False, fetch_max_wait_ms=POLL_MS
        )

    async def __aenter__(self) -> Self:
        """Connect, and stand where the topics end now."""
        try:
            await self._consumer.start()
            self._consumer.assign(self._partitions)
            for part, end in (await self._consumer.end_offsets(self._partitions)).items():
                self._consumer.seek(part, end)
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def read(self) -> None:
        """Take in what has come, after waiting for it a little."""
        for part, records in (await self._consumer.getmany(timeout_ms=100)).items():
            for record in records:
                self._take(part.topic, record)

    def _take(self, topic: str, record: ConsumerRecord[bytes, bytes]) -> None:
        if topic == self._letters:
            headers = {name: value.decode(errors="replace") for name, value in record.headers}
            self._collected.dead_letter(record.value, headers)
        else:
            self._collected.assignment(record.value)
