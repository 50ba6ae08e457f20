"""Who answers: a server that may have lost what it was told gets no claim before the log is applied to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

#: What the log brings so long after a recovery is restored as well: it was decided before, and on its way.
SETTLE_MS = 60_000


class Guard:
    """The identities of the servers that hold what the log says; every new connection is asked for its own.

    A restart, a failover and a swapped server show as another identity; a wipe shows as a cell without its
    mark. Either way nothing is asked of Redis until ``router.recovery`` has made it whole and says so.
    """

    def __init__(self) -> None:
        self._trusted: set[str] = set()
        self.whole = False
        """Whether Redis holds what the log says, as far as anybody noticed."""
        self.restore_until_ms = 0
        """Assignments that the broker has got before this are restored as they are projected."""

    def trust(self, identities: Iterable[str], restored_at_ms: int) -> None:
        """Let calls go to these servers."""
        self._trusted = set(identities)
        self.restore_until_ms = restored_at_ms + SETTLE_MS
        self.whole = True

    @property
    def has_trusted(self) -> bool:
        """Whether Redis was whole at any time before."""
        return bool(self._trusted)

    def distrust(self) -> None:
        """Stop all calls: state was lost."""
        self.whole = False

    def check(self, identity: str) -> None:
        """Refuse a server that nobody has vouched for.

        Raises:
            redis.exceptions.ConnectionError: nothing was sent to it.

        """
        if identity not in self._trusted:
            self.distrust()
            raise RedisConnectionError(f"another server answers ({identity}): the log comes first")


async def ask_identity(connection: Any) -> str | None:  # noqa: ANN401 - redis-py's connection, asked directly
    """The identity behind a fresh connection, see ``identity_of``."""
    await connection.send_command("INFO", "server", "replication")
    info: bytes = await connection.read_response()
    return identity_of(dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line))


def identity_of(info: Mapping[str, Any]) -> str | None:
    """``run_id/master_replid``: the first changes by a restart, both by a failover; None: a replica."""
    return f"{info['run_id']}/{info['master_replid']}" if info["role"] == "master" else None
