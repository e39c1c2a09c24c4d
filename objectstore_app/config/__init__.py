"""Typed settings, parsed once to frozen objects."""
