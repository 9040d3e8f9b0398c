"""What this machine has of the things the workbench can use, what is missing, what for, and what to type.

`python -m workbench.doctor` looks at the installed packages alone, and fails where one of them cannot be imported.
"""

__all__ = ["Finding", "broken", "examine"]

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    """One thing looked for: is it there, what it is or is for, and the remedy to type where it is missing."""

    name: str
    there: bool
    what: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at everything; takes a few seconds, as torch is imported."""
    return [_python(), _packages(), _threads(), _gpu(), _chrome(), _formats(), _clap(), _latex(), _disk()]


def _python() -> Finding:
    there = (3, 11) <= sys.version_info[:2] <= (3, 12)
    return Finding("Python", there, f"{sys.version.split()[0]} in {sys.prefix}", "make a venv of Python 3.11 or 3.12")


# Those that bring compiled code or much else along; torch first, which others load. laion_clap and torchvision are an extra.
HEAVY = (
    *("torch", "torchaudio", "nflows", "lightning_fabric", "numpy", "scipy", "sklearn", "pandas", "pyarrow"),
    *("soundfile", "soxr", "librosa", "numba", "umap", "safetensors", "tensorboard", "plotly"),
    *("kaleido", "jupyterlab", "ipywidgets", "anywidget", "papermill", "nbconvert", "voila", "distributed"),
)
EXTRA = ["torchvision", "laion_clap"]
IMPORTS = """
import importlib, sys
for name in sys.argv[1:]:
    print(name, end=" ", flush=True)
    try:
        importlib.import_module(name)
        print()
    except BaseException as error:
        print(type(error).__name__ + ":", *str(error).split())
"""
AGAIN = (
    "install the versions that were tried together: make install, or pip install -c constraints.txt -e '.[clap,dev]'"
)


def broken() -> dict[str, str]:
    """Packages that cannot be imported, with the reason; each is imported once, in a process of its own."""
    import importlib.util

    names = [*HEAVY, *(name for name in EXTRA if importlib.util.find_spec(name))]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *names],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},  # laion_clap asks a hub while it is imported
        capture_output=True,
        text=True,
        check=False,
    )
    said = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
    found = {name: said[name] for name in names if said.get(name)}
    if done.returncode and said:  # it ended in the middle of the last one
        found[list(said)[-1]] = f"the process ended with code {done.returncode} {done.stderr[-200:].strip()}"
    return found


def _packages() -> Finding:
    if not (found := broken()):
        return Finding("Packages", True, f"{len(HEAVY)} that the workbench stands on can be imported")
    what = "; ".join(f"{name} cannot be imported ({why})" for name, why in found.items())
    return Finding("Packages", False, what, AGAIN)


def _threads() -> Finding:
    import torch

    return Finding("Threads", True, f"{torch.get_num_threads()} for torch, {os.cpu_count()} CPUs")


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Finding("GPU", True, f"{torch.cuda.get_device_name()}, {memory:.0f} GiB, CUDA {torch.version.cuda}")
    if torch.backends.mps.is_available():
        return Finding("GPU", True, "Apple, by MPS")
    why = (
        ""
        if shutil.which("nvidia-smi") is None
        else " (there is an NVIDIA driver, but torch cannot use it: is it too old?)"
    )
    return Finding(
        "GPU",
        False,
        f"trains larger models, 10 times faster and more{why}",
        "nothing to do: presets tiny and small are made for CPUs",
    )


def _chrome() -> Finding:
    what = "saves figures as pdf, svg and png"
    try:
        from workbench.plots.export import chrome
    except ImportError as error:
        return Finding("Chrome", False, f"{what}; not looked for, as there is no plotly ({error})", AGAIN)
    if path := chrome():
        return Finding("Chrome", True, f"{path}: {what}")
    if named := os.environ.get("BROWSER_PATH"):
        return Finding(
            "Chrome", False, f"{what}; BROWSER_PATH names {named}, which is no program", "unset BROWSER_PATH"
        )
    remedy = "apt-get install chromium, or brew install --cask chromium, or plotly_get_chrome"
    return Finding("Chrome", False, what, remedy)


def _formats() -> Finding:
    import soundfile

    wanted = ("WAV", "AIFF", "FLAC", "OGG", "MP3")
    lacking = [name for name in wanted if name not in soundfile.available_formats()]
    what = f"libsndfile {soundfile.__libsndfile_version__} reads {', '.join(n for n in wanted if n not in lacking)}"
    return Finding(
        "Audio formats",
        not lacking,
        what + (f", not {', '.join(lacking)}" if lacking else ""),
        "pip install --upgrade soundfile",
    )


def _clap() -> Finding:
    import importlib.util

    what = "embedding for FAD-CLAP and the like; without it metrics use descriptors, and say so"
    if importlib.util.find_spec("laion_clap") is None:
        return Finding("CLAP", False, what, 'pip install "oneshot-workbench[clap]"')
    path = os.environ.get("WORKBENCH_CLAP", "")
    if path and Path(path).is_file():
        return Finding("CLAP checkpoint", True, f"{path}: {what}")
    return Finding(
        "CLAP checkpoint",
        False,
        what,
        "workbench fetch clap-music (2.3 GB, from Hugging Face), and set WORKBENCH_CLAP to its path",
    )


def _latex() -> Finding:
    path = shutil.which("latexmk")
    return Finding(
        "LaTeX",
        path is not None,
        f"{path + ': ' if path else ''}builds thesis and slides (make thesis)",
        "apt-get install latexmk texlive-latex-recommended texlive-fonts-recommended texlive-pictures lmodern, or brew install --cask mactex",
    )


def _disk() -> Finding:
    free = shutil.disk_usage(".").free / 2**30
    return Finding(
        "Free disk",
        free > 2,
        f"{free:.0f} GiB here; a run takes 0.1 to 1",
        "free some space: below 2 GiB runs may fail",
    )


if __name__ == "__main__":
    packages = _packages()
    print(f"{packages.name}: {packages.what}." if packages.there else f"{packages.what}: {packages.remedy}.")
    sys.exit(not packages.there)
