"""The port of flags."""

from collections.abc import Callable, Sequence
from typing import Protocol

from orchestrator.configuration.model import Edit
from orchestrator.flags.model import Flag, StoredFlag
from orchestrator.flags.snapshot import FlagReader

ChangeFlag = Callable[[StoredFlag | None], Flag | None]
"""Makes of a flag as it is what it shall be; None is no flag. What it raises leaves everything as it is."""


class FlagStore(FlagReader, Protocol):
    """Keeps flags. All methods raise `Unavailable`."""

    async def find(self, key: str) -> StoredFlag | None: ...

    async def list(self) -> Sequence[StoredFlag]:
        """All flags, by key."""
        ...

    async def edit(self, key: str, edit: Edit, change: ChangeFlag) -> StoredFlag | None:
        """Change a flag in one transaction, which logs the change; others wait for its end."""
        ...
