"""The embedding model as an OpenAI-shaped upstream, so that pods need no volume with its files."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from inference_worker.providers.minilm import MinilmEmbedder


@asynccontextmanager
async def serve_embedder(host: str, folder: Path) -> AsyncIterator[str]:
    """Serve `POST /v1/embeddings` on a free port of `host`; yields its address, which ends in /v1."""
    async with MinilmEmbedder(folder, 1) as embedder:

        async def embed(request: web.Request) -> web.Response:
            body = await request.json()
            texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
            result = await embedder.embed(body["model"], texts, dimensions=body.get("dimensions"))
            data = [
                {"object": "embedding", "index": index, "embedding": base64.b64encode(vector).decode()}
                for index, vector in enumerate(result.vectors)
            ]
            tokens = result.usage.input_tokens if result.usage else 0
            usage = {"prompt_tokens": tokens, "total_tokens": tokens}
            return web.json_response({"object": "list", "model": body["model"], "data": data, "usage": usage})

        app = web.Application(client_max_size=1 << 24)
        app.router.add_post("/v1/embeddings", embed)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, 0).start()
            yield f"http://{host}:{runner.addresses[0][1]}/v1"
        finally:
            await runner.cleanup()
