"""Checks alerts, recording rules, dashboards and runbooks against the metrics that the services declare."""
