"""MiniLM in this process: embeddings by onnxruntime, each batch in one thread.

The folder holds `tokenizer.json` and `model.onnx`, whose inputs are `input_ids` and `attention_mask` (int64) and whose
output `sentence_embedding` (float32) is pooled and of length 1.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from chassis.clock import Clock
from chassis.errors import InvalidRequest
from chassis.lifecycle import supervised
from pydantic import Field
from values.usage import TokenUsage, UsageSource

from inference_worker.providers.config import ProviderConfig
from inference_worker.providers.credentials import Credential
from inference_worker.providers.model import ContextLengthExceeded, Embeddings, UpstreamRateLimited
from inference_worker.providers.onnx_model import batches, check_folder, load_session, load_tokenizer, padded
from inference_worker.providers.ports import Upstream
from inference_worker.token_counting.model import NullTokenCounter

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

DIMENSIONS = 384
MAX_TOKENS = 256
"""What the model reads of a text; the rest is truncated."""

# A text's first 256 tokens end before this, unless it is nearly all spaces.
MAX_CHARACTERS = 32 * 1024

TOKENIZER_BATCH = 32
"""Texts that are tokenized at once: an encoding takes a hundred times the memory of its text."""

MAX_QUEUED_TEXTS = 4096
"""Texts that wait or run at once; a call beyond it is rejected."""

OUTPUT = "sentence_embedding"


MARKS = 2
"""Tokens around each text."""


class EncodedText(NamedTuple):
    """The tokens of a text that the model reads."""

    token_ids: list[int]
    left_out: int
    """Tokens that it does not read."""
    is_longer: bool
    """Whether there are more, which were not counted."""


class OnnxConfig(ProviderConfig):
    """MiniLM in this process, for embeddings."""

    kind: Literal["onnx"]
    path: Path = Field(description="Folder with `model.onnx` and `tokenizer.json`.")
    threads: int = Field(1, ge=1, le=64, description="Batches that run at the same time, each on one core.")

    async def open(self, clock: Clock, stack: AsyncExitStack) -> Upstream:  # noqa: ARG002 - part of the base class
        here = supervised()
        # The process before this one has loaded it; loading takes longer than the rest of a start.
        loads_late = here is not None and here.restarts > 0
        embedder = await stack.enter_async_context(MinilmEmbedder(self.path, self.threads, loads_late=loads_late))
        return Upstream(NullTokenCounter(), embedder=embedder)


class MinilmEmbedder:
    """An embedder, and an async context manager that loads the model and releases it."""

    def __init__(self, folder: Path, threads: int, *, loads_late: bool = False) -> None:
        """`threads` is how many batches run at the same time. `loads_late`: the model is loaded when texts come."""
        self._folder = folder
        self._loads_late = loads_late
        self._loading: asyncio.Future[tuple[Tokenizer, InferenceSession]] | None = None
        self._threads = threads
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="minilm")
        self._queued = 0

    async def __aenter__(self) -> Self:
        if not self._loads_late:
            await self._loaded()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def embed(
        self,
        model: str,
        texts: Sequence[str],
        *,
        dimensions: int | None,
        credential: Credential | None = None,  # noqa: ARG002 - part of the port; it runs here
        refuse_truncation: bool = False,
    ) -> Embeddings:
        """Embed in batches, between which other calls get theirs. The model's name in the plan is ignored.

        All texts are tokenized before the first is embedded, so a text that is refused costs nothing.
        """
        if dimensions not in {None, DIMENSIONS}:
            raise InvalidRequest(
                f"{model} has {DIMENSIONS} dimensions; other numbers are not supported", param="dimensions"
            )
        if self._queued + len(texts) > MAX_QUEUED_TEXTS:
            raise UpstreamRateLimited("too many texts wait to be embedded")
        self._queued += len(texts)
        try:
            return await self._embed(texts, refuse_truncation=refuse_truncation)
        finally:
            self._queued -= len(texts)

    async def _loaded(self) -> None:
        """Load the model once for all calls that wait; a failure is tried again by the next call."""
        if self._loading is None or (self._loading.done() and self._loading.exception() is not None):
            self._loading = asyncio.get_running_loop().run_in_executor(self._executor, self._load)
        self._tokenizer, self._session = await asyncio.shield(self._loading)

    async def _embed(self, texts: Sequence[str], *, refuse_truncation: bool) -> Embeddings:
        await self._loaded()
        loop = asyncio.get_running_loop()
        encoded: list[list[int]] = []
        for start in range(0, len(texts), TOKENIZER_BATCH):
            group = texts[start : start + TOKENIZER_BATCH]
            read = await loop.run_in_executor(self._executor, self._encode, group)
            if refuse_truncation:
                _check_complete(read, start)
            encoded += [one.token_ids for one in read]
        vectors = await self._run_all(encoded)
        usage = TokenUsage(UsageSource.REPORTED, sum(map(len, encoded)), 0)
        return Embeddings(tuple(vectors[index] for index in range(len(texts))), usage)

    async def _run_all(self, encoded: Sequence[list[int]]) -> dict[int, bytes]:
        """The vector of each text by its index. No more of its batches wait than can run: others come between."""
        loop = asyncio.get_running_loop()
        vectors: dict[int, bytes] = {}
        waiting = deque(batches([len(tokens) for tokens in encoded]))

        async def run_waiting() -> None:
            try:
                while waiting:
                    indexes = waiting.popleft()
                    batch = [encoded[index] for index in indexes]
                    found = await loop.run_in_executor(self._executor, self._run, batch)
                    vectors.update(zip(indexes, found, strict=True))
            except BaseException:
                waiting.clear()
                raise

        # One thread each. Threads for one batch would take a fifth more CPU.
        await asyncio.gather(*(run_waiting() for _ in range(min(self._threads, len(waiting)))))
        return vectors

    def _encode(self, texts: Sequence[str]) -> list[EncodedText]:
        shorter = [_shorten(text) for text in texts]
        encodings = self._tokenizer.encode_batch([text[:MAX_CHARACTERS] for text in shorter])
        return [
            EncodedText(one.ids, sum(len(rest.ids) - MARKS for rest in one.overflowing), len(text) > MAX_CHARACTERS)
            for one, text in zip(encodings, shorter, strict=True)
        ]

    def _run(self, batch: list[list[int]]) -> list[bytes]:
        ids, mask = padded(batch)
        (vectors,) = self._session.run([OUTPUT], {"input_ids": ids, "attention_mask": mask})
        return [vector.astype("<f4").tobytes() for vector in vectors]

    def _load(self) -> "tuple[Tokenizer, InferenceSession]":
        check_folder(self._folder)
        tokenizer = load_tokenizer(self._folder)
        tokenizer.enable_truncation(MAX_TOKENS)
        session = load_session(self._folder, threads=1)
        if [output.name for output in session.get_outputs()] != [OUTPUT]:
            raise ValueError(f"{self._folder} has no model with the output {OUTPUT}")
        return tokenizer, session


def _shorten(text: str) -> str:
    """Leave out spaces that mean nothing to the tokenizer, where a text is very long."""
    return " ".join(text.split()) if len(text) > MAX_CHARACTERS else text


def _check_complete(texts: Sequence[EncodedText], first: int) -> None:
    """Raises `ContextLengthExceeded` for a text of which the model would read only the beginning."""
    for position, text in enumerate(texts, first):
        if text.left_out or text.is_longer:
            count = len(text.token_ids) + text.left_out
            raise ContextLengthExceeded(
                f"This model's maximum context length is {MAX_TOKENS} tokens, however input[{position}] has "
                f"{'more than ' if text.is_longer else ''}{count} tokens, of which {MARKS} mark its ends. Nothing was "
                "charged. Split it into shorter inputs.",
                param="input",
            )
