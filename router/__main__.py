"""``python -m router`` is ``lead-router``."""

from router.cli import main

if __name__ == "__main__":
    main()
