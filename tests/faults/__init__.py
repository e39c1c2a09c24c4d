"""Faults of a whole store: processes killed at any moment, disks that are full or lie."""
