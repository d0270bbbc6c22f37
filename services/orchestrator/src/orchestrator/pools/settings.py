"""Settings of pools that are made at run time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from chassis.settings import Section
from pydantic import Field

from orchestrator.pools.model import PoolQuota


class PoolsSection(Section):
    """Pools of workers that operators make at run time, on Kubernetes."""

    template: str | None = Field(
        None,
        pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$",
        description="ConfigMap with the objects of a pool, which the chart writes; unset: pools cannot be made at run "
        "time.",
    )
    api_server: str = Field(
        "https://kubernetes.default.svc", pattern=r"^https?://[^\s/]+$", description="Address of the Kubernetes API."
    )
    service_account: Path = Field(
        Path("/var/run/secrets/kubernetes.io/serviceaccount"),
        description="Folder with the token, the namespace and the CA of the pod's service account.",
    )
    topics: Path = Field(Path("/app/topics"), description="Folder with a file per topic; images have it.")
    max_pools: int = Field(10, ge=0, le=1_000, description="The most pools that may be made at run time.")
    max_replicas: int = Field(50, ge=0, description="The most replicas that they may ask for, over all of them.")
    interval: timedelta = Field(
        timedelta(seconds=15),
        ge=timedelta(seconds=1),
        description="Between two comparisons of the cluster with what the pools are to be.",
    )

    def quota(self) -> PoolQuota:
        return PoolQuota(self.max_pools, self.max_replicas)
