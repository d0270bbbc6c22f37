"""All flags of one version in memory, and the switches among them. Evaluated on the hot path without an await."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

from chassis.errors import Unavailable

from orchestrator.flags.model import SWITCHES, Flag, FlagContext, FlagKind

Variants = dict[str, str]
"""The flags that a request has evaluated: key to variant. They stand in its log line and on its span."""


class FlagSnapshot:
    """Flags by key. A switch that is not defined is on and costs one look-up."""

    def __init__(self, version: int, flags: Mapping[str, Flag]) -> None:
        self.version = version
        self.flags: Mapping[str, Flag] = MappingProxyType(dict(flags))
        by_kind: dict[str, dict[str, Flag]] = {kind: {} for kind in SWITCHES}
        for key, flag in flags.items():
            kind, _, name = key.partition(".")
            if kind in by_kind:
                by_kind[kind][name] = flag
        # An empty table is left out, so that the question costs one look-up where nothing is defined.
        self._switches = {kind: switches for kind, switches in by_kind.items() if switches}
        self.has_switches = bool(self._switches)
        """Whether any is defined: without one a request need not ask."""

    def has(self, kind: FlagKind) -> bool:
        """Whether any switch of this kind is defined."""
        return kind in self._switches

    def is_on(self, kind: FlagKind, name: str, context: FlagContext, evaluated: Variants) -> bool:
        """Evaluate a switch; a defined one is added to `evaluated`."""
        switches = self._switches.get(kind)
        flag = None if switches is None else switches.get(name)
        if flag is None:
            return True
        variant = flag.evaluate(context).variant
        if variant is None:
            return True
        evaluated[flag.key] = variant
        return flag.variants[variant] is not False


EMPTY: Final = FlagSnapshot(0, {})


class FlagReader(Protocol):
    """Reads the flags of all tenants."""

    async def read(self, known_version: int | None) -> FlagSnapshot | None:
        """Return all flags, or None when `known_version` is still the current one. Raises Unavailable."""
        ...


class FlagCache:
    """The flags as last read. They stay in force while the store is unavailable."""

    def __init__(self, store: FlagReader, snapshot: FlagSnapshot | None = None) -> None:
        """`snapshot` holds the flags until the first refresh."""
        self._store = store
        self._snapshot = snapshot

    def snapshot(self) -> FlagSnapshot:
        """Return the flags without waiting. Raises Unavailable before the first read: a kill might be unknown."""
        if self._snapshot is None:
            raise Unavailable("the feature flags have not been read yet")
        return self._snapshot

    async def refresh(self) -> bool:
        """Read the flags if they have changed; return whether they have. Raises Unavailable."""
        read = await self._store.read(None if self._snapshot is None else self._snapshot.version)
        # A read that was overtaken by a later one does not bring an older version back.
        if read is None or (self._snapshot is not None and read.version <= self._snapshot.version):
            return False
        self._snapshot = read
        return True


class _NoStore:
    async def read(self, known_version: int | None) -> FlagSnapshot | None:  # noqa: ARG002
        return None


NO_FLAGS: Final = FlagCache(_NoStore(), EMPTY)
"""No flag is defined, so that everything is on: for what is wired without flags."""
