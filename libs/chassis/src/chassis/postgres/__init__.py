"""Postgres: tenant transactions, migrations, group commit, and the provisioning of roles and databases."""

from chassis.postgres.database import Connection, Database
from chassis.postgres.group_commit import GroupCommit
from chassis.postgres.migrate import BrokenMigrations, migrate
from chassis.postgres.owner import owner_connection
from chassis.postgres.provision import Provisioned, drop_database, provision
from chassis.postgres.readiness import readiness_check
from chassis.postgres.retries import repeat_aborted

__all__ = [
    "BrokenMigrations",
    "Connection",
    "Database",
    "GroupCommit",
    "Provisioned",
    "drop_database",
    "migrate",
    "owner_connection",
    "provision",
    "readiness_check",
    "repeat_aborted",
]
