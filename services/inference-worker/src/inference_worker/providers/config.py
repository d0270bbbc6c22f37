"""Making upstreams: which provider, embedder and counter stand behind a name."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chassis.clock import Clock

from inference_worker.adapters.anthropic import AnthropicProvider
from inference_worker.adapters.counting import TiktokenCounter, TokenizerFileCounter
from inference_worker.adapters.http import Endpoint, HttpUpstream
from inference_worker.adapters.litellm import Account, LitellmProvider
from inference_worker.adapters.minilm import MinilmEmbedder
from inference_worker.adapters.openai import OpenaiProvider
from inference_worker.adapters.openai_embeddings import OpenaiEmbedder
from inference_worker.domain.absent import Uncounted
from inference_worker.domain.ports import TokenCounter, Upstream


@dataclass(frozen=True, slots=True)
class Counting:
    """How tokens are counted: by a file, else by an encoding, else not at all."""

    tokenizer: Path | None = None
    encoding: str | None = None

    def counter(self) -> TokenCounter:
        """The counter; it loads what it needs when it first counts."""
        if self.tokenizer is not None:
            if not self.tokenizer.is_file():
                raise FileNotFoundError(f"there is no tokenizer at {self.tokenizer}")
            return TokenizerFileCounter(self.tokenizer)
        return TiktokenCounter(self.encoding) if self.encoding is not None else Uncounted()


@dataclass(frozen=True, slots=True)
class OverHttp:
    """An upstream of the fast path."""

    dialect: Literal["openai", "anthropic"]
    endpoint: Endpoint
    counting: Counting


@dataclass(frozen=True, slots=True)
class ThroughLitellm:
    """An upstream that litellm translates for."""

    account: Account
    counting: Counting


@dataclass(frozen=True, slots=True)
class InProcess:
    """MiniLM from a folder."""

    folder: Path
    threads: int


Specification = OverHttp | ThroughLitellm | InProcess


async def open_upstream(specification: Specification, clock: Clock, stack: AsyncExitStack) -> Upstream:
    """Open one; what it holds is let go of with `stack`. Raises `OSError` when a file is missing.

    A breaker would be put around the provider and the embedder here, one per upstream.
    """
    match specification:
        case OverHttp(dialect, endpoint, counting):
            http = await stack.enter_async_context(HttpUpstream(endpoint))
            if dialect == "anthropic":
                return Upstream(counting.counter(), provider=AnthropicProvider(http, clock))
            return Upstream(counting.counter(), provider=OpenaiProvider(http), embedder=OpenaiEmbedder(http))
        case ThroughLitellm(account, counting):
            provider = LitellmProvider(account)
            stack.push_async_callback(provider.close)
            return Upstream(counting.counter(), provider=provider)
        case InProcess(folder, threads):
            return Upstream(Uncounted(), embedder=await stack.enter_async_context(MinilmEmbedder(folder, threads)))
