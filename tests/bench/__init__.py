"""Measures the embedded store, beside a peer where its binary is found: `python -m tests.bench`."""
