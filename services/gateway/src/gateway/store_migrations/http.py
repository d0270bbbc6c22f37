"""`/v1/vector_stores/{id}/migrations`: changes of a vector store to another embedding model, while it is in use."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from gateway.flags.http import requires_feature
from gateway.store_migrations.retrieval_client import StoreMigrationsClient
from gateway.store_migrations.schemas import StoreMigrationCreate, StoreMigrationRead
from gateway.web.dependencies import NEWEST_FIRST, PageQuery, PathId, provided
from gateway.web.schemas import ListResponse

router = APIRouter(
    prefix="/v1/vector_stores/{vector_store_id}/migrations",
    tags=["Vector stores"],
    dependencies=[Depends(requires_feature("vector_stores"))],
)

StoreMigrations = Annotated[StoreMigrationsClient, Depends(provided(StoreMigrationsClient))]

# Of a large store, a count of its vectors takes some time.
POLL_AFTER = {"openai-poll-after-ms": "2000"}


@router.post("")
async def start_store_migration(
    vector_store_id: PathId, body: StoreMigrationCreate, migrations: StoreMigrations
) -> StoreMigrationRead:
    """Start to change a vector store to another embedding model, while it is searched and filled.

    Its chunks are embedded by the new model, at the cost of the key that starts this; equal texts once. Then searches
    change to the new model at once, and the old vectors are deleted. Idempotent; a migration to the same model that has
    failed goes on where it was.
    """
    return await migrations.start(vector_store_id, body.embedding_model)


@router.get("", dependencies=[NEWEST_FIRST])
async def list_store_migrations(
    vector_store_id: PathId, migrations: StoreMigrations, page: PageQuery
) -> ListResponse[StoreMigrationRead]:
    """List the migrations of a vector store, newest first."""
    return await migrations.list(vector_store_id, page)


@router.get("/{migration_id}")
async def get_store_migration(
    vector_store_id: PathId, migration_id: PathId, migrations: StoreMigrations, response: Response
) -> StoreMigrationRead:
    """Read how far a migration is."""
    migration = await migrations.get(vector_store_id, migration_id)
    if migration.status == "in_progress":
        response.headers.update(POLL_AFTER)
    return migration


@router.post("/{migration_id}/cancel")
async def cancel_store_migration(
    vector_store_id: PathId, migration_id: PathId, migrations: StoreMigrations
) -> StoreMigrationRead:
    """Give a migration up; the vector store keeps its model.

    What was embedded until then is paid for. Idempotent; it does not change a migration that is completed.
    """
    return await migrations.cancel(vector_store_id, migration_id)
