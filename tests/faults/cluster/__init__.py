"""Faults of a deployment: nodes switched off, parts of the platform taken away and put back."""
