"""A Faust worker on the router's transport; tells of every batch in a line of JSON."""

import asyncio
import json
import sys

import faust

from router.transport import app_settings, broker_url

spec = json.loads(sys.argv[1])
settings = app_settings() | spec["settings"] | {"datadir": spec["datadir"]}
app = faust.App(spec["group"], broker=broker_url(spec["url"]), **settings)


def tell(batch, said):
    records = [[record.partition, record.offset, record.value.decode()] for record in batch.records]
    line = json.dumps({"said": said, "attempt": batch.attempt, "records": records})
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def ack(batch):
    await asyncio.sleep(spec["pause_s"])
    tell(batch, "done")
    batch.ack()


async def slow(batch):
    tell(batch, "begun")
    await ack(batch)


async def hold(batch):
    tell(batch, "held")


async def release_at_stop(batch):
    tell(batch, "held")
    while not app.should_stop:  # noqa: ASYNC110 - Faust has a flag, no event
        await asyncio.sleep(0.05)
    batch.release()


async def raise_once(batch):
    if batch.attempt == 0:
        tell(batch, "raised")
        raise ValueError("planted")
    await ack(batch)


PLANS = {plan.__name__: plan for plan in (ack, slow, hold, release_at_stop, raise_once)}


@app.agent(app.topic(spec["topic"]))
async def read(stream):
    async for batch in stream.batches(spec["batch_max"], spec["linger_s"]):
        await PLANS[spec["plan"]](batch)


if __name__ == "__main__":
    worker = faust.Worker(app, loglevel="warning", stdout=sys.stderr, redirect_stdouts=False)
    worker.execute_from_commandline()
