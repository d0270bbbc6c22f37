"""Prompts by meaning in memory. All prompts of a partition are near: what keeps them apart is the guard."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from chassis.errors import Unavailable
from chassis.tenancy import current_caller
from orchestrator.response_cache.ports import NearPrompt


@dataclass
class FakePromptIndex:
    """Implements PromptIndex. `similarity` is that of any two prompts."""

    similarity: float = 0.96
    down: bool = False
    hangs: bool = False
    kept: dict[tuple[str, bytes], list[NearPrompt]] = field(default_factory=dict)
    finds: int = 0
    failures: int = 0

    async def find(
        self, partition: bytes, prompt: str, min_similarity: float, limit: int, timeout: timedelta
    ) -> Sequence[NearPrompt]:
        self.finds += 1
        if self.hangs:
            await asyncio.Event().wait()
        self._check()
        near = self.kept.get(self._place(partition), [])
        return near[:limit] if self.similarity >= min_similarity else []

    async def put(self, partition: bytes, entry_id: str, model: str, prompt: str, lifetime: timedelta) -> None:
        self._check()
        self.kept.setdefault(self._place(partition), []).append(NearPrompt(entry_id, prompt))

    def fail(self) -> None:
        """Count a failure that the cache reports."""
        self.failures += 1

    def _place(self, partition: bytes) -> tuple[str, bytes]:
        return current_caller().principal.tenant_id, partition

    def _check(self) -> None:
        if self.down:
            raise Unavailable("retrieval is not connected")
