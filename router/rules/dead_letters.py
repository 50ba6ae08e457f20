"""What a dead letter carries: the original bytes, unchanged, and in its headers where and why."""

from __future__ import annotations

from hashlib import sha256

from router.rules.intake import Refusal
from topics.codec import MESSAGE_BYTES_MAX

Headers = tuple[tuple[str, bytes], ...]


def dead_letter(refusal: Refusal, topic_name: str) -> tuple[bytes, Headers]:
    """Value and headers; ``topic_name`` is without the prefix, a value over 64 KiB is cut."""
    record = refusal.record
    value = record.value or b""
    headers = {
        "reason": refusal.reason,
        "detail": refusal.detail[:500],
        "topic": topic_name,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "length": str(len(value)) if record.value is not None else "-1",
        "sha256": sha256(value).hexdigest(),
        "received_at_ms": str(record.timestamp),
    }
    return value[:MESSAGE_BYTES_MAX], tuple((name, text.encode()) for name, text in headers.items())
