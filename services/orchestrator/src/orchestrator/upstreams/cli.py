"""`python -m orchestrator reseal`: the step of a key rotation after the new key stands first everywhere."""

from typing import Final

from orchestrator.configuration.model import Edit
from orchestrator.upstreams.ports import UpstreamStore

HELP: Final = "seal credentials' data keys and endpoints' secrets with the first keys of the settings"


async def run_reseal(store: UpstreamStore) -> str:
    """Return what to print. Raises `SealUnreadable` for a key that none of the ring opens: then nothing is changed."""
    done = await store.reseal(Edit("python -m orchestrator reseal", "rotation of the credential keys"))
    return f"wrapped {done} data keys with the first key; the others were\n"
