"""Shards: the log that is the truth, the SQLite view of it, transactions, listing, RPC."""
