"""A made-up world for the router: a country of stores, their guides, a stream of wishes, and its audit."""
