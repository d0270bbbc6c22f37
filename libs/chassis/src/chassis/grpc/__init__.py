"""gRPC as every service speaks it: one server pipeline, one channel, one table of statuses."""

from chassis.grpc.channel import Channel
from chassis.grpc.convert import from_duration, from_timestamp, to_duration, to_timestamp
from chassis.grpc.server import GrpcServer
from chassis.grpc.status import STATUS

__all__ = [
    "STATUS",
    "Channel",
    "GrpcServer",
    "from_duration",
    "from_timestamp",
    "to_duration",
    "to_timestamp",
]
