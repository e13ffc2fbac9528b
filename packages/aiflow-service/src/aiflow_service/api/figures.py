"""The service's own figures, for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter("aiflow_events", "Events received, by what became of them.", ["outcome"])
WAITING = Gauge("aiflow_events_waiting", "Events that wait to be written.")
GROUP = Histogram(
    "aiflow_group_events", "Events written by one commit.", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 400, 800)
)
WRITING = Histogram(
    "aiflow_group_seconds", "Seconds that a commit took.", buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5)
)
RUNS = Counter("aiflow_runs_ended", "Runs that have ended.", ["pipeline", "environment", "state"])
RUN_SECONDS = Histogram(
    "aiflow_run_seconds",
    "Seconds that runs took, of those that have ended.",
    ["pipeline", "environment"],
    buckets=(1, 5, 15, 60, 300, 900, 3600, 14400, 86400),
)
REQUESTS = Histogram(
    "aiflow_request_seconds",
    "Seconds that requests took.",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
AUDIT_SOUND = Gauge("aiflow_audit_sound", "1 while the rows of the audit fitted when they were last signed, else 0.")
RETENTION_SOUND = Gauge("aiflow_retention_sound", "1 while all that is too old was let go when last tried, else 0.")
