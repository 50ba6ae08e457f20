"""The kinds of trouble the router tells apart; anything else that is raised is a bug."""

from __future__ import annotations


class OutageError(Exception):
    """A part does not answer for now: retry with a bound while the partition waits, acknowledge nothing."""


class StateLostError(OutageError):
    """Redis no longer holds what it was told: an outage until the log has been applied to it again."""


class RefusedError(Exception):
    """A part has refused one thing for good (say, a record too large); retrying cannot help.

    ``index`` is the position, in the sequence that was handed over, of what was refused.
    """

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.index = index


class EffectError(Exception):
    """An effect (Redis script, publish) failed in a way nobody foresaw: the process ends unacknowledged."""


class ConfigError(Exception):
    """The configuration or the surroundings are wrong; the message says what to change."""
