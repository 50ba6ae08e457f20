"""A seeded simulator: the real flow, delivery and projector over fakes of Kafka and Redis, in made-up time.

Read ``simulation`` first. ``loop`` keeps the time, ``kafka`` and ``redis`` are the fakes (``scripts`` is what
the Lua does), ``faults`` says what goes wrong and when, ``worker`` puts the real parts together as
``router.worker`` does, ``world`` makes up the inputs, ``judge`` says whether all went as ``expected``.
"""
