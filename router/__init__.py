"""The router: what consumes, decides with the scoring core, claims, publishes and acknowledges."""
