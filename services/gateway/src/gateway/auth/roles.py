"""Roles of API keys."""

from typing import Final

ADMIN: Final = "admin"
MEMBER: Final = "member"
ROLES: Final = frozenset({ADMIN, MEMBER})
