"""Start, run and stop of a service; every `main` ends with `command_line(Service(...))`.

Start: settings → telemetry → ops server → clients → components in order → ready.
Stop, on SIGTERM, SIGINT or a failed component: not ready → components in reverse order, within the drain → clients →
ops server → traces flushed. Exit codes: 0 stopped by a signal; 1 failed to start, to run, or to drain in time; 78 bad
settings.
"""

from chassis.aio import Loop
from chassis.lifecycle.builder import ServiceBuilder, with_builder
from chassis.lifecycle.commands import Command, Service, command_line
from chassis.lifecycle.components import Check, Component
from chassis.lifecycle.runner import serve
from chassis.lifecycle.supervisor import Supervised, supervised

__all__ = [
    "Check",
    "Command",
    "Component",
    "Loop",
    "Service",
    "ServiceBuilder",
    "Supervised",
    "command_line",
    "serve",
    "supervised",
    "with_builder",
]
