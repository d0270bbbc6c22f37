"""The measured fleet: a fleet of its own in `.argosy/bench`, beside yours, with default settings.

Its language models are the bench's upstream, in three ways of answering.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from argosy_dev.fleet.paths import FleetPaths, read_pairs, write_text
from argosy_dev.fleet.ports import assign
from argosy_dev.parts.replicas import list_replicas

from tests.fleet.client import created
from tests.fleet.environment import ROOT, SERVICE_PREFIXES
from tests.load.machine import AROUND, SUBJECT, allow_many_files, can_pin, pin
from tests.load.payloads import chat_body
from tests.load.watch import SERVICES, Group, processes_of

STATE = ROOT / ".argosy" / "bench"
PYTHON = sys.executable
MODES = ("instant", "paced", "silent")
"""The upstream's modes; each is an upstream of the fleet, and a public model."""
TOKEN_PRICE = 1_000_000
"""Of a million tokens, in nano-USD: every request has a cost, and a tenant can pay for millions."""
CAP_USD = "1000000"
NO_UPSTREAMS: Mapping[str, str] = {}
WORDS = "/v1/chat/completions"


@dataclass(slots=True)
class BenchFleet:
    """Addresses, keys and processes, for the scenarios."""

    gateway_port: int
    upstream_port: int
    api_key: str
    admin_key: str
    postgres_dsn: str
    paths: FleetPaths
    upstream: int
    """The process of the upstream."""
    bodies: dict[tuple[str, bool, int], Path] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        """The gateway's base URL."""
        return f"http://127.0.0.1:{self.gateway_port}"

    def direct(self, mode: str) -> str:
        """The upstream's path for a mode."""
        return f"/{mode}{WORDS}"

    def body(self, model: str, *, streamed: bool, size_bytes: int = 2048) -> Path:
        """A file with a chat request."""
        wanted = (model, streamed, size_bytes)
        if wanted not in self.bodies:
            path = STATE / f"body-{model}-{'stream' if streamed else 'whole'}-{size_bytes}.json"
            path.write_bytes(chat_body(model, stream=streamed, size_bytes=size_bytes))
            self.bodies[wanted] = path
        return self.bodies[wanted]

    def groups(self) -> list[Group]:
        """The current processes of each service, each store and the upstream."""
        return [*processes_of(self.paths), Group("upstream", (self.upstream,))]

    def pin(self) -> None:
        """Pin the services to one core and all others to another, if there are two."""
        if can_pin():
            for group in self.groups():
                for pid in group.pids:
                    pin(pid, SUBJECT if group.name in SERVICES else AROUND)

    def close_to(self, core: int = AROUND) -> list[str]:
        """The command prefix that runs a module on a given core."""
        return [PYTHON, "-m", "tests.load.run_on_core", str(core)] if can_pin() else [PYTHON, "-m"]


def environment(
    upstream_port: int, replicas: str = "", more_upstreams: Mapping[str, str] = NO_UPSTREAMS
) -> dict[str, str]:
    """The environment of the bench's fleet; variables of your shell do not change its settings."""
    theirs = ("ARGOSY_", *(f"{prefix}_" for prefix in SERVICE_PREFIXES))
    mine = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    where = f"http://127.0.0.1:{upstream_port}"
    # The largest number of streams that are open at the same time.
    upstreams = {
        mode: {"kind": "openai", "base_url": f"{where}/{mode}/v1", "api_key": "bench", "max_connections": 1100}
        for mode in MODES
    }
    for name, url in more_upstreams.items():
        upstreams[name] = {"kind": "openai", "base_url": url, "api_key": "bench", "max_connections": 1100}
    return mine | {
        "ARGOSY_HOME": str(STATE),
        "ARGOSY_UPSTREAMS": json.dumps(upstreams),
        "ARGOSY_REPLICAS": replicas,
    }


def bench_ports() -> dict[str, int]:
    """The ports of the upstream, the proxy and the upstream of jobs; chosen once."""
    path = STATE / "harness.json"
    STATE.mkdir(parents=True, exist_ok=True)
    assigned: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    ports = assign(["upstream", "proxy", "clock"], assigned)
    if ports != assigned:
        write_text(path, json.dumps(ports))
    return ports


