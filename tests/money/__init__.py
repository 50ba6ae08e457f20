"""Each protection of money, taken away once: ``make money-mutate``."""
