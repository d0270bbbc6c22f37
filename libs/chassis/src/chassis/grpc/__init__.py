"""gRPC as every service speaks it: one server pipeline, two ways to make a call, one table of statuses."""

import os

# gRPC's core writes lines of its own form to stderr, read from here at its start; what matters we log ourselves.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from chassis.grpc.convert import from_duration, from_timestamp, to_duration, to_timestamp
from chassis.grpc.exchange.channel import Channel
from chassis.grpc.ordinary import OrdinaryChannel
from chassis.grpc.server import GrpcServer, Registration
from chassis.grpc.status import STATUS

__all__ = [
    "STATUS",
    "Channel",
    "GrpcServer",
    "OrdinaryChannel",
    "Registration",
    "from_duration",
    "from_timestamp",
    "to_duration",
    "to_timestamp",
]
