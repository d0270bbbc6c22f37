"""The log of changes of the configuration, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from chassis.errors import Unavailable
from orchestrator.configuration.model import Change, ChangeFilter, Document, Edit, ObjectKey

EDIT = Edit("ops", "because")
CREATED_AT = datetime(2026, 1, 1, tzinfo=UTC)


class FakeConfiguration:
    """Implements `Configuration`. While `down` is set it is unavailable."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.announced: list[int] = []
        self.down = False
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def change(self, edit: Edit) -> AsyncIterator[FakeChange]:
        async with self._lock:
            opened = FakeChange(self, edit)
            yield opened
            self.changes += opened.pending
        if opened.pending:
            self.announced.append(len(self.changes))

    async def version(self) -> int:
        if self.down:
            raise Unavailable("no database")
        return len(self.changes)

    async def list_changes(self, wanted: ChangeFilter) -> Sequence[Change]:
        before = wanted.before_version or len(self.changes) + 1
        return [one for one in reversed(self.changes) if one.version < before and _matches(one.key, wanted)][
            : wanted.limit
        ]

    async def changes_between(self, after: int, until: int) -> Sequence[Change]:
        return self.changes[after:until]

    async def write(self, key: ObjectKey, before: Document | None, after: Document | None) -> None:
        """Log one change, for tests."""
        async with self.change(EDIT) as change:
            await change.record(key, before, after)


class FakeChange:
    """Implements `OpenChange`."""

    connection: Any = None

    def __init__(self, log: FakeConfiguration, edit: Edit) -> None:
        self._log, self._edit = log, edit
        self.pending: list[Change] = []

    async def record(self, key: ObjectKey, before: Document | None, after: Document | None) -> int | None:
        if before == after:
            return None
        version = len(self._log.changes) + len(self.pending) + 1
        change = Change(version, key, before, after, self._edit.author, self._edit.reason, CREATED_AT)
        self.pending.append(change)
        return version


def _matches(key: ObjectKey, wanted: ChangeFilter) -> bool:
    pairs = ((wanted.kind, key.kind), (wanted.tenant_id, key.tenant_id), (wanted.name, key.name))
    return all(text in ("", value) for text, value in pairs)
