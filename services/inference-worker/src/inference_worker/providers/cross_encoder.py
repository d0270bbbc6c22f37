"""Cross-encoders in this process: scores of documents for a query by onnxruntime, in one thread.

The folder holds `tokenizer.json` and `model.onnx` of a model that reads a query and a document together, as Optimum
exports it: its inputs are `input_ids`, and `attention_mask` and `token_type_ids` if it has them (int64), and its only
output is one number for each pair. A document that is longer than the model reads is read in windows, which overlap,
and has the score of its best one.
"""

import asyncio
import math
from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from chassis.clock import Clock
from chassis.lifecycle import supervised
from pydantic import Field
from values.reranking import MIN_MODEL_TOKENS
from values.usage import TokenUsage, UsageSource

from inference_worker.providers.config import ProviderConfig
from inference_worker.providers.credentials import Credential
from inference_worker.providers.model import ContextLengthExceeded, Scores, UpstreamProtocolError, UpstreamRateLimited
from inference_worker.providers.onnx_model import batches, check_folder, load_session, load_tokenizer, padded
from inference_worker.providers.ports import Upstream
from inference_worker.providers.scores import to_score
from inference_worker.token_counting.model import NullTokenCounter

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

INPUTS = ("input_ids", "attention_mask", "token_type_ids")

MAX_QUEUED_DOCUMENTS = 4096
"""Documents that wait or run at once; a call beyond it is rejected."""

MAX_WINDOWS = 64
"""Of one document."""

TOKENIZER_BATCH = 16
"""Documents that are tokenized at once: an encoding takes a hundred times the memory of its text."""

MAX_CHARACTERS_PER_TOKEN = 32
"""A text with more characters for each token that the model may read is refused before it is tokenized."""


class CrossEncoderConfig(ProviderConfig):
    """A cross-encoder in this process, for scores of documents."""

    kind: Literal["onnx_reranker"]
    path: Path = Field(description="Folder with `model.onnx` and `tokenizer.json`.")
    threads: int = Field(1, ge=1, le=64, description="Cores that one batch may use.")
    max_tokens: int = Field(
        512,
        ge=MIN_MODEL_TOKENS,
        le=8192,
        description="Tokens that the model reads at once: of the query, which may have half of them, and a document.",
    )

    async def open(self, clock: Clock, stack: AsyncExitStack) -> Upstream:  # noqa: ARG002 - part of the base class
        here = supervised()
        check_folder(self.path)
        # As for the embedding model: the process before this one has loaded it.
        loads_late = here is not None and here.restarts > 0
        model = CrossEncoder(self.path, self.threads, self.max_tokens, loads_late=loads_late)
        return Upstream(NullTokenCounter(), reranker=await stack.enter_async_context(model))


class Window(NamedTuple):
    """A query with a part of a document, as tokens. Arrays: a list takes nine times the memory."""

    document: int
    token_ids: "array[int]"
    type_ids: "array[int]"


