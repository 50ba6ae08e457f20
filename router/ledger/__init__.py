"""The ledger: orders and commands become postings, each once; and the book read back into Redis."""
