"""ObjectStoreError └─ SettingsError."""

from __future__ import annotations

from ..core.errors import ObjectStoreError


class SettingsError(ObjectStoreError):
    """`operation` is the setting, `subject` the value given, `hint` what would be right."""
