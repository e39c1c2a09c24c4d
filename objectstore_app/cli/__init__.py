"""The objectstore command."""
