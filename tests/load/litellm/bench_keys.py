"""Keys for LiteLLM's proxy without its database: its documented custom authentication, from a table in memory.

LiteLLM loads this file from beside its configuration. What it returns switches on the limits that LiteLLM keeps for a
key: requests and tokens per minute, far above what the bench sends.
"""

import hashlib
import os
from typing import Any

from litellm.proxy._types import UserAPIKeyAuth

KNOWN = {hashlib.sha256(os.environ["BENCH_KEY"].encode()).hexdigest()}


async def user_api_key_auth(request: Any, api_key: str) -> UserAPIKeyAuth:
    """Know the key, or refuse."""
    digest = hashlib.sha256(api_key.encode()).hexdigest()
    if digest not in KNOWN:
        raise PermissionError("unknown key")
    return UserAPIKeyAuth(api_key=digest, team_id="bench", rpm_limit=10**9, tpm_limit=10**12)
