"""Pulumi components: one per module."""
