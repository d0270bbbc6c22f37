"""The body of a submission, and jobs as the API shows them."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, Literal

import msgspec
import orjson
from chassis.errors import InvalidRequest
from pydantic import BaseModel, Field

from gateway.embeddings.schemas import read_embeddings
from gateway.inference.limits import InferenceLimits
from gateway.jobs.model import (
    LANES,
    MAX_DEADLINE_SECONDS,
    MAX_LABEL_CHARACTERS,
    MAX_LABEL_VALUE_CHARACTERS,
    MAX_LABELS,
    JobLane,
    JobState,
    JobSubmission,
)
from gateway.openai_chat.schemas import read_chat
from gateway.web.request_body import decode_body
from gateway.web.schemas import Resource

CHAT: Final = "/v1/chat/completions"
EMBEDDINGS: Final = "/v1/embeddings"


class JobCreate(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /v1/jobs`. `body` is what the endpoint takes, and is checked as there."""

    endpoint: str
    body: msgspec.Raw
    lane: JobLane | None = None
    metadata: dict[str, str] | None = None
    deadline_seconds: int | None = None


JOB_PROPERTIES: Final[Mapping[str, Mapping[str, Any]]] = {
    "endpoint": {"enum": [CHAT, EMBEDDINGS]},
    "body": {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("ChatBody", "EmbeddingsBody")]},
    "lane": {
        "anyOf": [{"enum": sorted(LANES)}, {"type": "null"}],
        "description": "Lowers the lane of the tenant's plan.",
    },
    "metadata": {
        "anyOf": [
            {
                "type": "object",
                "maxProperties": MAX_LABELS,
                "propertyNames": {"maxLength": MAX_LABEL_CHARACTERS},
                "additionalProperties": {"type": "string", "maxLength": MAX_LABEL_VALUE_CHARACTERS},
            },
            {"type": "null"},
        ]
    },
    "deadline_seconds": {
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_DEADLINE_SECONDS}, {"type": "null"}],
        "description": "Time until the job fails unless it has finished; a day if absent.",
    },
}
"""Schemas of the fields, for the OpenAPI document."""

_DECODER = msgspec.json.Decoder(JobCreate)


def read_submission(job_id: str, body: bytes, limits: InferenceLimits) -> JobSubmission:
    """Decode and check a submission. Raises InvalidJson, or InvalidRequest with the dotted name of the parameter."""
    job = decode_body(_DECODER, body)
    inner = bytes(job.body)
    check_body(job.endpoint, inner, limits, prefix="body.")
    _check_metadata(job.metadata or {})
    deadline = job.deadline_seconds
    if deadline is not None and not 1 <= deadline <= MAX_DEADLINE_SECONDS:
        raise InvalidRequest(
            f"deadline_seconds must be between 1 and {MAX_DEADLINE_SECONDS}.", param="deadline_seconds"
        )
    return JobSubmission(
        job_id=job_id,
        endpoint=job.endpoint,
        body=inner,
        lane=job.lane or "",
        metadata=job.metadata,
        deadline=None if deadline is None else timedelta(seconds=deadline),
    )


def check_body(endpoint: str, body: bytes, limits: InferenceLimits, *, prefix: str = "") -> None:
    """Check a body as its endpoint does. The orchestrator refuses an endpoint that it does not support."""
    try:
        if endpoint == CHAT:
            read_chat(body, limits)
        elif endpoint == EMBEDDINGS:
            read_embeddings(body)
    except InvalidRequest as error:
        if not prefix:
            raise
        raise InvalidRequest(f"{prefix}{error.message}", param=prefix + (error.param or "")) from None


def _check_metadata(metadata: Mapping[str, str]) -> None:
    if len(metadata) > MAX_LABELS:
        raise InvalidRequest(f"metadata must have at most {MAX_LABELS} labels.", param="metadata")
    for name, value in metadata.items():
        if len(name) > MAX_LABEL_CHARACTERS:
            raise InvalidRequest(
                f"A name in metadata must have at most {MAX_LABEL_CHARACTERS} characters.", param="metadata"
            )
        if len(value) > MAX_LABEL_VALUE_CHARACTERS:
            raise InvalidRequest(
                f"metadata.{name} must have at most {MAX_LABEL_VALUE_CHARACTERS} characters.", param=f"metadata.{name}"
            )


class JobError(BaseModel):
    """Why a job failed, or the last error of one that is tried again; as the synchronous endpoint would send it."""

    message: str
    type: str
    param: str | None
    code: str


class JobUsage(BaseModel):
    """Tokens over all runs of a job."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class JobRead(Resource):
    """A job. `result` is what its endpoint would have answered; only in the read of one job, and when it succeeded."""

    object: Literal["job"] = "job"
    endpoint: str
    model: str
    pool: str
    lane: JobLane
    state: JobState
    state_reason: str = Field(description="Why it waits: `retry`, `insufficient_quota`, `paused`, or empty.")
    created_at: int
    started_at: int | None
    finished_at: int | None
    deadline_at: int | None
    expires_at: int | None = Field(description="Until when its result is kept.")
    cancel_requested: bool
    errors: int = Field(description="Runs that failed.")
    crashes: int = Field(description="Runs whose worker died.")
    result: Any = None
    error: JobError | None
    usage: JobUsage | None
    cost_usd: str
    cost_nano_usd: int
    metadata: dict[str, str]
    batch_id: str | None
    custom_id: str | None
    warnings: list[str] = Field(
        default_factory=list,
        description="What was dropped from the request or changed in it; only in the answer to its submission.",
    )


def job_fields(job: JobRead, result: bytes = b"") -> dict[str, Any]:
    """The fields of a job for orjson, with its result as the orchestrator stores it: numbers keep all their digits."""
    fields = job.model_dump()
    if result:
        fields["result"] = orjson.Fragment(_as_json(result))
    return fields


def _as_json(result: bytes) -> bytes:
    """Return the result; as a string if it is no JSON, which would break the document around it."""
    try:
        msgspec.json.decode(result, type=msgspec.Raw)
    except msgspec.DecodeError:
        return orjson.dumps(result.decode(errors="replace"))
    return result
