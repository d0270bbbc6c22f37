"""The upstreams of a process: those of the settings, and those of the last snapshot."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, Self

from inference_worker.providers.credentials import Credential, SealedCredential
from inference_worker.providers.ports import Upstream
from inference_worker.upstreams.model import ManagedCredentials, UpstreamDocument, UpstreamSnapshot

OpenUpstream = Callable[[UpstreamDocument, AsyncExitStack], Awaitable[Upstream | None]]
"""Opens an upstream as declared; the stack closes what it holds. None when it cannot be opened."""

Unseal = Callable[[SealedCredential], Credential | None]
"""Opens a credential; None when it does not open: its key is not known, or the row was moved or changed."""


@dataclass(frozen=True, slots=True)
class _Managed:
    declared: UpstreamDocument
    upstream: Upstream
    credentials: ManagedCredentials


class LiveUpstreams(Mapping[str, Upstream]):
    """Looked up at each attempt. An upstream that the API declares replaces one of the settings with its name."""

    def __init__(self, configured: Mapping[str, Upstream], open_upstream: OpenUpstream, unseal: Unseal) -> None:
        """`configured` are those of the settings."""
        self._configured = dict(configured)
        self._open = open_upstream
        self._unseal = unseal
        self._managed: dict[str, _Managed] = {}
        self._all: dict[str, Upstream] = dict(configured)
        # What was replaced still serves calls, and closes its connections as these end; the stack closes the rest.
        self._stack = AsyncExitStack()
        self.version: int | None = None
        """The version of the last snapshot; None before the first."""
        self.unreadable = 0
        """How many of its credentials did not open."""

    def __getitem__(self, name: str) -> Upstream:
        return self._all[name]

    def __contains__(self, name: object) -> bool:
        return name in self._all

    def get(self, name: str, default: Any = None) -> Any:
        # The hot path: without the exception that the inherited method catches.
        return self._all.get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def managed(self) -> int:
        """How many of them the API has declared."""
        return len(self._managed)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def apply(self, snapshot: UpstreamSnapshot) -> None:
        """Open what is new or changed, retire what is gone, and put the credentials in force.

        An upstream that cannot be opened, and a credential that cannot be unsealed, leave the others alone.
        """
        managed = {one.name: opened for one in snapshot.upstreams if (opened := await self._opened(one)) is not None}
        credentials = self._unsealed(snapshot)
        for name, one in managed.items():
            one.credentials.replace(credentials.get(name, {}))
        before, self._managed = self._managed, managed
        # One assignment: a lookup sees all of the snapshot or nothing of it.
        self._all = {**self._configured, **{name: one.upstream for name, one in managed.items()}}
        for name, one in before.items():
            if managed.get(name) is not one:
                one.upstream.retire()
        self.version = snapshot.version

    async def _opened(self, declared: UpstreamDocument) -> _Managed | None:
        """Return the upstream, which stays open while its document stays the same; None when it cannot be opened."""
        known = self._managed.get(declared.name)
        if known is not None and known.declared == declared:
            return known
        upstream = await self._open(declared, self._stack)
        if upstream is None:
            return None
        credentials = ManagedCredentials()
        required = bool(declared.document.get("requires_credential", True))
        upstream = replace(upstream, credentials=credentials, requires_credential=required)
        return _Managed(declared, upstream, credentials)

    def _unsealed(self, snapshot: UpstreamSnapshot) -> dict[str, dict[str, tuple[Credential, ...]]]:
        found: dict[str, dict[str, tuple[Credential, ...]]] = defaultdict(dict)
        unreadable = 0
        for row in snapshot.credentials:
            credential = self._unseal(row)
            if credential is None:
                unreadable += 1
                continue
            of_upstream = found[row.upstream]
            of_upstream[row.tenant_id] = (*of_upstream.get(row.tenant_id, ()), credential)
        self.unreadable = unreadable
        return found
