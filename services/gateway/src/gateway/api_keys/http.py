"""`/admin/v1/keys`."""

from typing import Annotated

from fastapi import APIRouter, Depends

from gateway.api_keys.create import CreateApiKey
from gateway.api_keys.model import ApiKeyStore
from gateway.api_keys.revoke import RevokeApiKey
from gateway.api_keys.schemas import ApiKeyCreate, ApiKeyCreated, ApiKeyRead
from gateway.web.dependencies import (
    NEWEST_FIRST,
    CurrentCaller,
    PageQuery,
    PathId,
    QueryTenantId,
    provided,
)
from gateway.web.schemas import ListResponse

router = APIRouter(prefix="/admin/v1/keys", tags=["Administration"])


@router.post("", status_code=201)
async def create_key(
    body: ApiKeyCreate, caller: CurrentCaller, create: Annotated[CreateApiKey, Depends(provided(CreateApiKey))]
) -> ApiKeyCreated:
    """Create a key. Only this response contains its text."""
    record, text = await create(
        caller, body.tenant_id, body.project_id, name=body.name, roles=body.roles, expires_at=body.expires_at
    )
    return ApiKeyCreated(**ApiKeyRead.of(record).model_dump(), key=text)


@router.get("", dependencies=[NEWEST_FIRST])
async def list_keys(
    keys: Annotated[ApiKeyStore, Depends(provided(ApiKeyStore))], tenant_id: QueryTenantId, page: PageQuery
) -> ListResponse[ApiKeyRead]:
    """List a tenant's keys, newest first, revoked ones included."""
    return ListResponse.of_page(await keys.list_keys(tenant_id, page), ApiKeyRead.of)


@router.post("/{key_id}/revoke")
async def revoke_key(
    key_id: PathId, caller: CurrentCaller, revoke: Annotated[RevokeApiKey, Depends(provided(RevokeApiKey))]
) -> ApiKeyRead:
    """Revoke a key on all gateways, for good. Its record stays. Idempotent."""
    return ApiKeyRead.of(await revoke(caller, key_id))
