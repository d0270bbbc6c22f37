"""gRPC as every service speaks it: one server pipeline, two ways to make a call, one table of statuses."""

import os

# gRPC's core writes lines of its own form to stderr, read from here at its start; what matters we log ourselves.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
# The thread that waits for completions polls the sockets too, as it did before gRPC had an event engine: a message then
# wakes one thread instead of three, and costs 34 µs at both ends together instead of 55 (docs/adr/0008).
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")

from chassis.grpc.exchange.channel import Channel
from chassis.grpc.ordinary import OrdinaryChannel
from chassis.grpc.protos import duration_to_proto, proto_to_duration, proto_to_timestamp, timestamp_to_proto
from chassis.grpc.server import GrpcServer, Registration
from chassis.grpc.status import STATUS

__all__ = [
    "STATUS",
    "Channel",
    "GrpcServer",
    "OrdinaryChannel",
    "Registration",
    "duration_to_proto",
    "proto_to_duration",
    "proto_to_timestamp",
    "timestamp_to_proto",
]
