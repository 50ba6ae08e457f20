"""The real worker command with the faults that the variable ``FAULTS`` names in JSON."""

from __future__ import annotations

import json
import os
import sys

from router.cli import main
from tests.faults import hooks

if __name__ == "__main__":
    hooks.install(json.loads(os.environ.get(hooks.VARIABLE) or "{}"))
    main(["worker", *sys.argv[1:]])
