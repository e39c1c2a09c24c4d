"""Object I/O: what goes into the store and comes out of it, whatever language asked for it."""
