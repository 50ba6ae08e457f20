"""What follows from an event: pure functions that return values."""
