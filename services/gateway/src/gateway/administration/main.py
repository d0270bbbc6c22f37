"""Wires what operators configure at run time."""

from typing import Final

from chassis.grpc import Channel

from gateway.configuration import http as configuration_http
from gateway.configuration.orchestrator_client import ConfigurationClient
from gateway.flags import http as flags_http
from gateway.flags.orchestrator_client import FlagsClient
from gateway.pools import http as pools_http
from gateway.pools.orchestrator_client import PoolsClient
from gateway.prices import http as prices_http
from gateway.prices.metering_client import PricesClient
from gateway.queues import http as queues_http
from gateway.queues.orchestrator_client import QueuesClient
from gateway.routes import http as routes_http
from gateway.routes.orchestrator_client import RoutesClient
from gateway.upstreams import http as upstreams_http
from gateway.upstreams.orchestrator_client import UpstreamsClient
from gateway.web.dependencies import Dependencies

FEATURES: Final = (prices_http, upstreams_http, routes_http, queues_http, pools_http, flags_http, configuration_http)


def configuration_clients(orchestrator: Channel, metering: Channel) -> Dependencies:
    """Return the clients of these features."""
    return {
        ConfigurationClient: ConfigurationClient(orchestrator),
        FlagsClient: FlagsClient(orchestrator),
        PoolsClient: PoolsClient(orchestrator),
        PricesClient: PricesClient(metering),
        QueuesClient: QueuesClient(orchestrator),
        RoutesClient: RoutesClient(orchestrator),
        UpstreamsClient: UpstreamsClient(orchestrator),
    }
