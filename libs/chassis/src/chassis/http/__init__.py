"""HTTP, as raw ASGI: the server, the shape of errors, bodies with a limit. No framework is in the way."""

from chassis.http.answers import STATUS, openai_error, send_error
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
from chassis.http.ops import OpsServer
from chassis.http.server import HttpServer, PortTaken

__all__ = [
    "STATUS",
    "ASGIApp",
    "ClientDisconnected",
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
