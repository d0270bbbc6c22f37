"""The inference worker, put together."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import NoReturn

from chassis.clock import SystemClock
from chassis.grpc import GrpcServer
from chassis.lifecycle import Component, Service, command_line
from chassis.telemetry import Telemetry
from chassis.tenancy import PrincipalVerifier

from inference_worker.adapters.http import Endpoint
from inference_worker.adapters.journal import TelemetryJournal
from inference_worker.adapters.litellm import Account
from inference_worker.adapters.upstreams import (
    Counting,
    InProcess,
    OverHttp,
    Specification,
    ThroughLitellm,
    open_upstream,
)
from inference_worker.api.drain import HangUp
from inference_worker.api.servicer import InferenceServicer, registration
from inference_worker.settings import (
    AnthropicSection,
    HttpSection,
    LitellmSection,
    OnnxSection,
    OpenaiSection,
    Settings,
    UpstreamSection,
)

# Of the drain, the last second is for closing connections, and three before it are for accounts of broken-off plans.
FOR_CLOSING = timedelta(seconds=1)
FOR_ACCOUNTS = timedelta(seconds=3)

# Shorter header values are versions and names; blotting them out would make messages unreadable.
SHORTEST_SECRET = 8


@asynccontextmanager
async def build(settings: Settings, _: Telemetry) -> AsyncIterator[Sequence[Component]]:
    """Open every upstream and yield the server."""
    clock = SystemClock()
    verifier = PrincipalVerifier([secret.get_secret_value() for secret in settings.principal.secrets], clock)
    async with AsyncExitStack() as stack:
        upstreams = {
            name: await open_upstream(specified(section), clock, stack) for name, section in settings.upstreams.items()
        }
        servicer = InferenceServicer(
            upstreams=upstreams,
            journal=TelemetryJournal(upstreams),
            clock=clock,
            max_in_flight=settings.max_in_flight,
        )
        grace = settings.drain - FOR_CLOSING
        yield [
            GrpcServer(settings.grpc.bind, [registration(servicer)], verifier, clock, grace=grace),
            # Components stop in reverse order: the server must still be there.
            HangUp(servicer.hang_up, grace - FOR_ACCOUNTS),
        ]


def specified(section: UpstreamSection) -> Specification:
    """What the adapters need to know of an upstream."""
    match section:
        case OpenaiSection():
            headers = {"authorization": f"Bearer {section.api_key.get_secret_value()}"} if section.api_key else {}
            return OverHttp("openai", _endpoint(section, headers), _counting(section))
        case AnthropicSection():
            headers = {"anthropic-version": section.version}
            if section.api_key:
                headers["x-api-key"] = section.api_key.get_secret_value()
            return OverHttp("anthropic", _endpoint(section, headers), _counting(section))
        case LitellmSection():
            options = {name: value.get_secret_value() for name, value in section.options.items()}
            if section.api_key:
                options["api_key"] = section.api_key.get_secret_value()
            return ThroughLitellm(Account(section.litellm_provider, section.base_url, options), _counting(section))
        case OnnxSection():
            return InProcess(section.path, section.threads)


def _endpoint(section: HttpSection, headers: dict[str, str]) -> Endpoint:
    more = {name.lower(): value.get_secret_value() for name, value in section.headers.items()}
    secrets = [*more.values(), *([section.api_key.get_secret_value()] if section.api_key else [])]
    return Endpoint(
        base_url=section.base_url,
        headers={**headers, **more},
        secrets=tuple(secret for secret in secrets if len(secret) >= SHORTEST_SECRET),
        connect_timeout=section.connect_timeout,
        keep_alive=section.keep_alive,
        max_connections=section.max_connections,
        max_body_bytes=section.max_answer_bytes,
    )


def _counting(section: HttpSection | LitellmSection) -> Counting:
    return Counting(section.tokenizer, section.encoding)


def main() -> NoReturn:
    """Run the command line."""
    command_line(
        Service(
            name="inference-worker",
            settings=Settings,
            build=build,
            description="Execution: providers, attempts, fallback, embeddings.",
        )
    )
