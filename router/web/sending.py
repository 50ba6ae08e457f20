"""What the gateway writes: guides' responses, each on its member's partition."""

from __future__ import annotations

import asyncio
import logging

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from router.errors import EffectError, OutageError, RefusedError
from router.publish import Outgoing, Publisher
from topics.catalog import RESPONSES
from topics.codec import encode, key_of, partition_of
from topics.responses import Response

log = logging.getLogger(__name__)

#: How long a guide waits for the broker; longer, and nobody knows whether it has the response.
CONFIRM_S = 2.0
_RETRY_S = 1.0


class Sending:
    """Publishes responses; while there is no broker it says so and goes on looking for one."""

    def __init__(self, brokers: list[str], prefix: str) -> None:
        self._brokers = brokers
        self._topic = prefix + RESPONSES.name
        self._producer: AIOKafkaProducer | None = None
        self._publisher = Publisher(lambda: self._producer, CONFIRM_S)

    @property
    def well(self) -> bool:
        """Whether a broker was found."""
        return self._producer is not None

    async def run(self) -> None:
        """Find the broker, and keep the connection until cancelled."""
        while True:
            producer = AIOKafkaProducer(bootstrap_servers=self._brokers, enable_idempotence=True)
            try:
                await producer.start()
                self._producer = producer
                await asyncio.Event().wait()
            except KafkaError as error:
                log.warning("responses wait for Kafka: %s", error)
                await asyncio.sleep(_RETRY_S)
            finally:
                self._producer = None
                await producer.stop()

    async def send(self, response: Response) -> None:
        """Publish a response and return when the broker has it.

        Raises:
            OutageError: nobody knows whether the broker has it; send it again with the same id.

        """
        try:
            if not (partitions := self._publisher.partitions(self._topic)):
                await self._publisher.discover([self._topic])
                partitions = self._publisher.partitions(self._topic)
            key = key_of(RESPONSES, response)
            record = Outgoing(self._topic, partition_of(key, partitions), key, encode(response))
            await self._publisher.publish([record])
        except (EffectError, RefusedError) as error:
            log.exception("a response was refused")
            raise OutageError("Kafka refuses a response") from error
