"""Flags in memory, with the log of their changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.configuration.model import ALL_TENANTS, Change, ChangeFilter, ConfigurationKind, Edit, ObjectKey
from orchestrator.flags.documents import flag_to_document
from orchestrator.flags.edit import KnownNames
from orchestrator.flags.manage import ManageFlags
from orchestrator.flags.model import Flag, FlagType, Rule, StoredFlag
from orchestrator.flags.ports import ChangeFlag
from orchestrator.flags.snapshot import FlagCache, FlagSnapshot

from services.orchestrator.tests.fake_configuration import CREATED_AT

KNOWN = KnownNames({"smollm2", "all-minilm-l6-v2"}, {"local", "dear"})
EDIT = Edit("usr_1", "the provider is down")


async def known_names() -> KnownNames:
    return KNOWN


def switch(key: str, *rules: Rule, default: str = "on", **changes: Any) -> Flag:
    """Make a switch with these rules."""
    variants = {"on": True, "off": False}
    return Flag(
        key=key, type=FlagType.BOOLEAN, variants=variants, default_variant=default, rules=tuple(rules), **changes
    )


def snapshot_of(*flags: Flag, version: int = 1) -> FlagSnapshot:
    return FlagSnapshot(version, {flag.key: flag for flag in flags})


class FakeFlagStore:
    """Implements `FlagStore`, and of `Configuration` the list of changes. `failure` is raised while it is set."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.changes: list[Change] = []
        self._flags: dict[str, StoredFlag] = {}

    async def read(self, known_version: int | None) -> FlagSnapshot | None:
        if self.failure is not None:
            raise self.failure
        if known_version == len(self.changes):
            return None
        return FlagSnapshot(len(self.changes), {key: stored.flag for key, stored in self._flags.items()})

    async def find(self, key: str) -> StoredFlag | None:
        return self._flags.get(key)

    async def list(self) -> Sequence[StoredFlag]:
        return [self._flags[key] for key in sorted(self._flags)]

    async def edit(self, key: str, edit: Edit, change: ChangeFlag) -> StoredFlag | None:
        stored = self._flags.get(key)
        flag = change(stored)
        before = None if stored is None else flag_to_document(stored.flag)
        after = None if flag is None else flag_to_document(flag)
        if before != after:
            version, of_flag = len(self.changes) + 1, ObjectKey(ConfigurationKind.FLAG, ALL_TENANTS, key)
            self.changes.append(Change(version, of_flag, before, after, edit.author, edit.reason, CREATED_AT))
            if flag is None:
                del self._flags[key]
            else:
                self._flags[key] = StoredFlag(flag=flag, version=version, updated_at=CREATED_AT)
        return self._flags.get(key)

    async def list_changes(self, wanted: ChangeFilter) -> Sequence[Change]:
        before = wanted.before_version or len(self.changes) + 1
        found = [one for one in self.changes if one.version < before and one.key.name == wanted.name]
        return list(reversed(found))[: wanted.limit]


def managed(store: FakeFlagStore) -> ManageFlags:
    """Operators' use cases over a store in memory."""
    return ManageFlags(store, store, FlagCache(store), known_names)  # type: ignore[arg-type]
