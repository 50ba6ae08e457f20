"""JSON Schemas of all topics, for people who publish from other languages."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from topics.catalog import TOPICS


def schemas() -> dict[str, bytes]:
    """File name to JSON Schema text, one for each topic that carries events."""
    return {
        f"{topic.name}.schema.json": orjson.dumps(
            _schema(topic.name, topic.event), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        )
        for topic in TOPICS
        if topic.event is not None
    }


def _schema(name: str, event: type[msgspec.Struct]) -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": name,
        **msgspec.json.schema(event),
    }
