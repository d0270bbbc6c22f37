"""Masks API keys in what leaves a process for logs, traces and error messages.

Clients put keys where no key belongs: into a path, a model's name, a file's id. The text then returns in messages of
errors, also in those of services and libraries that did not expect a secret.
"""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "[redacted]"
# The prefixes of our own keys (`argosy_<env>_<id>_<secret>`) and of most providers' keys.
_OWN, _PROVIDERS = "argosy_", "sk-"
_KEY = re.compile(r"\b(argosy_[a-z0-9]{1,16}_|sk-)[0-9A-Za-z_-]{16,}")
_KEY_BYTES = re.compile(_KEY.pattern.encode())
_REPLACEMENT, _REPLACEMENT_BYTES = rf"\1{MASK}", rf"\1{MASK}".encode()
_OWN_BYTES, _PROVIDERS_BYTES = _OWN.encode(), _PROVIDERS.encode()


def mask_keys(text: str) -> str:
    """Return `text` with each key cut down to its prefix."""
    # The search for a substring costs a fraction of the pattern's, and nearly no text has one.
    if _OWN in text or _PROVIDERS in text:
        return _KEY.sub(_REPLACEMENT, text)
    return text


def mask_keys_in_bytes(text: bytes) -> bytes:
    """The same for a rendered line."""
    if _OWN_BYTES in text or _PROVIDERS_BYTES in text:
        return _KEY_BYTES.sub(_REPLACEMENT_BYTES, text)
    return text
