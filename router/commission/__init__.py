"""The reading side of shared commission: what the book says to people, and what people ask of it."""
