"""`/v1/deletions/{id}`: what is left of a deleted file or vector store."""

from typing import Annotated

from fastapi import APIRouter, Depends

from gateway.deletions.retrieval_client import DeletionsClient
from gateway.deletions.schemas import DeletionReportRead
from gateway.web.dependencies import PathId, provided

router = APIRouter(prefix="/v1/deletions", tags=["Files"])

Deletions = Annotated[DeletionsClient, Depends(provided(DeletionsClient))]


@router.get("/{resource_id}")
async def get_deletion_report(resource_id: PathId, deletions: Deletions) -> DeletionReportRead:
    """Report what is left of a file or a vector store that was deleted in the last 90 days, counted for this report."""
    return await deletions.get(resource_id)
