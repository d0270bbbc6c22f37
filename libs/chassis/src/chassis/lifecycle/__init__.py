"""How a service starts, runs and stops; every `main` ends with `command_line(Service(...))`.

Start: settings → telemetry → ops server → clients → components in their order → ready.
Stop, on SIGTERM, SIGINT or a failed component: not ready → components in reverse order, within the drain → clients →
ops server → traces flushed. Exit codes: 0 stopped as asked; 1 failed at the start, while running, or to drain in
time; 78 bad settings.
"""

from chassis.lifecycle.commands import Command, Service, command_line
from chassis.lifecycle.components import Check, Component, Loop
from chassis.lifecycle.running import serve

__all__ = ["Check", "Command", "Component", "Loop", "Service", "command_line", "serve"]
