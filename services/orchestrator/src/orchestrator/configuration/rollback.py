"""Makes the configuration what it was at an earlier version, by new changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chassis.errors import InvalidRequest

from orchestrator.configuration.model import (
    Change,
    ConfigurationVersionUnknown,
    Difference,
    Edit,
    differences,
    inverse,
)
from orchestrator.configuration.ports import Configuration, Restorer


@dataclass(frozen=True, slots=True)
class Scope:
    """Which objects; an empty text matches all."""

    kind: str = ""
    tenant_id: str = ""
    name: str = ""

    def covers(self, change: Change) -> bool:
        key = change.key
        wanted = ((self.kind, key.kind), (self.tenant_id, key.tenant_id), (self.name, key.name))
        return all(text in ("", value) for text, value in wanted)


@dataclass(frozen=True, slots=True)
class RollbackResult:
    """What a rollback changes, and what it leaves as it is because its kind cannot be restored."""

    restored: Sequence[Difference]
    kept: Sequence[Difference]
    version: int
    """The version afterwards."""


class History:
    """Compares versions, and goes back to one."""

    def __init__(self, configuration: Configuration, restorers: Mapping[str, Restorer]) -> None:
        """`restorers` by kind. Credentials have none: a rollback must not undo a revocation."""
        self._configuration = configuration
        self._restorers = restorers

    async def diff(self, after: int, until: int | None, scope: Scope) -> Sequence[Difference]:
        """Return what differs between two versions; `until` is the newest when it is None.

        Raises `ConfigurationVersionUnknown`, `InvalidRequest`.
        """
        newest = await self._configuration.version()
        until = newest if until is None else until
        if after > until:
            raise InvalidRequest("The first version must not be newer than the second.", param="from")
        self._check(after, newest)
        self._check(until, newest)
        return differences(await self._changes(after, until, scope))

    async def rollback(self, to: int, edit: Edit, scope: Scope, *, dry_run: bool = False) -> RollbackResult:
        """Undo all changes above version `to`. Raises `ConfigurationVersionUnknown`, and what a restorer raises."""
        async with self._configuration.change(edit) as change:
            newest = await self._configuration.version()
            self._check(to, newest)
            wanted = inverse(await self._changes(to, newest, scope))
            restored = [one for one in wanted if one.key.kind in self._restorers]
            kept = [one for one in wanted if one.key.kind not in self._restorers]
            if not dry_run:
                for one in restored:
                    await self._restorers[one.key.kind].restore(change, one.key, one.after)
        return RollbackResult(restored, kept, newest if dry_run else await self._configuration.version())

    async def _changes(self, after: int, until: int, scope: Scope) -> Sequence[Change]:
        return [change for change in await self._configuration.changes_between(after, until) if scope.covers(change)]

    def _check(self, version: int, newest: int) -> None:
        if not 0 <= version <= newest:
            raise ConfigurationVersionUnknown(f"There is no version {version}: the newest is {newest}.")
