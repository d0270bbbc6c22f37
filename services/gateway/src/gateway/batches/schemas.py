"""Batches in OpenAI's shape."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gateway.web.schemas import Id, Resource, StrictBody

BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
Label = Annotated[str, Field(max_length=512, pattern=r"^[^\x00]*$")]
LabelName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00]*$")]


class BatchCreate(StrictBody):
    input_file_id: Id
    endpoint: Literal["/v1/chat/completions", "/v1/embeddings"]
    completion_window: Literal["24h"]
    metadata: Annotated[dict[LabelName, Label], Field(max_length=16)] | None = None


class BatchError(BaseModel):
    """Why the file cannot be run, or a line of it; `code` is stable and documented."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class BatchErrors(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchError]


class RequestCounts(BaseModel):
    total: int
    completed: int
    failed: int


class BatchRead(Resource):
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchErrors | None = None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts
    metadata: dict[str, str] | None = None
