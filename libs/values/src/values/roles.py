"""Roles of a principal: the gateway checks them for each route, the services behind it for each method."""

from typing import Final

from chassis.tenancy import Principal, current_caller

PLATFORM_ADMIN: Final = "platform_admin"
"""Administers the installation: tenants, projects, keys, prices, caps. It is no member of any tenant."""
MEMBER: Final = "member"
"""Works in its own tenant: inference, files, vector stores, usage."""
SERVICE: Final = "service"
"""A service that works for a tenant without a request, such as ingestion. No key can have it."""


def current_member() -> Principal:
    """Return the current caller, who works in its tenant. Raises PrincipalInvalid, PermissionDenied."""
    principal = current_caller().principal
    principal.require(MEMBER, SERVICE)
    return principal


def current_platform_admin() -> Principal:
    """Return the current caller. Raises PrincipalInvalid, PermissionDenied."""
    principal = current_caller().principal
    principal.require(PLATFORM_ADMIN)
    return principal
