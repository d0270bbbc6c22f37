"""The paths of the API, their methods, and which of them answers a request."""

from collections.abc import Iterable
from dataclasses import dataclass

from chassis.errors import ArgosyError, Kind
from fastapi import APIRouter, FastAPI
from starlette.routing import Route, compile_path

UNKNOWN_ROUTE = "unknown"
OPTIONS, HEAD, GET = "OPTIONS", "HEAD", "GET"


class MethodNotAllowed(ArgosyError):
    """The path exists, and does not support this HTTP method; `allow` names those that it supports."""

    kind, reason = Kind.INVALID, "METHOD_NOT_ALLOWED"


@dataclass(frozen=True, slots=True)
class MatchedRoute:
    """The template of a path, which metrics, logs and spans have in its place, and its methods."""

    template: str
    methods: frozenset[str]

    @property
    def allow(self) -> bytes:
        """The value of the header `Allow`."""
        return ", ".join(sorted(self.methods)).encode()

    def check_method(self, method: str) -> None:
        """Raises MethodNotAllowed."""
        if method not in self.methods:
            raise MethodNotAllowed(f"This path supports {self.allow.decode()}.")


UNKNOWN = MatchedRoute(UNKNOWN_ROUTE, frozenset())


class RouteTable:
    """By path; a path with GET also has HEAD, and every path has OPTIONS (RFC 9110)."""

    def __init__(self, methods_by_template: Iterable[tuple[str, Iterable[str]]]) -> None:
        methods: dict[str, set[str]] = {}
        for template, names in methods_by_template:
            methods.setdefault(template, {OPTIONS}).update(names)
        for names in methods.values():
            if GET in names:
                names.add(HEAD)
        matched = {template: MatchedRoute(template, frozenset(names)) for template, names in methods.items()}
        self._static = {template: route for template, route in matched.items() if "{" not in template}
        self._dynamic = [(compile_path(template)[0], matched[template]) for template in matched if "{" in template]

    def match(self, path: str) -> MatchedRoute:
        """Return the route of a path; UNKNOWN when there is none."""
        found = self._static.get(path)
        if found is not None:
            return found
        return next((route for pattern, route in self._dynamic if pattern.match(path)), UNKNOWN)


def route_table(app: FastAPI, routers: Iterable[APIRouter], hot_paths: Iterable[str]) -> RouteTable:
    """Make the table of FastAPI's own routes, those of the routers, and the hot routes."""
    owners: list[FastAPI | APIRouter] = [app, *routers]
    routes = [route for owner in owners for route in owner.routes if isinstance(route, Route)]
    served = [(route.path, route.methods or ()) for route in routes]
    return RouteTable([*served, *((path, ("POST",)) for path in hot_paths)])
