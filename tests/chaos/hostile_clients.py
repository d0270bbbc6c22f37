"""Clients that misuse connections, from 127.0.0.2: `python -m tests.chaos.hostile_clients PORT KEY SECONDS`.

In a process of their own, so that they do not slow down the clients that are measured. Prints what became of them.
"""

import asyncio
import json
import sys
from collections import Counter

SOURCE = "127.0.0.2"
CONNECTIONS = 3_000
LARGE_BODIES, LARGE_BODY_BYTES = 40, 10_000_000
UPLOADS, UPLOAD_BYTES = 30, 8_000_000
LONG_URLS, LONG_URL_BYTES = 4, 100_000_000
HALF_HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"


class HostileClients:
    """Counts by kind how many connections were open, refused, and closed by the server."""

    def __init__(self, port: int, key: str) -> None:
        self.outcome: Counter[str] = Counter()
        self._port = port
        self._authorization = f"authorization: Bearer {key}\r\n".encode()

    async def run(self, seconds: float) -> None:
        """Attack for some seconds, then leave without a word."""
        kinds = (
            [("silent", b""), ("half-head", HALF_HEAD), ("drip", HALF_HEAD), ("half-body", self._body(1000))]
            * (CONNECTIONS // 4)
            + [("large-body", self._body(LARGE_BODY_BYTES))] * LARGE_BODIES
            + [("upload", self._upload())] * UPLOADS
            + [("long-url", b"GET /")] * LONG_URLS
        )
        tasks = []
        for number, (kind, first) in enumerate(kinds):
            tasks.append(asyncio.create_task(self._client(kind, first)))
            if number % 20 == 0:
                await asyncio.sleep(0.02)
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _client(self, kind: str, first: bytes) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(SOURCE, 0))
        except OSError:
            self.outcome[f"{kind}: not connected"] += 1
            return
        sending = asyncio.create_task(self._send(kind, first, writer))
        try:
            answer = await reader.read(64 * 1024)
            self.outcome[f"{kind}: {answer[9:12].decode() or 'closed'}"] += 1
        except ConnectionError:
            self.outcome[f"{kind}: reset"] += 1
        except asyncio.CancelledError:
            self.outcome[f"{kind}: open"] += 1
            raise
        finally:
            sending.cancel()
            writer.transport.abort()

    async def _send(self, kind: str, first: bytes, writer: asyncio.StreamWriter) -> None:
        size = {"large-body": LARGE_BODY_BYTES, "upload": UPLOAD_BYTES, "long-url": LONG_URL_BYTES}.get(kind, 0)
        try:
            writer.write(first)
            while size > 64 * 1024:
                await writer.drain()
                writer.write(b"a" * min(size, 64 * 1024))
                size -= 64 * 1024
            while kind == "drip":
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(1)
        except ConnectionError:
            return

    def _body(self, size: int) -> bytes:
        return HALF_HEAD + self._authorization + b"content-length: %d\r\n\r\n{" % size

    def _upload(self) -> bytes:
        return (
            b"POST /v1/files HTTP/1.1\r\nhost: x\r\n" + self._authorization + b"content-length: 100000000\r\n"
            b"content-type: multipart/form-data; boundary=b\r\n\r\n"
            b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
            b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
        )


async def main(port: int, key: str, seconds: float) -> None:
    clients = HostileClients(port, key)
    await clients.run(seconds)
    print(json.dumps(clients.outcome))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
