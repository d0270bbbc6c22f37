"""Messages between the service and the template of parsing processes: JSON after its length, maybe with open files."""

import socket
import struct
from collections.abc import Sequence
from typing import Any

import orjson

LENGTH = struct.Struct("!I")


class IncompleteMessage(BrokenPipeError):
    """A part of a message was sent: the other end cannot read any more."""


def pack(message: dict[str, Any]) -> bytes:
    body = orjson.dumps(message)
    return LENGTH.pack(len(body)) + body


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Send to the other end; waits while it reads nothing."""
    connection.sendall(pack(message))


def send_at_once(connection: socket.socket, message: dict[str, Any], files: Sequence[int] = ()) -> None:
    """Send on a connection that does not block.

    Raises OSError when the other end reads nothing or is gone, IncompleteMessage when it reads too little.
    """
    packed = pack(message)
    if socket.send_fds(connection, [packed], list(files)) < len(packed):
        raise IncompleteMessage("the other end reads too little")


def receive(connection: socket.socket, files: int) -> tuple[dict[str, Any] | None, list[int]]:
    """The next message and at most `files` files with it; None at the end of the connection."""
    length, found, _, _ = socket.recv_fds(connection, LENGTH.size, files)
    while length and len(length) < LENGTH.size:
        piece = connection.recv(LENGTH.size - len(length))
        length = length + piece if piece else b""
    if not length:
        return None, list(found)
    missing, body = LENGTH.unpack(length)[0], b""
    while missing > len(body):
        piece = connection.recv(missing - len(body))
        if not piece:
            return None, list(found)
        body += piece
    message: dict[str, Any] = orjson.loads(body)
    return message, list(found)
