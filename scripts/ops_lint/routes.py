"""The paths of the gateway's API, as their templates stand in metrics."""

import importlib
import pkgutil
from functools import cache


@cache
def route_templates() -> frozenset[str]:
    """Import every feature of the gateway that has routes."""
    found: set[str] = set()
    package = importlib.import_module("gateway")
    for module_info in pkgutil.walk_packages(package.__path__, "gateway."):
        if module_info.name.endswith(".http"):
            module = importlib.import_module(module_info.name)
            found |= {route.path for route in module.router.routes} if hasattr(module, "router") else set()
            found |= {module.ROUTE.path} if hasattr(module, "ROUTE") else set()
    return frozenset(found)
