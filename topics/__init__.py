"""What happens, on which stream, in what shape."""
