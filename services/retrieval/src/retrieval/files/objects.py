"""Objects through obstore: a local folder, S3, GCS, Azure."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from chassis.errors import ArgosyError, Unavailable
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from retrieval.domain.files import FileNotFound

PIECE_BYTES = 256 * 1024
PART_BYTES = 5 * 1024 * 1024  # what S3 takes at least
PARTS_AT_ONCE = 2  # of each upload, in memory


class ObstoreObjects:
    """Objects below the URL of a folder or bucket: `file:///…`, `s3://…`, `gs://…`, `az://…`.

    Credentials are those of obstore: the environment, or the machine's role.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._folder = Path(unquote(parts.path)) if parts.scheme == "file" else None
        self._store: ObjectStore = LocalStore(self._folder, mkdir=True) if self._folder else from_url(url)

    async def put(self, key: str, data: AsyncIterator[bytes]) -> int:
        """See Objects: parts are put aside and become the object in the last step."""
        source = _Counted(data)
        try:
            await obstore.put_async(
                self._store,
                key,
                source,
                use_multipart=True,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )
        except Exception as error:
            if source.failure is not None:
                raise source.failure from None
            raise _away(error) from error
        return source.size_bytes

    async def read(self, key: str) -> AsyncGenerator[bytes, None]:
        """See Objects."""
        try:
            found = await obstore.get_async(self._store, key)
            async for piece in found.stream(min_chunk_size=PIECE_BYTES):
                yield bytes(piece)
        except FileNotFoundError as error:
            raise FileNotFound("the file's bytes are missing") from error
        except (BaseError, OSError) as error:
            raise _away(error) from error

    async def delete(self, key: str) -> None:
        """See Objects."""
        try:
            with suppress(FileNotFoundError):
                await obstore.delete_async(self._store, key)
            await asyncio.to_thread(self._remove_parts, key)
        except (BaseError, OSError) as error:
            raise _away(error) from error

    def _remove_parts(self, key: str) -> None:
        """A killed upload leaves its parts beside the object, in a folder; buckets expire them by a rule of theirs."""
        if self._folder is not None:
            target = self._folder / key
            for part in target.parent.glob(f"{target.name}#*"):
                part.unlink(missing_ok=True)


class _Counted:
    """An upload's bytes: counts them, and keeps what went wrong in them apart from what went wrong with the store."""

    def __init__(self, data: AsyncIterator[bytes]) -> None:
        self._data = data
        self.size_bytes = 0
        self.failure: Exception | None = None

    def __aiter__(self) -> "_Counted":
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await anext(self._data)
        except StopAsyncIteration:
            raise
        except Exception as error:
            self.failure = error
            raise
        self.size_bytes += len(piece)
        return piece


def _away(error: Exception) -> ArgosyError:
    return Unavailable(f"the object store does not answer ({type(error).__name__})")
