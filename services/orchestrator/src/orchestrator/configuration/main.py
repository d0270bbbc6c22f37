"""Wires the log of changes of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from chassis.grpc import Registration
from chassis.lifecycle import Component, Loop, ServiceBuilder
from chassis.postgres import Database
from chassis.settings import RedisSection

from orchestrator.configuration.grpc import ConfigurationServicer, registration
from orchestrator.configuration.ports import Restorer
from orchestrator.configuration.postgres import PostgresConfiguration
from orchestrator.configuration.redis import RedisAnnouncements
from orchestrator.configuration.rollback import History
from orchestrator.configuration.schedule import ConfigurationFeed


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationLog:
    """What features use: `log` to change objects, `feed` to learn of changes, `restorers` to be rolled back."""

    log: PostgresConfiguration
    feed: ConfigurationFeed
    announcements: RedisAnnouncements
    restorers: dict[str, Restorer] = field(default_factory=dict)
    """By kind; a feature adds its own."""

    @property
    def components(self) -> list[Component]:
        """The subscription and the loop; made after all features have registered what they refresh."""
        return [self.announcements.subscription(self.feed.wake), Loop("configuration", self.feed.run)]

    @property
    def registration(self) -> Registration:
        return registration(ConfigurationServicer(self.log, History(self.log, self.restorers)))


async def build_configuration(
    service: ServiceBuilder, database: Database, redis: RedisSection, poll_interval: timedelta
) -> ConfigurationLog:
    announcements = RedisAnnouncements(await service.redis(redis))
    log = PostgresConfiguration(database, announcements.announce)
    return ConfigurationLog(log=log, feed=ConfigurationFeed(log, poll_interval), announcements=announcements)
