"""What iam refuses.

ObjectStoreError
└─ IdentityError
   ├─ InvalidIdentityError    an e-mail address, name or key breaks a rule; `hint` names it
   └─ SealError               a sealed secret or data key that this key cannot open
"""

from __future__ import annotations

from ..core.errors import ObjectStoreError


class IdentityError(ObjectStoreError):
    """Something about a person or a key that iam would not or could not do."""


class InvalidIdentityError(IdentityError):
    """The given value breaks a rule; nothing was made."""


class SealError(IdentityError):
    """What is sealed was sealed under another key, or its bytes were damaged."""
