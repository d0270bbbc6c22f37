"""Create a project."""

from chassis.clock import Clock
from chassis.ids import new_id
from chassis.tenancy import Caller
from values.roles import PLATFORM_ADMIN

from gateway.audit.model import caller_entry
from gateway.audit.record import RecordRefusal
from gateway.projects.model import Project, ProjectStore


class CreateProject:
    def __init__(self, projects: ProjectStore, record_refusal: RecordRefusal, clock: Clock) -> None:
        self._projects = projects
        self._record_refusal = record_refusal
        self._clock = clock

    async def __call__(self, caller: Caller, tenant_id: str, name: str) -> Project:
        """Raises PermissionDenied, TenantNotFound, ProjectExists."""
        caller.principal.require(PLATFORM_ADMIN)
        project = Project(tenant_id, new_id("prj_"), name, self._clock.now())
        entry = caller_entry(caller, project.created_at, tenant_id, "project.create", project.project_id, name=name)
        async with self._record_refusal(entry):
            await self._projects.add_project(project, entry)
        return project
