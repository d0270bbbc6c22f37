"""Accepts a batch. Its file is read afterwards, so that this answers at once."""

from dataclasses import dataclass

from chassis.errors import InvalidRequest
from chassis.tenancy import Principal

from orchestrator.batches.lines import FileLimits
from orchestrator.batches.model import (
    BATCH_ID,
    COMPLETION_WINDOWS,
    ENDPOINTS,
    INPUT_PURPOSE,
    Batch,
    BatchFileInvalid,
    NewBatch,
)
from orchestrator.batches.ports import BatchStore, FileStore
from orchestrator.flags.model import Feature
from orchestrator.flags.snapshot import NO_FLAGS, FlagCache
from orchestrator.flags.switches import require_feature

MAX_LABELS = 16
MAX_LABEL_NAME_CHARACTERS = 64
MAX_LABEL_CHARACTERS = 512


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What a batch may have, and a tenant at once."""

    file: FileLimits
    file_bytes: int
    unfinished_batches: int


@dataclass(frozen=True, slots=True)
class CreateBatch:
    """Checks what can be checked without reading the file, and stores the batch."""

    store: BatchStore
    files: FileStore
    limits: BatchLimits
    flags: FlagCache = NO_FLAGS

    async def __call__(self, principal: Principal, new: NewBatch) -> Batch:
        """Return the batch; repeating it returns the same one.

        Raises InvalidRequest, FeatureDisabled, BatchFileInvalid, FILE_NOT_FOUND, BatchIdReused, BatchLimitReached,
        Unavailable.
        """
        _check(new)
        require_feature(self.flags.snapshot(), Feature.BATCHES, principal, {})
        file = await self.files.find(principal, new.input_file_id)
        if file.purpose != INPUT_PURPOSE:
            message = f"the file has the purpose {file.purpose!r}; a batch needs one of purpose {INPUT_PURPOSE!r}"
            raise BatchFileInvalid(message, param="input_file_id")
        if file.size_bytes > self.limits.file_bytes:
            message = f"the file has {file.size_bytes} bytes, a batch's at most {self.limits.file_bytes}"
            raise BatchFileInvalid(message, param="input_file_id")
        window = COMPLETION_WINDOWS[new.completion_window]
        return await self.store.create(principal, new, window, self.limits.unfinished_batches)


def _check(new: NewBatch) -> None:
    if BATCH_ID.fullmatch(new.batch_id) is None:
        raise InvalidRequest("batch_id must be batch_ and a UUID of version 7", param="batch_id")
    if new.endpoint not in ENDPOINTS:
        raise InvalidRequest(f"endpoint must be one of {', '.join(sorted(ENDPOINTS))}", param="endpoint")
    if new.completion_window not in COMPLETION_WINDOWS:
        windows = ", ".join(COMPLETION_WINDOWS)
        raise InvalidRequest(f"completion_window must be one of {windows}", param="completion_window")
    if len(new.metadata) > MAX_LABELS:
        raise InvalidRequest(f"metadata may have at most {MAX_LABELS} labels", param="metadata")
    for name, label in new.metadata.items():
        if not 1 <= len(name) <= MAX_LABEL_NAME_CHARACTERS or len(label) > MAX_LABEL_CHARACTERS:
            message = (
                f"names of labels have 1 to {MAX_LABEL_NAME_CHARACTERS} characters, "
                f"labels at most {MAX_LABEL_CHARACTERS}"
            )
            raise InvalidRequest(message, param="metadata")
