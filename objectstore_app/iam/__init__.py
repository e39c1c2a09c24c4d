"""People, access keys and what they may do."""
