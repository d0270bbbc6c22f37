"""HTTP as raw ASGI: the server, error responses, and bodies with a size limit. No framework."""

from chassis.http.asgi import (
    ASGIApp,
    ClientDisconnected,
    Receive,
    RequestTooLarge,
    Routes,
    Scope,
    Send,
    read_body,
    send_json,
)
from chassis.http.connections import ConnectionLimits
from chassis.http.errors import STATUS, openai_error, send_error
from chassis.http.server import HttpServer, OpsServer, PortTaken

__all__ = [
    "STATUS",
    "ASGIApp",
    "ClientDisconnected",
    "ConnectionLimits",
    "HttpServer",
    "OpsServer",
    "PortTaken",
    "Receive",
    "RequestTooLarge",
    "Routes",
    "Scope",
    "Send",
    "openai_error",
    "read_body",
    "send_error",
    "send_json",
]
