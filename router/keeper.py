"""A script that stands between us and a server of ours, so that the server never outlives us.

It starts the server, tells its pid and holds the reading end of a pipe of ours. When that pipe ends (we have
died, by whatever signal) it kills the server, paused or not, and removes its folder. The kernel's own death
signal would be shorter, but it is Linux's only and follows the thread that started it, not the process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading


def keep(folder: str, *command: str) -> None:
    """Run ``command`` to its end, or to the end of our standard input; in that case ``folder`` goes too.

    Ends with the status of the server, as a shell would tell it: 137 for one that was killed.
    """
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)  # noqa: S603 - a literal of ours
    print(server.pid, flush=True)  # noqa: T201 - this is how the keeper tells the pid
    orphaned = threading.Event()

    def watch() -> None:
        os.read(0, 1)
        orphaned.set()
        server.kill()

    threading.Thread(target=watch, daemon=True).start()
    server.wait()
    if orphaned.is_set():
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(server.returncode if server.returncode >= 0 else 128 - server.returncode)


if __name__ == "__main__":
    keep(*sys.argv[1:])
