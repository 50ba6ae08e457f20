"""Who suits this lead: columns in, columns out. Pure numpy, no I/O, no clock."""
