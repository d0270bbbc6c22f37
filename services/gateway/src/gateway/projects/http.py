"""`/admin/v1/projects`."""

from typing import Annotated

from fastapi import APIRouter, Depends

from gateway.projects.create import CreateProject
from gateway.projects.model import ProjectStore
from gateway.projects.schemas import ProjectCreate, ProjectRead
from gateway.web.dependencies import NEWEST_FIRST, CurrentCaller, PageQuery, QueryTenantId, provided
from gateway.web.schemas import ListResponse

router = APIRouter(prefix="/admin/v1/projects", tags=["Administration"])


@router.post("", status_code=201)
async def create_project(
    body: ProjectCreate, caller: CurrentCaller, create: Annotated[CreateProject, Depends(provided(CreateProject))]
) -> ProjectRead:
    """Create a project. Its name must be unique within the tenant."""
    return ProjectRead.of(await create(caller, body.tenant_id, body.name))


@router.get("", dependencies=[NEWEST_FIRST])
async def list_projects(
    projects: Annotated[ProjectStore, Depends(provided(ProjectStore))], tenant_id: QueryTenantId, page: PageQuery
) -> ListResponse[ProjectRead]:
    """List a tenant's projects, newest first."""
    return ListResponse.of_page(await projects.list_projects(tenant_id, page), ProjectRead.of)
