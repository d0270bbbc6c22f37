"""What comes back from dead workers, and what no worker has claimed, in Postgres."""

from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

from chassis.postgres import Database

from orchestrator.jobs import round_statements as sql
from orchestrator.jobs.model import Lane, RunRef
from orchestrator.jobs.rounds import DispatchPlan, Offer, Room


class PostgresOffers:
    """The part of `JobStore` that brings jobs to workers past the topics."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def returned(self) -> list[DispatchPlan]:
        rows = await self._fetch(sql.RETURNED)
        plans = []
        for pool, found in groupby(rows, key=itemgetter("pool")):
            of_pool = list(found)
            lanes = {RunRef(row["tenant_id"], row["job_id"], row["epoch"]): row["lane"] for row in of_pool}
            plans.append(DispatchPlan(pool, of_pool[0]["round"], tuple(lanes), lanes, {}, of_pool[0]["now"]))
        return plans

    async def unclaimed(self, pool: str, room: Room, after: timedelta) -> list[Offer]:
        rows = await self._fetch(sql.UNCLAIMED, pool, room.slots, room.free, after)
        return [Offer(RunRef(row["tenant_id"], row["job_id"], row["epoch"]), Lane(row["lane"])) for row in rows]

    async def _fetch(self, statement: str, *arguments: Any) -> list[Any]:
        return await self._database.system().fetch(statement, *arguments)
