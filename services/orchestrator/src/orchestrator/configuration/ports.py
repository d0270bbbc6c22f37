"""What changes of the configuration need."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from orchestrator.configuration.model import Change, ChangeFilter, Document, Edit, ObjectKey


class OpenChange(Protocol):
    """A transaction that changes the configuration. Nothing is changed when its block raises."""

    @property
    def connection(self) -> Any:
        """The connection on which the objects are written."""

    async def record(self, key: ObjectKey, before: Document | None, after: Document | None) -> int | None:
        """Log a change and return its version; None, and nothing, when both documents are equal."""


class Configuration(Protocol):
    """The log of changes. All methods raise `Unavailable`."""

    def change(self, edit: Edit) -> AbstractAsyncContextManager[OpenChange]:
        """Open a transaction; others wait for its end. After its commit every process is told."""

    async def version(self) -> int:
        """Return the version of the last change; 0 before the first."""

    async def list_changes(self, wanted: ChangeFilter) -> Sequence[Change]:
        """List changes, the newest first."""

    async def changes_between(self, after: int, until: int) -> Sequence[Change]:
        """Return the changes of the versions above `after` up to `until`, in their order."""


class Restorer(Protocol):
    """Writes objects of one kind for a rollback."""

    async def restore(self, change: OpenChange, key: ObjectKey, document: Document | None) -> None:
        """Make the object what the document says, or remove it, and record that.

        Raises what a write of an administrator raises: the rollback is then not made at all.
        """
