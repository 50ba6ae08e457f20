"""What happens, on which stream, in what shape: one file per family of events, pure and without I/O."""
