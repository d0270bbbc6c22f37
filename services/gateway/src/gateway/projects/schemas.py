"""Projects as the API shows them."""

from typing import Literal, Self

from gateway.projects.model import Project
from gateway.web.schemas import Id, Name, Resource, StrictBody, unix_seconds


class ProjectCreate(StrictBody):
    tenant_id: Id
    name: Name


class ProjectRead(Resource):
    object: Literal["project"] = "project"
    tenant_id: str
    name: str
    created_at: int

    @classmethod
    def of(cls, project: Project) -> Self:
        return cls(
            id=project.project_id,
            tenant_id=project.tenant_id,
            name=project.name,
            created_at=unix_seconds(project.created_at),
        )
