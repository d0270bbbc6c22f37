"""Keeps what a provider remembers of one tenant's requests from the other tenants.

All tenants call an upstream with one credential, so for the provider they are one customer. Its prompt cache can then
tell one tenant what another asked: by the tokens that were read from the cache, by its own timings, by a cache key that
two tenants choose alike. So the ids that a client sends become ids of its tenant, and unless the upstream is configured
not to share its cache, clients neither control it nor see what it did.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import orjson
from chassis.tenancy import current_caller
from values.usage import TokenUsage

from inference_worker.providers.credentials import Credential
from inference_worker.providers.model import UpstreamRejected
from inference_worker.providers.ports import Completion, Provider

TenantCacheField = Literal["prompt_cache_key", "cache_salt"]

CLIENT_IDS = ("user", "safety_identifier", "prompt_cache_key", "cache_salt")
"""Ids by which a provider groups requests. Anthropic's is `metadata.user_id`."""

# fmt: off
CACHE_CONTROLS = frozenset({
    "cache_control", "cache_prompt", "cached_content", "id_slot", "n_cache_reuse", "prompt_cache_retention",
    "return_progress", "timings_per_token",
})
"""What a client may ask of a cache that is its own: OpenAI's, Anthropic's, Gemini's and llama.cpp's fields."""

CACHE_REPORTS = ("__verbose", "prompt_progress", "time_info", "timings", "x_groq")
"""Fields of a response that tell how long the provider's steps took, or what it had in its cache."""

USAGE_FIELDS = frozenset({"prompt_tokens", "completion_tokens", "total_tokens", "completion_tokens_details"})
USAGE_DETAILS = frozenset({"audio_tokens", "image_tokens", "text_tokens"})
# fmt: on

# Parts of the names above, few because every body and chunk is searched for them; a report of times or progress has a
# "time" or "timings" in it. The orchestrator renders bodies with orjson: no escaped names, no space after them.
_IN_REQUEST = (b"cache", b'"user":', b'user_id":', b"safety_identifier", b"id_slot")


class TenantIsolation:
    """A provider that keeps the tenants of another provider apart."""

    def __init__(
        self,
        provider: Provider,
        *,
        shares_prompt_cache: bool = True,
        tenant_cache_field: TenantCacheField | None = None,
    ) -> None:
        """`tenant_cache_field`: the field by which the upstream keeps caches apart; every request gets it."""
        self._provider = provider
        self._shares = shares_prompt_cache
        self._cache_field = tenant_cache_field

    async def open(self, model: str, body: bytes, *, stream: bool, credential: Credential | None = None) -> Completion:
        """Rewrite the body for the caller's tenant and send it."""
        if self._cache_field is not None or any(name in body for name in _IN_REQUEST):
            body = self._rewrite(body, current_caller().principal.tenant_id)
        completion = await self._provider.open(model, body, stream=stream, credential=credential)
        return IsolatedCompletion(completion) if self._shares else completion

    def _rewrite(self, body: bytes, tenant_id: str) -> bytes:
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise UpstreamRejected("the request's body is not JSON") from error
        if not isinstance(document, dict):
            raise UpstreamRejected("the request's body is not a JSON object")
        for holder, name in _client_ids(document):
            holder[name] = tenant_scoped(tenant_id, holder[name])
        if self._shares:
            _drop_cache_controls(document)
        if self._cache_field is not None:
            document.setdefault(self._cache_field, tenant_scoped(tenant_id, ""))
        return orjson.dumps(document)


class IsolatedCompletion:
    """A completion without what its provider's cache tells."""

    __slots__ = ("_completion",)

    def __init__(self, completion: Completion) -> None:
        self._completion = completion

    @property
    def usage(self) -> TokenUsage | None:
        # Its cost would tell what the cache did: to the client, those tokens are text.
        usage = self._completion.usage
        return usage if usage is None or usage.details is None else usage.without_cache()

    @property
    def usage_payload(self) -> bytes:
        payload = self._completion.usage_payload
        return without_cache_reports(payload) if payload else payload

    async def read(self) -> Sequence[bytes]:
        payloads = await self._completion.read()
        for payload in payloads:
            if b"cache" in payload or b"tim" in payload:
                return [without_cache_reports(payload) for payload in payloads]
        return payloads

    @property
    def warnings(self) -> Sequence[str]:
        return getattr(self._completion, "warnings", ())

    @property
    def has_ended(self) -> bool:
        return getattr(self._completion, "has_ended", False)

    @property
    def backlog_bytes(self) -> int:
        return getattr(self._completion, "backlog_bytes", 0)

    @property
    def last_byte_at(self) -> float | None:
        return getattr(self._completion, "last_byte_at", None)

    def abort(self) -> None:
        self._completion.abort()


def tenant_scoped(tenant_id: str, value: object) -> str:
    """Return an id that no other tenant can have, the same for equal values; it does not tell the value."""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return hashlib.sha256(f"{tenant_id}\0{text}".encode()).hexdigest()[:32]


def without_cache_reports(payload: bytes) -> bytes:
    """Return a completion or a chunk of one without what the provider tells of its cache and its times."""
    try:
        response = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return payload
    if not isinstance(response, dict):
        return payload
    kept = {name: value for name, value in response.items() if name not in CACHE_REPORTS}
    if isinstance(kept.get("usage"), dict):
        kept["usage"] = _plain_usage(kept["usage"])
    return payload if kept == response else orjson.dumps(kept)


def _plain_usage(usage: dict[str, Any]) -> dict[str, Any]:
    plain = {name: value for name, value in usage.items() if name in USAGE_FIELDS}
    details = usage.get("prompt_tokens_details")
    if isinstance(details, dict) and (known := {name: details[name] for name in details if name in USAGE_DETAILS}):
        plain["prompt_tokens_details"] = known
    return plain


def _client_ids(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """The places of ids that a client has set."""
    places: list[tuple[Any, str]] = [(document, name) for name in CLIENT_IDS]
    places.append((document.get("metadata"), "user_id"))
    return ((holder, name) for holder, name in places if isinstance(holder, dict) and holder.get(name) is not None)


def _drop_cache_controls(document: dict[str, Any]) -> None:
    """Remove them from the request, and from its messages, their parts, and its tools."""
    for name in CACHE_CONTROLS:
        document.pop(name, None)
    for part in _parts(document):
        part.pop("cache_control", None)


def _parts(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name in ("messages", "tools", "functions"):
        for item in _objects(document.get(name)):
            yield item
            yield from _objects(item.get("content"))
            yield from _objects([item.get("function")])


def _objects(value: object) -> Iterator[dict[str, Any]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())
