"""Lists of customers: read and checked row by row, sent as leads, and told what became of each row."""
