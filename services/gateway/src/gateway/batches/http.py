"""`/v1/batches`: files of requests that are answered within a day, as OpenAI's Batch API has them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header

from gateway.batches.orchestrator_client import BatchesClient
from gateway.batches.schemas import BatchCreate, BatchRead
from gateway.jobs.model import read_idempotency_key
from gateway.web.dependencies import PageQuery, PathId, provided
from gateway.web.schemas import ListResponse

router = APIRouter(prefix="/v1/batches", tags=["Batches"])

Batches = Annotated[BatchesClient, Depends(provided(BatchesClient))]


@router.post("")
async def create_batch(
    body: BatchCreate,
    batches: Batches,
    idempotency_key: Annotated[
        str | None, Header(description="Repeats with the same key and body within 24 hours are one batch.")
    ] = None,
) -> BatchRead:
    """Run the requests of a file of purpose `batch`. A line that cannot be run is a line of the error file."""
    return await batches.create(body, "" if idempotency_key is None else read_idempotency_key(idempotency_key))


@router.get("")
async def list_batches(batches: Batches, page: PageQuery) -> ListResponse[BatchRead]:
    """List batches, newest first."""
    return await batches.list(page)


@router.get("/{batch_id}")
async def get_batch(batch_id: PathId, batches: Batches) -> BatchRead:
    """Read a batch, with its counts."""
    return await batches.get(batch_id)


@router.post("/{batch_id}/cancel")
async def cancel_batch(batch_id: PathId, batches: Batches) -> BatchRead:
    """Cancel a batch: requests with an answer keep it, the others are not run."""
    return await batches.cancel(batch_id)
