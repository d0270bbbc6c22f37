"""Wires what operators configure at run time."""

from typing import Final

from chassis.grpc import Channel

from gateway.flags import http as flags_http
from gateway.flags.orchestrator_client import FlagsClient
from gateway.prices import http as prices_http
from gateway.prices.metering_client import PricesClient
from gateway.queues import http as queues_http
from gateway.queues.orchestrator_client import QueuesClient
from gateway.web.dependencies import Dependencies

FEATURES: Final = (prices_http, queues_http, flags_http)


def configuration_clients(orchestrator: Channel, metering: Channel) -> Dependencies:
    """Return the clients of these features."""
    return {
        FlagsClient: FlagsClient(orchestrator),
        PricesClient: PricesClient(metering),
        QueuesClient: QueuesClient(orchestrator),
    }
