"""MiniLM in this process: texts to vectors on onnxruntime, a thread at a time.

The folder holds `tokenizer.json` and `model.onnx`, whose inputs are `input_ids` and `attention_mask` (int64) and whose
output `sentence_embedding` (float32) is pooled and of length 1.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from chassis.errors import InvalidRequest

from inference_worker.domain.failures import UpstreamRateLimited
from inference_worker.domain.ports import Vectors
from inference_worker.domain.usage import Usage, UsageSource

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

DIMENSIONS = 384
MAX_TOKENS = 256
"""What the model reads of a text; the rest is cut off."""

# Attention needs memory by the square of the length. Larger batches were not faster, and twice as large.
BATCH_TOKENS = 512

# Nothing of a text beyond this can be within its first 256 tokens, unless it is nearly all spaces.
MAX_CHARACTERS = 32 * 1024

ENCODED_TOGETHER = 32
"""Texts that the tokenizer gets at once: what it makes of a text is a hundred times the text."""

MAX_WAITING = 4096
"""Texts that wait or run at once; whoever comes later is sent away."""

OUTPUT = "sentence_embedding"


class MinilmEmbedder:
    """An embedder, and an async context manager that loads the model and lets go of it."""

    def __init__(self, folder: Path, threads: int) -> None:
        """`threads` is how many cores one batch may use."""
        self._folder = folder
        self._threads = threads
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="minilm")
        self._waiting = 0

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._tokenizer, self._session = await loop.run_in_executor(self._executor, self._load)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def embed(self, model: str, texts: Sequence[str], *, dimensions: int | None) -> Vectors:
        """Embed in batches, between which others get their turn. The model's name in the plan does not matter."""
        if dimensions not in {None, DIMENSIONS}:
            raise InvalidRequest(f"{model} has {DIMENSIONS} dimensions, and no fewer", param="dimensions")
        if self._waiting + len(texts) > MAX_WAITING:
            raise UpstreamRateLimited("too many texts wait to be embedded")
        self._waiting += len(texts)
        try:
            return await self._embed(texts)
        finally:
            self._waiting -= len(texts)

    async def _embed(self, texts: Sequence[str]) -> Vectors:
        loop = asyncio.get_running_loop()
        encoded: list[list[int]] = []
        for start in range(0, len(texts), ENCODED_TOGETHER):
            some = texts[start : start + ENCODED_TOGETHER]
            encoded += await loop.run_in_executor(self._executor, self._encode, some)
        found: dict[int, bytes] = {}
        for places in batches([len(tokens) for tokens in encoded]):
            batch = [encoded[place] for place in places]
            vectors = await loop.run_in_executor(self._executor, self._run, batch)
            found.update(zip(places, vectors, strict=True))
        usage = Usage(UsageSource.REPORTED, sum(map(len, encoded)), 0)
        return Vectors(tuple(found[place] for place in range(len(texts))), usage)

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        encodings = self._tokenizer.encode_batch([text[:MAX_CHARACTERS] for text in texts])
        return [encoding.ids for encoding in encodings]

    def _run(self, batch: list[list[int]]) -> list[bytes]:
        import numpy as np  # noqa: PLC0415

        ids = np.zeros((len(batch), max(map(len, batch))), np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        (vectors,) = self._session.run([OUTPUT], {"input_ids": ids, "attention_mask": mask})
        return [vector.astype("<f4").tobytes() for vector in vectors]

    def _load(self) -> "tuple[Tokenizer, InferenceSession]":
        for name in ("tokenizer.json", "model.onnx"):
            if not (self._folder / name).is_file():
                raise FileNotFoundError(f"there is no {self._folder / name}")
        # One core does one batch: the tokenizer's own threads would take the event loop's.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from tokenizers import Tokenizer  # noqa: PLC0415

        tokenizer = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        tokenizer.enable_truncation(MAX_TOKENS)
        tokenizer.no_padding()
        session = _session(self._folder / "model.onnx", self._threads)
        _trim()
        return tokenizer, session


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of texts to run together: of like length, so that little is padding, and bounded in tokens."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[place] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _session(model: Path, threads: int) -> Any:
    # Read when the library loads: otherwise it writes a device id to the home directory and reports home.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime  # noqa: PLC0415 - 20 MB that a worker without embeddings does not need

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A pattern would be kept for every shape of batch there is.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    if [output.name for output in session.get_outputs()] != [OUTPUT]:
        raise ValueError(f"{model} has no output {OUTPUT}")
    return session


def _trim() -> None:
    """Give back what parsing the model took, 20 MB; only glibc keeps it, and only glibc can be asked."""
    import ctypes  # noqa: PLC0415

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
