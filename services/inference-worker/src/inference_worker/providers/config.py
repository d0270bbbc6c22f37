"""What the configuration of every kind of upstream has in common."""

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from chassis.clock import Clock
from chassis.settings import Section
from pydantic import Field, SecretStr
from values.limits import MAX_CHAT_BYTES

from inference_worker.providers.credentials import ALL_TENANTS, Credential, StaticCredentials
from inference_worker.providers.isolation import TenantCacheField, TenantIsolation
from inference_worker.providers.ports import Upstream
from inference_worker.providers.transport.http import Endpoint
from inference_worker.token_counting.count import LazyTokenCounter
from inference_worker.token_counting.model import NullTokenCounter, TokenCounter
from inference_worker.token_counting.tiktoken import load_encoding
from inference_worker.token_counting.tokenizer_file import load_tokenizer

BaseUrl = Annotated[str, Field(pattern=r"^https?://[^@\s]+$")]

MIN_SECRET_CHARACTERS = 8
"""Shorter header values are versions and names; redacting them would make messages unreadable."""


def static_credentials(keys: Sequence[str]) -> StaticCredentials:
    """Return the credentials of the settings; none when there are none."""
    return StaticCredentials([Credential(credential_id(key), ALL_TENANTS, key) for key in dict.fromkeys(keys)])


def credential_id(key: str) -> str:
    """Return a name for a credential that tells nothing of it, and is the same in all replicas."""
    return hashlib.sha256(key.encode()).hexdigest()[:8]


class ProviderConfig(Section):
    """One upstream. A subclass adds its `kind`, its settings and `open`, and a line to `registry`."""

    @abstractmethod
    async def open(self, clock: Clock, stack: AsyncExitStack) -> Upstream:
        """Open the upstream; `stack` closes what it holds. Raises `OSError` when a file is missing."""

    def isolate(self, upstream: Upstream) -> Upstream:
        """Keep tenants apart; an upstream without a memory needs nothing."""
        return upstream


class TokenCounterConfig(ProviderConfig):
    """An upstream whose tokens are counted when it does not report them."""

    encoding: Literal["cl100k_base", "o200k_base", "p50k_base"] | None = Field(
        "cl100k_base", description="One of OpenAI's encodings; none: usage that is not reported stays unknown."
    )
    tokenizer: Path | None = Field(None, description="A `tokenizer.json` to count with instead of the encoding.")

    shares_prompt_cache: bool = Field(
        True,
        description="Whether the upstream may answer one tenant faster for what another has asked. Then clients do not "
        "see what it read from its cache, nor its timings, and cannot control the cache. Turn it off only for an "
        "upstream that keeps no prompts, or keeps them apart by `tenant_cache_field`.",
    )
    tenant_cache_field: TenantCacheField | None = Field(
        None,
        description="Field by which the upstream keeps prompt caches apart: `prompt_cache_key` (OpenAI) or "
        "`cache_salt` (vLLM). Every request then gets a value of its tenant.",
    )

    def isolate(self, upstream: Upstream) -> Upstream:
        if upstream.provider is None:
            return upstream
        isolation = TenantIsolation(
            upstream.provider,
            shares_prompt_cache=self.shares_prompt_cache,
            tenant_cache_field=self.tenant_cache_field,
        )
        return replace(upstream, provider=isolation)

    def token_counter(self) -> TokenCounter:
        """Return a counter, which loads its tokenizer at the first count."""
        if self.tokenizer is not None:
            if not self.tokenizer.is_file():
                raise FileNotFoundError(f"there is no tokenizer at {self.tokenizer}")
            return LazyTokenCounter(load_tokenizer, str(self.tokenizer))
        return LazyTokenCounter(load_encoding, self.encoding) if self.encoding is not None else NullTokenCounter()


class HttpConfig(ProviderConfig):
    """An upstream that is called over HTTP, without litellm."""

    base_url: BaseUrl = Field(description="Address of the API, without the path of the call.")
    api_key: SecretStr | None = Field(None, description="Credential; none is sent when unset.")
    api_keys: list[SecretStr] = Field(
        default_factory=list,
        max_length=32,
        description="More credentials. Each tenant uses one of all of them as long as it works, and then the next.",
    )
    headers: dict[str, SecretStr] = Field(default_factory=dict, description="More headers for every call.")
    connect_timeout: timedelta = Field(
        timedelta(seconds=5), gt=timedelta(0), description="For a connection, with the wait for a free one."
    )
    keep_alive: timedelta = Field(
        timedelta(seconds=4),
        description="How long an idle connection is kept; must be less than the upstream keeps it.",
    )
    max_connections: int = Field(
        4096,
        ge=1,
        description="Connections at once, so calls at once. A call beyond it waits for `connect_timeout`, and then its "
        "attempt fails, at no cost.",
    )
    max_response_bytes: int = Field(
        8 * 1024 * 1024, ge=1024, le=MAX_CHAT_BYTES, description="Largest response that is not streamed."
    )

    refuse_link_local: bool = Field(
        False, description="Whether connections to link-local addresses and to metadata services are closed at once."
    )

    credential_header: ClassVar[tuple[str, str]]
    """The header that carries a credential, and what precedes it there."""

    @abstractmethod
    def api_headers(self) -> dict[str, str]:
        """Return the headers that the API requires, credentials included; the configured `headers` override them."""

    def keys(self) -> tuple[str, ...]:
        """Return the credentials of the settings, that of `api_key` first."""
        keys = [self.api_key, *self.api_keys] if self.api_key else self.api_keys
        return tuple(key.get_secret_value() for key in keys)

    def endpoint(self) -> Endpoint:
        headers = {name.lower(): value.get_secret_value() for name, value in self.headers.items()}
        secrets = [*headers.values(), *self.keys()]
        return Endpoint(
            base_url=self.base_url,
            headers={**self.api_headers(), **headers},
            # A configured header of that name overrides every credential.
            credential_header=None if self.credential_header[0] in headers else self.credential_header,
            secrets=tuple(secret for secret in secrets if len(secret) >= MIN_SECRET_CHARACTERS),
            connect_timeout=self.connect_timeout,
            keep_alive=self.keep_alive,
            max_connections=self.max_connections,
            max_response_bytes=self.max_response_bytes,
            refuse_link_local=self.refuse_link_local,
        )


class HttpUpstreamConfig(HttpConfig, TokenCounterConfig):
    """An upstream with a language model, that is called over HTTP."""
