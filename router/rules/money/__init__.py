"""What follows for commission: from evidence to shares, from shares to postings, and back to balances."""