@contextmanager
def bench_fleet(
    replicas: str = "", more_upstreams: Mapping[str, str] = NO_UPSTREAMS, *, pinned: bool = True
) -> Iterator[BenchFleet]:
    """Start the upstream and the fleet, and stop both at the end, also after an error, Ctrl-C or SIGTERM.

    `more_upstreams` are URLs by name; each is a public model, too.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    allow_many_files()
    port = bench_ports()["upstream"]
    env = environment(port, replicas, more_upstreams)
    with upstream(port) as process:
        control(["down"], env)  # left over from a killed bench
        try:
            control(["up", "--only", ",".join(("keys", *parts(replicas)))], env)
            ready = _prepared(process.pid, port, env)
            _add_models(ready, env, (*MODES, *more_upstreams))
            if pinned:
                ready.pin()
            yield ready
        finally:
            _uninterrupted(lambda: control(["down"], env))


def parts(replicas: str) -> list[str]:
    """The parts of all services, with replicas as in `orchestrator=2,metering=2`."""
    counts = {name: int(count) for name, _, count in (word.partition("=") for word in replicas.split(",") if word)}
    return [replica.name for replica in list_replicas(counts)]


def _prepared(upstream_process: int, upstream_port: int, env: Mapping[str, str]) -> BenchFleet:
    paths = FleetPaths.from_environment(env)
    known = read_pairs(paths.env)
    return BenchFleet(
        gateway_port=int(known["ARGOSY_BASE_URL"].rpartition(":")[2]),
        upstream_port=upstream_port,
        api_key=known["ARGOSY_API_KEY"],
        admin_key=known["ARGOSY_ADMIN_KEY"],
        postgres_dsn=known["ARGOSY_POSTGRES_DSN"],
        paths=paths,
        upstream=upstream_process,
    )


def _add_models(ready: BenchFleet, env: Mapping[str, str], names: Sequence[str]) -> None:
    """Add routes and prices of the bench's models, and set the tenant's budget."""
    client = httpx.Client(base_url=ready.base_url, headers={"authorization": f"Bearer {ready.admin_key}"}, timeout=30)
    with client as admin:
        for mode in names:
            control(["run", "orchestrator", "route", "set", mode, f"{mode}/{mode}", "--max-output-tokens", "4096"], env)
            price = {
                "price_key": f"{mode}/{mode}",
                "input_per_million_nano_usd": TOKEN_PRICE,
                "output_per_million_nano_usd": TOKEN_PRICE,
            }
            created(admin.post("/admin/v1/prices", json=price))
    mine = httpx.Client(base_url=ready.base_url, headers={"authorization": f"Bearer {ready.api_key}"}, timeout=30)
    with mine as tenant:
        tenant_id = tenant.get("/v1/budgets").json()["data"][0]["tenant_id"]
        deadline = time.monotonic() + 30
        while not set(names) <= {model["id"] for model in tenant.get("/v1/models").json()["data"]}:
            if time.monotonic() > deadline:
                raise TimeoutError("the fleet does not learn its routes")
            time.sleep(0.2)
    admin_headers = {"authorization": f"Bearer {ready.admin_key}"}
    url = f"{ready.base_url}/admin/v1/tenants/{tenant_id}/budget"
    created(httpx.put(url, json={"cap_usd": CAP_USD}, headers=admin_headers, timeout=30))


@contextmanager
def upstream(port: int) -> Iterator[subprocess.Popen[str]]:
    """Run the upstream; it exits when its standard input closes, so at the latest with this process."""
    command = [PYTHON, "-m", "tests.load.upstream", "--port", str(port)]
    with started(command) as process:
        yield process


@contextmanager
def started(command: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run a program until the block ends; it prints a line when it is ready."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env, start_new_session=True
    )
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise SystemExit(f"{' '.join(command)} did not start")
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    """Stop a program: close its input, then SIGTERM, then SIGKILL."""
    with suppress(BrokenPipeError, ValueError, subprocess.TimeoutExpired):
        process.communicate(timeout=0.1)
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def control(arguments: Sequence[str], env: Mapping[str, str]) -> None:
    """Run a command of `argosy_dev` on the bench's fleet; print its output only if it fails."""
    STATE.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [PYTHON, "-m", "argosy_dev", *arguments],
        env=dict(env), check=False, timeout=300, capture_output=True, text=True, start_new_session=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"bench: `{' '.join(arguments)}` failed:\n{done.stdout}{done.stderr}")


def _uninterrupted(act: Callable[[], None]) -> None:
    """Run `act` with SIGINT and SIGTERM ignored."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        act()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