class CrossEncoder:
    """A reranker, and an async context manager that loads the model and releases it."""

    def __init__(self, folder: Path, threads: int, max_tokens: int, *, loads_late: bool = False) -> None:
        """`threads` is how many cores one batch may use. `loads_late`: the model is loaded when documents come."""
        self._folder = folder
        self._threads = threads
        self._max_tokens = max_tokens
        self._loads_late = loads_late
        self._loading: asyncio.Future[None] | None = None
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cross-encoder")
        self._queued = 0
        self._pairs: Tokenizer
        self._queries: Tokenizer
        self._session: InferenceSession
        self._inputs: frozenset[str] = frozenset()

    async def __aenter__(self) -> Self:
        if not self._loads_late:
            await self._loaded()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def rerank(
        self,
        model: str,  # noqa: ARG002 - part of the port; the folder has one
        query: str,
        documents: Sequence[str],
        *,
        credential: Credential | None = None,  # noqa: ARG002 - part of the port; it runs here
    ) -> Scores:
        """Score in batches, between which other calls get theirs.

        All documents are tokenized before the first is scored, so a call that is refused costs nothing.
        """
        if self._queued + len(documents) > MAX_QUEUED_DOCUMENTS:
            raise UpstreamRateLimited("too many documents wait to be scored")
        self._queued += len(documents)
        try:
            return await self._rerank(query, documents)
        finally:
            self._queued -= len(documents)

    async def _loaded(self) -> None:
        """Load the model once for all calls that wait; a failure is tried again by the next call."""
        if self._loading is None or (self._loading.done() and self._loading.exception() is not None):
            self._loading = asyncio.get_running_loop().run_in_executor(self._executor, self._load)
        await asyncio.shield(self._loading)

    async def _rerank(self, query: str, documents: Sequence[str]) -> Scores:
        await self._loaded()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._executor, self._check_query, query)
        windows: list[Window] = []
        for start in range(0, len(documents), TOKENIZER_BATCH):
            group = documents[start : start + TOKENIZER_BATCH]
            windows += await loop.run_in_executor(self._executor, self._split, query, group, start)
        best = [-math.inf] * len(documents)
        for indexes in batches([len(window.token_ids) for window in windows]):
            batch = [windows[index] for index in indexes]
            logits = await loop.run_in_executor(self._executor, self._run, batch)
            for window, logit in zip(batch, logits, strict=True):
                best[window.document] = max(best[window.document], logit)
        usage = TokenUsage(UsageSource.REPORTED, sum(len(window.token_ids) for window in windows), 0)
        return Scores(tuple(map(to_score, best)), usage)

    def _check_query(self, query: str) -> None:
        most = self._max_tokens // 2
        is_long = len(query) > most * MAX_CHARACTERS_PER_TOKEN
        count = 0 if is_long else len(self._queries.encode(query, add_special_tokens=False).ids)
        if is_long or count > most:
            raise ContextLengthExceeded(
                f"The query has more than the {most} tokens that this model reads of one, which is half of what it "
                "reads at once. Nothing was charged. Send a shorter query.",
                param="query",
            )

    def _split(self, query: str, documents: Sequence[str], first: int) -> list[Window]:
        """Return the windows of the documents, of which the first has the index `first`."""
        most = MAX_WINDOWS * self._max_tokens * MAX_CHARACTERS_PER_TOKEN
        for index, document in enumerate(documents, first):
            if len(document) > most:
                raise _too_long(index)
        windows: list[Window] = []
        for index, one in enumerate(self._pairs.encode_batch([(query, text) for text in documents]), first):
            parts = [one, *one.overflowing]
            if len(parts) > MAX_WINDOWS:
                raise _too_long(index)
            windows += [Window(index, array("i", part.ids), array("b", part.type_ids)) for part in parts]
        return windows

    def _run(self, batch: Sequence[Window]) -> list[float]:
        ids, mask = padded([window.token_ids for window in batch])
        types, _ = padded([window.type_ids for window in batch])
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        (logits,) = self._session.run(None, {name: given[name] for name in self._inputs})
        numbers: list[float] = logits.reshape(-1).astype(float).tolist()
        if len(numbers) != len(batch) or not all(map(math.isfinite, numbers)):
            raise UpstreamProtocolError("the model gave no number for each pair")
        return numbers

    def _load(self) -> None:
        check_folder(self._folder)
        self._queries, self._pairs = load_tokenizer(self._folder), load_tokenizer(self._folder)
        self._queries.no_truncation()
        # An eighth of a window at most is also in the one before it, so that a sentence at its edge is whole in one.
        self._pairs.enable_truncation(self._max_tokens, stride=self._max_tokens // 16, strategy="only_second")
        session = load_session(self._folder, self._threads)
        self._inputs = checked_inputs(session, self._folder)
        self._session = session
        self._try()

    def _try(self) -> None:
        """Score a text that fills a window. Raises `ValueError` for a model that cannot read so many tokens at once."""
        try:
            self._run(self._split("a", ["b " * self._max_tokens], 0)[:1])
        except Exception as error:
            message = (
                f"{self._folder}: the model does not score {self._max_tokens} tokens at once (max_tokens): {error}"
            )
            raise ValueError(message) from error


def checked_inputs(session: Any, folder: Path) -> frozenset[str]:
    """Return the names of the model's inputs. Raises `ValueError` for a model that is no cross-encoder."""
    inputs = frozenset(one.name for one in session.get_inputs())
    if "input_ids" not in inputs or not inputs <= set(INPUTS):
        raise ValueError(f"{folder} has no cross-encoder: its inputs are {', '.join(sorted(inputs))}")
    outputs = session.get_outputs()
    shape = list(outputs[0].shape)
    if len(outputs) != 1 or len(shape) > 2 or (len(shape) == 2 and shape[1] not in {1, None}):
        raise ValueError(f"{folder} has no cross-encoder: it must have one output, of one number for each pair")
    return inputs


def _too_long(index: int) -> ContextLengthExceeded:
    return ContextLengthExceeded(
        f"documents[{index}] is longer than {MAX_WINDOWS} windows of what this model reads at once. Nothing was "
        "charged. Split it.",
        param=f"documents[{index}]",
    )
