"""The run folder, and notebooks that are run into it."""

from workbench.runs.environment import now, provenance
from workbench.runs.folder import (
    RECORD,
    Run,
    RunError,
    admit,
    beside,
    fresh,
    go_home,
    locate,
    newest,
    read,
    readable,
    same,
    settle,
    short,
    sown,
    start,
    status,
)

__all__ = [
    "RECORD",
    "Run",
    "RunError",
    "admit",
    "beside",
    "fresh",
    "go_home",
    "locate",
    "newest",
    "now",
    "provenance",
    "read",
    "readable",
    "same",
    "settle",
    "short",
    "sown",
    "start",
    "status",
]
