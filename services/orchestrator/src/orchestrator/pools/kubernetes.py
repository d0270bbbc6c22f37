"""The Kubernetes API over HTTP: the few requests that pools need (docs/adr/0036-kubernetes-over-http.md).

Only this file talks to a cluster.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
from chassis.errors import ArgosyError, Internal, Unavailable

from orchestrator.pools.model import Pool, PoolQuotaExceeded, PoolWorkers
from orchestrator.pools.template import MANAGER, Object, fill, is_made_here, owner_reference, render

TIMEOUT = aiohttp.ClientTimeout(total=15)
RESOURCES = {
    "Deployment": "deployments",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "ScaledObject": "scaledobjects",
}
APPLY = {"Content-Type": "application/apply-patch+yaml"}
# What others have set in between is overwritten: the objects are those of this manager alone.
APPLY_OPTIONS = {"fieldManager": MANAGER, "force": "true"}
BAD_REQUEST, FORBIDDEN, NOT_FOUND, CONFLICT, THROTTLED, SERVER_ERROR = 400, 403, 404, 409, 429, 500


class KubernetesPools:
    """Implements `PoolCluster` by server-side apply; an async context manager.

    The token is read again for every request, because the kubelet renews it.
    """

    def __init__(self, api_server: str, service_account: Path, template: str) -> None:
        """`template` names the ConfigMap. Raises OSError where the pod has no token of a service account."""
        self._api_server = api_server
        self._token = service_account / "token"
        self._namespace = (service_account / "namespace").read_text().strip()
        self._ssl = ssl.create_default_context(cafile=str(service_account / "ca.crt"))
        self._template = template
        self._session: Any = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._ssl)
        self._session = aiohttp.ClientSession(connector=connector, timeout=TIMEOUT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def is_foreign(self, name: str) -> bool:
        template, _ = await self._read_template()
        found = [await self._request("GET", self._path(thing)) for thing in fill(template, name)]
        return any(thing is not None and not is_made_here(thing) for thing in found)

    async def apply(self, pool: Pool) -> None:
        template, owner = await self._read_template()
        for thing in render(template, pool, owner):
            await self._request("PATCH", self._path(thing), thing, headers=APPLY, params=APPLY_OPTIONS)

    async def workers(self, name: str) -> PoolWorkers | None:
        template, _ = await self._read_template()
        deployment = next(thing for thing in fill(template, name) if thing["kind"] == "Deployment")
        found = await self._request("GET", self._path(deployment))
        if found is None:
            return None
        status = found.get("status", {})
        return PoolWorkers(status.get("replicas", 0), status.get("readyReplicas", 0))

    async def delete(self, name: str) -> None:
        template, _ = await self._read_template()
        # The autoscaler goes before what it scales.
        for thing in reversed(fill(template, name)):
            found = await self._request("GET", self._path(thing))
            if found is not None and is_made_here(found):
                await self._request("DELETE", self._path(thing), {"propagationPolicy": "Background"})

    async def _read_template(self) -> tuple[str, Object]:
        path = f"/api/v1/namespaces/{self._namespace}/configmaps/{self._template}"
        config_map = await self._request("GET", path)
        if config_map is None:
            raise Internal(f"there is no ConfigMap {self._template} with the template of pools")
        return config_map["data"]["objects.json"], owner_reference(config_map)

    def _path(self, thing: Object) -> str:
        group, resource = thing["apiVersion"], RESOURCES[thing["kind"]]
        return f"/apis/{group}/namespaces/{self._namespace}/{resource}/{thing['metadata']['name']}"

    async def _request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        headers: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
    ) -> Any:
        """Return the answer; None when there is no such object. Raises PoolQuotaExceeded, Internal, Unavailable."""
        try:
            async with self._session.request(
                method,
                self._api_server + path,
                data=None if body is None else orjson.dumps(body),
                headers={
                    "Content-Type": "application/json",
                    **(headers or {}),
                    "Authorization": f"Bearer {self._token.read_text().strip()}",
                },
                params=params,
            ) as response:
                status, answer = response.status, orjson.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError) as error:
            raise Unavailable(f"the Kubernetes API does not answer: {type(error).__name__}") from error
        if status == NOT_FOUND:
            return None
        if status >= BAD_REQUEST:
            raise _error(status, f"{method} {path}: {answer.get('message', '')}")
        return answer


def _error(status: int, message: str) -> ArgosyError:
    if status == FORBIDDEN and "exceeded quota" in message:
        return PoolQuotaExceeded(f"the cluster's own quota refuses {message}")
    if status in {CONFLICT, THROTTLED} or status >= SERVER_ERROR:
        return Unavailable(f"the Kubernetes API answers {status} to {message}")
    return Internal(f"the Kubernetes API answers {status} to {message}")
