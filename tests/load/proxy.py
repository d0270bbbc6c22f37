"""LiteLLM's proxy beside the fleet: from its package, in its own environment, on the fleet's core.

Its database needs engines that its packages do not hold but download from elsewhere, so keys come from its custom
authentication: see docs/benchmarks.md for what is on and what is not.
"""

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from argosy_dev.fleet.paths import read_pairs
from argosy_dev.fleet.ports import assign

from tests.load import environments
from tests.load.bench_fleet import STATE, WORDS, BenchFleet, end
from tests.load.machine import SUBJECT, can_pin, pin
from tests.load.targets import Target
from tests.load.watch import Group

START_SECONDS = 120
TOKEN_PRICE_USD = 1e-9
AROUND = ("upstream", "redis")
"""Its supporting processes."""
BARE, KEYS = "litellm-bare", "litellm"
_VERSION = environments.version("litellm", "litellm")
FEATURES = {
    KEYS: f"LiteLLM {_VERSION}, one worker: keys (custom authentication), limits per key in Redis, cost of each answer",
    BARE: f"LiteLLM {_VERSION}, one worker: master key, cost of each answer",
}


@contextmanager
def litellm(variant: str, bench_fleet: BenchFleet) -> Iterator[Target]:
    """Run the proxy until the block ends."""
    folder = STATE / variant
    folder.mkdir(parents=True, exist_ok=True)
    key, port = f"sk-{secrets.token_hex(24)}", assign(["proxy"], {})["proxy"]
    config = folder / "config.yaml"
    config.write_text(json.dumps(configuration(variant, bench_fleet), indent=1))  # JSON is YAML
    shutil.copy(Path(__file__).parent / "litellm" / "bench_keys.py", folder)
    command: list[str | Path] = [
        environments.program("litellm", "litellm"),
        "--config",
        config,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with (STATE / "logs" / f"{variant}.log").open("w") as log:
        process = subprocess.Popen(
            command, env=_environment(key), cwd=folder, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            _await(process, port, Path(log.name))
            if can_pin():
                pin(process.pid, SUBJECT)
            yield Target(
                name=variant,
                port=port,
                path=lambda _: WORDS,
                keys=(key,),
                groups=lambda: [Group(variant, (process.pid,)), *(g for g in bench_fleet.groups() if g.name in AROUND)],
                subjects=(variant,),
            )
        finally:
            end(process)


def configuration(variant: str, bench_fleet: BenchFleet) -> dict[str, Any]:
    """Its configuration: the bench's models, and the enabled features."""
    models = [
        {
            "model_name": mode,
            "litellm_params": {
                "model": f"openai/{mode}",
                "api_base": f"http://127.0.0.1:{bench_fleet.upstream_port}/{mode}/v1",
                "api_key": "bench",
                "input_cost_per_token": TOKEN_PRICE_USD,
                "output_cost_per_token": TOKEN_PRICE_USD,
            },
        }
        for mode in ("instant", "paced")
    ]
    if variant == BARE:
        return {"model_list": models}
    redis = urlsplit(read_pairs(bench_fleet.paths.env)["ARGOSY_REDIS_URL"])
    place = {"host": redis.hostname, "port": redis.port, "password": redis.password}
    # No call types: responses are not cached, but the counters of limits are shared.
    shared: dict[str, Any] = {
        "type": "redis",
        "supported_call_types": [],
        **{name: value for name, value in place.items() if value},
    }
    return {
        "model_list": models,
        "general_settings": {"custom_auth": "bench_keys.user_api_key_auth"},
        "litellm_settings": {"cache": True, "cache_params": shared},
    }


def _environment(key: str) -> Mapping[str, str]:
    """Its master key, and settings that prevent requests to the outside."""
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "LITELLM_LOG": "ERROR"}
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "NO_PROXY": "127.0.0.1",
        "LITELLM_MASTER_KEY": key,
        "BENCH_KEY": key,
        **quiet,
    }


def _await(process: subprocess.Popen[str], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health/liveliness", timeout=1).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise SystemExit(f"bench: LiteLLM's proxy did not start:\n{log.read_text()[-2000:]}")
