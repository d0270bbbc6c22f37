"""What operators do to flags. Each change has an author and a reason, and every replica is told of it."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from chassis.errors import ArgosyError, InvalidRequest

from orchestrator.configuration.model import Change, ChangeFilter, ConfigurationKind, Document, Edit
from orchestrator.configuration.ports import Configuration
from orchestrator.flags.documents import document_to_flag
from orchestrator.flags.edit import KnownNames, check_flag, default_switch
from orchestrator.flags.model import Flag, FlagKind, FlagNotFound, FlagVersionConflict, StoredFlag
from orchestrator.flags.ports import ChangeFlag, FlagStore
from orchestrator.flags.snapshot import FlagCache


@dataclass(frozen=True, slots=True)
class ManageFlags:
    """`known` returns what routes name now. This replica has a change before the call returns."""

    store: FlagStore
    configuration: Configuration
    cache: FlagCache
    known: Callable[[], Awaitable[KnownNames]]

    async def get(self, key: str) -> StoredFlag:
        """Raises FlagNotFound."""
        return _found(await self.store.find(key), key)

    async def put(self, flag: Flag, edit: Edit, *, expected_version: int | None = None) -> StoredFlag:
        """Create or replace a flag. A killed flag stays killed until it is restored.

        Raises InvalidRequest; FlagVersionConflict unless `expected_version` is that of the flag: 0 for none.
        """
        _check_reason(edit)
        known = await self.known()

        def change(stored: StoredFlag | None) -> Flag:
            version = 0 if stored is None else stored.version
            if expected_version not in (None, version):
                raise FlagVersionConflict(
                    f"The flag {flag.key!r} has the version {version} now, not {expected_version}.", param="version"
                )
            return check_flag(replace(flag, killed=stored is not None and stored.flag.killed), known)

        return _found(await self._edit(flag.key, edit, change), flag.key)

    async def delete(self, key: str, edit: Edit) -> None:
        """Raises FlagNotFound; InvalidRequest for a killed flag, which a deletion would turn on again."""

        def change(stored: StoredFlag | None) -> None:
            if _found(stored, key).flag.killed:
                raise InvalidRequest(f"{key} is killed: restore it first, or it would be on again.", param="key")

        await self._edit(key, edit, change)

    async def kill(self, key: str, edit: Edit) -> StoredFlag:
        """Turn a flag off for all, now; a switch need not exist before. Safe to repeat.

        Raises InvalidRequest, and FlagNotFound for a flag that is no switch and does not exist.
        """
        known = await self.known()

        def change(stored: StoredFlag | None) -> Flag:
            if stored is None and key.startswith(f"{FlagKind.APP}."):
                raise FlagNotFound(f"There is no flag {key!r}.", param="key")
            flag = default_switch(key, known) if stored is None else stored.flag
            if flag.off_variant is None:
                raise InvalidRequest(f"{key} has no variant that is false, so it cannot be killed.", param="key")
            return replace(flag, killed=True)

        return _found(await self._edit(key, edit, change), key)

    async def restore(self, key: str, edit: Edit) -> StoredFlag:
        """End a kill: the rules decide again. Safe to repeat. Raises FlagNotFound."""
        stored = await self._edit(key, edit, lambda stored: replace(_found(stored, key).flag, killed=False))
        return _found(stored, key)

    async def roll_back(self, key: str, version: int, edit: Edit) -> StoredFlag | None:
        """Make the flag what it was at a version of the configuration. What it names must still exist."""
        wanted = ChangeFilter(1, version + 1, ConfigurationKind.FLAG, "", key)
        changes = await self.configuration.list_changes(wanted)
        if version < 1 or not changes:
            raise FlagNotFound(f"There was no flag {key!r} at version {version}.", param="version")
        document: Document | None = changes[0].after
        flag = None if document is None else check_flag(document_to_flag(key, document), await self.known())
        return await self._edit(key, edit, lambda _: flag)

    async def versions(self, key: str, *, limit: int, before: int) -> Sequence[Change]:
        """Return the changes of a flag, the newest first; `before` 0 begins with the last one."""
        return await self.configuration.list_changes(ChangeFilter(limit, before, ConfigurationKind.FLAG, "", key))

    async def _edit(self, key: str, edit: Edit, change: ChangeFlag) -> StoredFlag | None:
        _check_reason(edit)
        stored = await self.store.edit(key, edit, change)
        # The change is stored: a read that fails now is repeated by the feed of the configuration.
        with suppress(ArgosyError):
            await self.cache.refresh()
        return stored


def _check_reason(edit: Edit) -> None:
    if not edit.reason.strip():
        raise InvalidRequest("A change of a flag needs a reason.", param="reason")


def _found(stored: StoredFlag | None, key: str) -> StoredFlag:
    if stored is None:
        raise FlagNotFound(f"There is no flag {key!r}.", param="key")
    return stored
