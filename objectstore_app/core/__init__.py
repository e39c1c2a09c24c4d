"""Ids, limits, units, clock and the root of all errors. Standard library only, no I/O."""
