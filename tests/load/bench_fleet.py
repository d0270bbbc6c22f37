"""The fleet that is measured: one of its own in `.argosy/bench`, beside yours, with settings as they come.

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
from argosy_dev.parts import services

from tests.fleet.client import created
from tests.fleet.environment import ROOT, SERVICE_PREFIXES
from tests.load.machine import AROUND, SUBJECT, allow_many_files, can_pin, pin
from tests.load.watch import SERVICES, Group, processes_of
from tests.load.words import chat_body

STATE = ROOT / ".argosy" / "bench"
PYTHON = sys.executable
MODES = ("instant", "paced", "silent")
"""How the upstream answers; each is an upstream of the fleet, and a public model."""
TOKEN_PRICE = 1_000_000
"""Of a million tokens, in nano-USD: every request costs something, and a tenant can pay for millions of them."""
CAP_USD = "1000000"
WORDS = "/v1/chat/completions"


@dataclass(slots=True)
class World:
    """What a scenario needs to know: where everything is, and which processes it is."""

    gateway_port: int
    upstream_port: int
    api_key: str
    admin_key: str
    postgres_dsn: str
    home: FleetPaths
    upstream: int
    """The process of the upstream."""
    bodies: dict[tuple[str, bool, int], Path] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        """Where the gateway answers."""
        return f"http://127.0.0.1:{self.gateway_port}"

    def direct(self, mode: str) -> str:
        """The path under which the upstream answers in this way."""
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
        """The processes of each service, and of each part around them, as they are now."""
        return [*processes_of(self.home), Group("upstream", (self.upstream,))]

    def pin(self) -> None:
        """Put the services on one core and everything else on the other, if there are two."""
        if can_pin():
            for group in self.groups():
                for pid in group.pids:
                    pin(pid, SUBJECT if group.name in SERVICES else AROUND)

    def close_to(self, core: int = AROUND) -> list[str]:
        """What starts a program on a core of its own: words before its command."""
        return [PYTHON, "-m", "tests.load.on", str(core)] if can_pin() else [PYTHON, "-m"]


def environment(upstream_port: int, replicas: str = "") -> dict[str, str]:
    """What makes a fleet the bench's: nothing of your shell changes its settings."""
    theirs = ("ARGOSY_", *(f"{prefix}_" for prefix in SERVICE_PREFIXES))
    mine = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    where = f"http://127.0.0.1:{upstream_port}"
    # As many connections as the most streams that are ever open at once.
    upstreams = {
        mode: {"kind": "openai", "base_url": f"{where}/{mode}/v1", "api_key": "bench", "max_connections": 1100}
        for mode in MODES
    }
    return mine | {
        "ARGOSY_HOME": str(STATE),
        "ARGOSY_UPSTREAMS": json.dumps(upstreams),
        "ARGOSY_REPLICAS": replicas,
    }


def own_ports() -> dict[str, int]:
    """The ports of what runs beside the fleet; chosen once."""
    path = STATE / "harness.json"
    if not path.exists():
        STATE.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(assign(["upstream", "proxy"], {})))
    ports: dict[str, int] = json.loads(path.read_text())
    return ports


@contextmanager
def world(replicas: str = "") -> Iterator[World]:
    """Start everything, and leave no process behind: after an error, Ctrl-C or a request to end as well."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    allow_many_files()
    port = own_ports()["upstream"]
    env = environment(port, replicas)
    with upstream(port) as process:
        control(["down"], env)  # what an earlier bench was killed over
        try:
            control(["up", "--only", ",".join(("keys", *parts(replicas)))], env)
            yield _prepared(process.pid, port, env)
        finally:
            _unbroken(lambda: control(["down"], env))


def parts(replicas: str) -> list[str]:
    """The processes of all services, when some have replicas, as in `orchestrator=2,metering=2`."""
    counts = {name: int(count) for name, _, count in (word.partition("=") for word in replicas.split(",") if word)}
    return [replica.name for replica in services.list_replicas(counts)]


def _prepared(upstream_process: int, upstream_port: int, env: Mapping[str, str]) -> World:
    home = FleetPaths.from_environment(env)
    known = read_pairs(home.env)
    ready = World(
        gateway_port=int(known["ARGOSY_BASE_URL"].rpartition(":")[2]),
        upstream_port=upstream_port,
        api_key=known["ARGOSY_API_KEY"],
        admin_key=known["ARGOSY_ADMIN_KEY"],
        postgres_dsn=known["ARGOSY_POSTGRES_DSN"],
        home=home,
        upstream=upstream_process,
    )
    _offer(ready, env)
    ready.pin()
    return ready


def _offer(ready: World, env: Mapping[str, str]) -> None:
    """Route and price the bench's models, and let the tenant pay for them."""
    client = httpx.Client(base_url=ready.base_url, headers={"authorization": f"Bearer {ready.admin_key}"}, timeout=30)
    with client as admin:
        for mode in MODES:
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
        while not set(MODES) <= {model["id"] for model in tenant.get("/v1/models").json()["data"]}:
            if time.monotonic() > deadline:
                raise TimeoutError("the fleet does not learn its routes")
            time.sleep(0.2)
    admin_headers = {"authorization": f"Bearer {ready.admin_key}"}
    url = f"{ready.base_url}/admin/v1/tenants/{tenant_id}/budget"
    created(httpx.put(url, json={"cap_usd": CAP_USD}, headers=admin_headers, timeout=30))


@contextmanager
def upstream(port: int) -> Iterator[subprocess.Popen[str]]:
    """Run the upstream; it ends with its standard input, so at the latest with this process."""
    command = [PYTHON, "-m", "tests.load.upstream", "--port", str(port)]
    with started(command) as process:
        yield process


@contextmanager
def started(command: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run a program that says when it is ready, until the block ends."""
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
    """End a program of ours, politely at first."""
    with suppress(BrokenPipeError, ValueError, subprocess.TimeoutExpired):
        process.communicate(timeout=0.1)
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def control(words: Sequence[str], env: Mapping[str, str]) -> None:
    """Run a command of the dev fleet on the bench's; what it prints goes to a log, and to you when it fails."""
    STATE.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [PYTHON, "-m", "argosy_dev", *words],
        env=dict(env), check=False, timeout=300, capture_output=True, text=True, start_new_session=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"bench: `{' '.join(words)}` failed:\n{done.stdout}{done.stderr}")


def _unbroken(act: Callable[[], None]) -> None:
    """Do it whole, however often Ctrl-C is pressed."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        act()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
