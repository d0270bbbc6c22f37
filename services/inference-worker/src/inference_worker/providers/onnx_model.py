"""Models of this process: a folder with `model.onnx` and `tokenizer.json`, run by onnxruntime."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

FILES = ("tokenizer.json", "model.onnx")

# Attention needs memory by the square of the length. Larger batches were not faster, and took twice the memory.
MAX_BATCH_TOKENS = 512


def check_folder(folder: Path) -> None:
    """Raises `FileNotFoundError` for a folder without a model."""
    for name in FILES:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"there is no {folder / name}")


def load_tokenizer(folder: Path) -> "Tokenizer":
    # The tokenizer's own threads would compete with the event loop for the core.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer  # noqa: PLC0415

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    return tokenizer


def load_session(folder: Path, threads: int) -> "InferenceSession":
    # Read when the library loads; else it writes a device id to the home directory and sends telemetry.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime  # noqa: PLC0415 - 20 MB that a worker without such a model does not need

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # It would keep a pattern for every shape of batch.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    _trim()
    return session


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield indexes of texts to run together: of similar length, so that little is padding, and bounded in tokens."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[index] > MAX_BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def padded(rows: Sequence[Sequence[int]]) -> tuple[Any, Any]:
    """Rows of numbers as one array (int64), with zeros after the shorter ones, and a mask of what is not padding."""
    import numpy as np  # noqa: PLC0415

    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return ids, mask


def _trim() -> None:
    """Return the 20 MB that parsing the model took to the system: glibc keeps them otherwise."""
    import ctypes  # noqa: PLC0415

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
