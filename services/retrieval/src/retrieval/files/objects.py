"""Objects in a local folder, S3, GCS or Azure, through obstore."""

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from chassis.errors import ArgosyError, Unavailable
from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url
from obstore.store import ObjectStore as Store

from retrieval.files.model import FileNotFound

PIECE_BYTES = 256 * 1024
PART_BYTES = 5 * 1024 * 1024  # S3's minimum
FOLDER_PART_BYTES = 1024 * 1024
MAX_CONCURRENT_PARTS = 2  # of each upload, in memory


class ObstoreObjectStore:
    """Implements ObjectStore below the URL of a folder or bucket: `file:///…`, `s3://…`, `gs://…`, `az://…`.

    obstore takes the credentials from the environment or the machine's role.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._folder = Path(unquote(parts.path)) if parts.scheme == "file" else None
        self._part_bytes = PART_BYTES if self._folder is None else FOLDER_PART_BYTES
        self._store: Store = LocalStore(self._folder, mkdir=True) if self._folder else from_url(url)
        if self._folder is not None:
            _make_tree_private(self._folder)

    async def put(self, key: str, data: AsyncIterator[bytes]) -> int:
        # The parts become the object in the last step, so a failed upload leaves no object.
        source = _CountingIterator(data)
        try:
            await obstore.put_async(
                self._store,
                key,
                source,
                use_multipart=True,
                chunk_size=self._part_bytes,
                max_concurrency=MAX_CONCURRENT_PARTS,
            )
        except Exception as error:
            if source.error is not None:
                raise source.error from None
            raise _unavailable(error) from error
        if self._folder is not None:
            await asyncio.to_thread(_make_private, self._folder / key, self._folder)
        return source.size_bytes

    async def read(self, key: str) -> AsyncGenerator[bytes, None]:
        try:
            result = await obstore.get_async(self._store, key)
            async for piece in result.stream(min_chunk_size=PIECE_BYTES):
                yield bytes(piece)
        except FileNotFoundError as error:
            raise FileNotFound("the file's bytes are missing") from error
        except (BaseError, OSError) as error:
            raise _unavailable(error) from error

    async def exists(self, key: str) -> bool:
        try:
            with suppress(FileNotFoundError):
                await obstore.head_async(self._store, key)
                return True
            return bool(await asyncio.to_thread(self._parts, key))
        except (BaseError, OSError) as error:
            raise _unavailable(error) from error

    async def delete(self, key: str) -> None:
        try:
            with suppress(FileNotFoundError):
                await obstore.delete_async(self._store, key)
            await asyncio.to_thread(self._remove_parts, key)
        except (BaseError, OSError) as error:
            raise _unavailable(error) from error

    def _remove_parts(self, key: str) -> None:
        """In a folder, delete the parts of a killed upload. Buckets need a lifecycle rule for that."""
        for part in self._parts(key):
            part.unlink(missing_ok=True)

    def _parts(self, key: str) -> Sequence[Path]:
        if self._folder is None:
            return []
        target = self._folder / key
        return list(target.parent.glob(f"{target.name}#*"))


def _make_tree_private(folder: Path) -> None:
    """Take the access of group and others from a folder that an older version wrote.

    The folder itself comes last: once it is private, so is all below it, and a later start has nothing to do.
    """
    if folder.stat().st_mode & 0o077:
        for place, _, names in os.walk(folder, topdown=False):
            for path in (*(Path(place, name) for name in names), Path(place)):
                _chmod_private(path)


def _make_private(path: Path, folder: Path) -> None:
    """Take the access of group and others from an object, and from the folders between it and `folder`."""
    while path != folder:
        _chmod_private(path)
        path = path.parent


def _chmod_private(path: Path) -> None:
    # An object may be deleted meanwhile, and a mounted volume may belong to another user.
    with suppress(FileNotFoundError, PermissionError):
        mode = path.stat().st_mode
        if mode & 0o077:
            path.chmod(stat.S_IMODE(mode) & 0o700)


class _CountingIterator:
    """Counts the bytes of an upload, and keeps its error, to tell it from an error of the store."""

    def __init__(self, data: AsyncIterator[bytes]) -> None:
        self._data = data
        self.size_bytes = 0
        self.error: Exception | None = None

    def __aiter__(self) -> "_CountingIterator":
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await anext(self._data)
        except StopAsyncIteration:
            raise
        except Exception as error:
            self.error = error
            raise
        self.size_bytes += len(piece)
        return piece


def _unavailable(error: Exception) -> ArgosyError:
    return Unavailable(f"the object store does not answer ({type(error).__name__})")
