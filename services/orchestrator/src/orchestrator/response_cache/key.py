"""The key of a cached answer: a digest of everything that shapes the answer."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256

import orjson

from orchestrator.response_cache.envelope import VERSION
from orchestrator.response_cache.model import CacheKey
from orchestrator.routing.model import RouteCandidate

NOT_SHAPING = frozenset(
    {"model", "stream", "stream_options", "user", "safety_identifier", "metadata", "prompt_cache_key"}
) | {"prompt_cache_retention"}
"""Fields that say who asks, how the answer travels, or what the provider keeps; everything else is in the digest.

The public model name, the candidates and whether it is a stream are in it beside the document.
"""

SCHEMAS = ("response_format", "tools", "functions")
"""Fields that hold JSON schemas. A model writes an object's fields in the order of its schema."""


def cache_key(
    tenant_id: str,
    model: str,
    document: Mapping[str, object],
    candidates: Sequence[RouteCandidate],
    output_limit: int | None,
    *,
    stream: bool,
) -> CacheKey:
    """Return the key of a request whose context is in `document`; equal documents have equal keys.

    The order of a document's fields does not matter, except inside of schemas; that of lists does. `candidates` are
    those that may answer.
    """
    digest = sha256(_route_part(model, tuple(candidates)))
    options = document.get("stream_options") if stream else None
    rest = {name: value for name, value in document.items() if name not in NOT_SHAPING and name not in SCHEMAS}
    schemas = {name: document[name] for name in SCHEMAS if name in document}
    digest.update(orjson.dumps([stream, output_limit, _shaping_options(options), rest], option=orjson.OPT_SORT_KEYS))
    if schemas:
        digest.update(orjson.dumps(schemas))
    return CacheKey(tenant_id, model, digest.hexdigest())


def _shaping_options(options: object) -> object:
    """Return the options of a stream without the wish for usage, which the gateway fulfils."""
    if not isinstance(options, dict):
        return None
    return {name: value for name, value in options.items() if name != "include_usage"} or None


@lru_cache(maxsize=1024)
def _route_part(model: str, candidates: tuple[RouteCandidate, ...]) -> bytes:
    """Render what a route adds to the digest. Candidates count as a set: their order may change by weight."""
    fields = sorted(
        [one.upstream, one.model, one.limit_field, one.max_output_tokens, one.unknown_fields or "", one.provider or ""]
        for one in candidates
    )
    return orjson.dumps([VERSION, model, fields])
