"""How fast and how good: benchmarks."""
