"""What could change a result besides settings and data: versions, commit, device, threads, machine."""

__all__ = ["now", "peak_memory", "provenance"]

import contextlib
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "torch",
    "torchaudio",
    "nflows",
    "lightning-fabric",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "pyarrow",
    "soundfile",
    "soxr",
    "plotly",
    "umap-learn",
    "laion-clap",
)


def provenance() -> dict:
    """What could change a result besides settings and data: versions, commit, device, threads, machine, command."""
    torch = sys.modules.get("torch")  # a process that has not imported torch computes nothing with it
    device, threads = "cpu", os.cpu_count()
    if torch is not None:
        threads = torch.get_num_threads()
        if torch.cuda.is_available():
            device = torch.cuda.get_device_name()
        elif torch.backends.mps.is_available():
            device = "mps"
    versions = {"workbench": _version("oneshot-workbench")}
    versions |= {name: version for name in PACKAGES if (version := _version(name))}
    return {
        "versions": versions,
        "git": _git(),
        "device": device,
        "threads": threads,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def peak_memory() -> int | None:
    """The most memory (MiB) that this process has held; None where the system does not tell."""
    with contextlib.suppress(ImportError):
        import resource

        return round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**20
        )
    return None


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _git() -> dict:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {}

    def ask(*words):
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.TimeoutExpired):
        return {}


def now() -> str:
    """This moment in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
