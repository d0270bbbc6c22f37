"""The objects of a pool, from the chart's own template."""

from collections.abc import Mapping
from typing import Any

import orjson
from chassis.errors import Internal

from orchestrator.pools.model import Pool

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "argosy-orchestrator"
"""Marks what was made here, as opposed to what Helm made."""
POOL, MIN_REPLICAS, MAX_REPLICAS = "$POOL", "$MIN_REPLICAS", "$MAX_REPLICAS"
KINDS = frozenset(
    {
        ("apps/v1", "Deployment"),
        ("policy/v1", "PodDisruptionBudget"),
        ("keda.sh/v1alpha1", "ScaledObject"),
    }
)
"""What a pool may be made of: the rights in the cluster are for these."""

Object = dict[str, Any]


def render(template: str, pool: Pool, owner: Object) -> list[Object]:
    """Fill in a pool. The objects belong to `owner`, whose deletion deletes them. Raises Internal as `fill`."""
    objects = fill(template, pool.name, {MIN_REPLICAS: pool.min_replicas, MAX_REPLICAS: pool.max_replicas})
    for thing in objects:
        metadata = thing["metadata"]
        metadata["labels"] = {**metadata.get("labels", {}), MANAGED_BY: MANAGER}
        metadata["ownerReferences"] = [owner]
    return objects


def fill(template: str, name: str, numbers: Mapping[str, int] | None = None) -> list[Object]:
    """Put the pool's name into all texts, and numbers where they are a whole value.

    Raises Internal for a template that the chart has not written.
    """
    try:
        objects: list[Object] = orjson.loads(template)
        for thing in objects:
            if (thing["apiVersion"], thing["kind"]) not in KINDS:
                raise Internal(f"the template of pools has a {thing['kind']}, which pools are not made of")
            if POOL not in thing["metadata"]["name"]:
                raise Internal(f"the template of pools has a {thing['kind']} that is not named after its pool")
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise Internal("the template of pools is not a list of objects") from error
    filled: list[Object] = _filled(objects, name, numbers or {})
    return filled


def owner_reference(config_map: Object) -> Object:
    """Refer to the template's ConfigMap: the pools go when the release that it is part of is removed."""
    metadata = config_map["metadata"]
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": metadata["name"], "uid": metadata["uid"]}


def is_made_here(thing: Object) -> bool:
    return bool(thing["metadata"].get("labels", {}).get(MANAGED_BY) == MANAGER)


def _filled(value: Any, name: str, numbers: Mapping[str, int]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(inner, name, numbers) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, name, numbers) for inner in value]
    if isinstance(value, str):
        return numbers.get(value, value.replace(POOL, name))
    return value
