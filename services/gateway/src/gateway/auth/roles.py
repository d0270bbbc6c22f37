"""Which role each route needs, and which roles a key may have.

One table for the whole API: a path that no rule covers does not exist, so that a new route is closed until it has one.
"""

from collections.abc import Iterable
from typing import Final, Literal, get_args

from chassis.errors import ArgosyError, Kind, PermissionDenied
from chassis.tenancy import Principal
from values.roles import MEMBER, PLATFORM_ADMIN

Role = Literal["member", "platform_admin"]
ROLES: Final = frozenset[str](get_args(Role))
"""The roles that a key can have."""
ROLE_BY_PREFIX: Final = (("/admin/v1", PLATFORM_ADMIN), ("/v1", MEMBER))
GRANTS: Final = {PLATFORM_ADMIN: ROLES}
"""By the creator's role: the roles of the keys that it may create."""


class RouteNotFound(ArgosyError):
    """The API has no such path."""

    kind, reason = Kind.NOT_FOUND, "ROUTE_NOT_FOUND"


def role_of_route(template: str) -> str:
    """Return the role that a route needs. Raises RouteNotFound when no rule covers it."""
    for prefix, role in ROLE_BY_PREFIX:
        if template == prefix or template.startswith(f"{prefix}/"):
            return role
    raise RouteNotFound("There is no such path.")


def check_route(principal: Principal, template: str) -> None:
    """Raises RouteNotFound, PermissionDenied."""
    principal.require(role_of_route(template))


def check_grant(creator: Principal, tenant_id: str, roles: Iterable[str]) -> None:
    """Raises PermissionDenied when a key with `roles` in this tenant could do more than its creator."""
    allowed = frozenset[str]().union(*(GRANTS.get(role, frozenset()) for role in creator.roles))
    excess = frozenset(roles) - allowed
    if excess:
        raise PermissionDenied(f"You may not create a key with the role {', '.join(sorted(excess))}.", param="roles")
    if PLATFORM_ADMIN in roles and tenant_id != creator.tenant_id:
        raise PermissionDenied(f"A key with the role {PLATFORM_ADMIN} belongs to the tenant of its creator.")
