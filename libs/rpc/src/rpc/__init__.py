"""Calls multiplexed over one long-lived gRPC stream per peer; the specification is `libs/rpc/README.md`.

A gRPC message costs about 50 µs at both ends together, whatever it carries. Frames that are queued while one message is
being written travel together as the next one, so under load a call pays a fraction of that.
"""

from rpc.channel import Channel
from rpc.server import ExchangeServicer

__all__ = ["Channel", "ExchangeServicer"]
