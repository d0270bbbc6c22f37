"""Whether a store that did not answer a plain connection would answer one with TLS."""

from __future__ import annotations

import asyncio
import ssl


async def accepts_tls(host: str, port: int, timeout_seconds: float) -> bool:
    """Shake hands with any certificate, and send nothing: the answer is for a message to operators alone."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(timeout_seconds):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True
