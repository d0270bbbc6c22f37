"""Transactions for several files at once: those of files that wait for one while another is being committed.

A file waits only while a transaction of the same tenant runs, so one that comes alone is not delayed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

from chassis.errors import ArgosyError
from chassis.postgres import GroupCommit

from retrieval.embeddings.model import Vector
from retrieval.ingestion.finished_files_postgres import FinishedFile
from retrieval.ingestion.model import Claim, ClaimLost, EmbeddedChunk
from retrieval.ingestion.postgres import PostgresIngestionStore, finished_file
from retrieval.parsing.model import FileWarning
from retrieval.quotas.model import UNLIMITED, Quota
from retrieval.vector_stores.model import AttachmentKey

# Files of one transaction.
MAX_FILES = 32
# A file with more chunks has a transaction of its own.
MAX_CHUNKS = 8

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True)
class _Group(Generic[T, R]):
    commits: GroupCommit[T, R | BaseException]
    waiting: int = 0


class Grouped(Generic[K, T, R]):
    """Calls `commit` with the items of one key that came while the last call for that key ran.

    When the call for several items fails, each has a call of its own, so that no item fails others.
    """

    def __init__(self, commit: Callable[[K, Sequence[T]], Awaitable[Sequence[R | BaseException]]]) -> None:
        """`commit` returns for each item its result, or the error that is to be raised for it."""
        self._commit = commit
        self._groups: dict[K, _Group[T, R]] = {}

    async def submit(self, key: K, item: T) -> R:
        """The result of the item. Raises its error."""
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(GroupCommit(lambda items: self._run(key, items), MAX_FILES))
        group.waiting += 1
        try:
            outcome = await group.commits.submit(item)
        finally:
            group.waiting -= 1
            if not group.waiting and self._groups.get(key) is group:
                del self._groups[key]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def _run(self, key: K, items: list[T]) -> list[R | BaseException | ArgosyError]:
        try:
            return list(await self._commit(key, items))
        except Exception:
            if len(items) == 1:
                raise
        return await asyncio.gather(*(self._alone(key, item) for item in items))

    async def _alone(self, key: K, item: T) -> R | BaseException:
        try:
            (outcome,) = await self._commit(key, [item])
        except Exception as error:  # noqa: BLE001 - it is raised to the one who waits for this item
            return error
        return outcome


class GroupedIngestionStore(PostgresIngestionStore):
    """Implements IngestionStore: claims, known vectors and completions of short files share transactions."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._claims = Grouped(self._claim_group)
        self._vectors = Grouped(self._vectors_group)
        self._finished = Grouped(self._finish_group)

    async def claim(self, key: AttachmentKey, lease: timedelta) -> Claim | None:
        claiming = asyncio.ensure_future(self._claims.submit((key.tenant_id, lease), key))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            await self._release_unwanted(claiming)
            raise

    async def _release_unwanted(self, claiming: "asyncio.Future[Claim | None]") -> None:
        """Give back a claim that is being made with those of others, so that it does not wait for its lease to end."""
        with suppress(ArgosyError, ClaimLost):
            if (claim := await claiming) is not None:
                await self.release(claim, timedelta(0), failed=False)

    async def known_vectors(self, tenant_id: str, fingerprints: Sequence[bytes]) -> dict[bytes, Vector]:
        if len(fingerprints) > MAX_CHUNKS:
            return await super().known_vectors(tenant_id, fingerprints)
        return await self._vectors.submit(tenant_id, fingerprints)

    async def finish(
        self,
        claim: Claim,
        batch: Sequence[EmbeddedChunk],
        warnings: Sequence[FileWarning] = (),
        quota: Quota = UNLIMITED,
    ) -> None:
        if len(batch) > MAX_CHUNKS:
            await super().finish(claim, batch, warnings, quota)
        else:
            key = (claim.key.tenant_id, claim.key.vector_store_id, quota)
            await self._finished.submit(key, await finished_file(claim, batch, warnings))

    async def _claim_group(
        self, key: tuple[str, timedelta], keys: Sequence[AttachmentKey]
    ) -> Sequence[Claim | BaseException | None]:
        claims = await self.claim_files(key[0], list(dict.fromkeys(keys)), key[1])
        # Of two runs over one file, one gets the claim.
        return [claims.pop(key, None) for key in keys]

    async def _vectors_group(
        self, tenant_id: str, items: Sequence[Sequence[bytes]]
    ) -> Sequence[dict[bytes, Vector] | BaseException]:
        known = await super().known_vectors(tenant_id, list({one for item in items for one in item}))
        return [{one: known[one] for one in item if one in known} for item in items]

    async def _finish_group(
        self, key: tuple[str, str, Quota], files: Sequence[FinishedFile]
    ) -> Sequence[BaseException | None]:
        return await self.finish_files(files, key[2])
