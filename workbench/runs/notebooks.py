"""Notebooks as programs: find one, read its parameters, run it into a run folder, and make the page to show."""

__all__ = [
    "Outcome",
    "Parameter",
    "Text",
    "execute",
    "fit",
    "known",
    "names",
    "parameters",
    "recall",
    "resolve",
]

import contextlib
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import runs
from workbench.errors import UsageError
from workbench.files import read_json
from workbench.runs import pages
from workbench.runs.parameters import OURS, Parameter, Text, fit, listed, parameters

# Threads of torch that wait for each other spin for a moment and then sleep: by default they spin on, and burn the cores that
# other processes need; those that sleep at once make training slower by a third (benchmarks/waiting.py).
CALM = {"GOMP_SPINCOUNT": "1000"}

# ipykernel's own launcher, but for one thing: a kernel that ends while it is interrupted may find its sockets closed, and
# tornado would show that as a traceback
LAUNCH = f"""
import logging, os, sys
os.environ.update({{**{CALM}, **os.environ}})
sys.path[:1] = []
logging.getLogger("tornado.general").setLevel(logging.CRITICAL)
from ipykernel import kernelapp
kernelapp.launch_new_instance()
"""


@dataclass(frozen=True)
class Outcome:
    """How a notebook ended: status "finished", "failed" or "interrupted", its files, and the reason in a sentence."""

    status: str
    notebook: Path
    page: Path
    reason: str = ""


def known() -> dict[str, Path]:
    """The notebooks here and in the checkout, by name and by short name: "train" is notebooks/2_train.ipynb."""
    found = {}
    for folder in (Path("notebooks"), Path(__file__).resolve().parents[2] / "notebooks"):
        for path in sorted([*folder.glob("*.ipynb"), *folder.glob("extras/*.ipynb")]):
            found.setdefault(path.stem, path)
            found.setdefault(runs.short(path.stem), path)
    return found


def names() -> str:
    """The short names of the notebooks, in the order in which a thesis meets them."""
    return listed(runs.short(path.stem) for path in known().values())


def resolve(name: str) -> Path:
    """The notebook of a path or of a short name, such as "train"."""
    if name.endswith(".ipynb"):
        if (path := Path(name)).is_file():
            return path
        raise runs.RunError(f"There is no notebook {name}.")
    if (path := known().get(name)) is None:
        raise runs.RunError(f"There is no notebook called {name}; known are {names()}.")
    return path


def recall(out: Path, notebook: Path) -> dict[str, Any]:
    """The parameters with which the notebook was run into this folder before, so that resuming needs none."""
    path, declared = out / notebook.name, parameters(notebook)
    try:
        before = read_json(path)["metadata"]["papermill"]["parameters"]
        before = dict(before) if isinstance(before, dict) else None
    except (UsageError, KeyError, TypeError):  # it was run by hand, in JupyterLab, or was cut while it was written
        before = None
    if before is None:
        if not (out / runs.RECORD).exists():
            return {}
        record = runs.read(out)
        before = {**record["settings"], "seed": record["seed"], "note": record["note"]}
    return {name: value for name, value in before.items() if name in declared and name not in OURS}


def execute(
    notebook: Path, out: Path, values: Mapping[str, Any], *, resume=False, replace=False, stream=None
) -> Outcome:
    """Run a notebook by papermill into the run folder `out`, and write its page beside it, also when a cell fails.

    The kernel is the interpreter that runs this, its working directory the caller's. Ctrl-C and SIGTERM interrupt the
    running cell, which may then save its state; a second one ends at once. `stream` gets what the cells print.
    """
    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of parameters that it cannot parse and we can
    declared = parameters(notebook)
    if resume and "resume" not in declared:
        raise runs.RunError(f"{notebook.stem} cannot be resumed: it has no parameter `resume`. Use --replace.")
    if resume and not (out / "run.json").exists():
        raise runs.RunError(f"{out} holds no run that could be resumed; leave --resume out to start one there.")
    runs.admit(out, resume=resume, replace=replace)
    out.mkdir(parents=True, exist_ok=True)
    ours = {"out": str(out), "resume": resume, "replace": replace}
    values = dict(values) | {name: value for name, value in ours.items() if name in declared}
    if stream is not None:
        print(f"{notebook.name} -> {out}", file=stream)
    target, started, status, reason = out / notebook.name, runs.now(), "finished", ""

    def begun() -> bool:
        with contextlib.suppress(runs.RunError):
            return runs.read(out)["started"] >= started
        return False

    with _interruptible_kernel(begun) as kernel, _at_home():
        try:
            papermill.execute_notebook(
                _literal(notebook),
                _literal(target),
                values,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                stdout_file=stream,
                stderr_file=stream,
                kernel_manager_class=kernel,
                coalesce_streams=True,
            )
        except papermill.PapermillExecutionError as error:
            status = "interrupted" if error.ename == "KeyboardInterrupt" else "failed"
            reason = _why(error)
        except KeyboardInterrupt:
            status, reason = "interrupted", "stopped before the running cell could end"
        except OSError as error:
            if out.is_dir():
                raise
            raise runs.RunError(
                f"{out} is gone: it was moved or deleted while {notebook.name} ran, so nothing more can be kept in it. Leave a run's folder "
                "where it is until it ends."
            ) from error
        except RuntimeError as error:  # nbclient's DeadKernelError, or a kernel that never came up
            status, reason = "failed", f"the kernel died ({error}); often the memory was full, and smaller batches help"
            if kernel.interrupted:
                status, reason = "interrupted", "interrupted while the kernel came up"
    status, reason = _settled(out, notebook, values, started, status, reason)
    return Outcome(status, target, pages.write(target), reason)


def _settled(out: Path, notebook: Path, values: Mapping, started: str, status: str, reason: str) -> tuple[str, str]:
    """Bring run.json to what happened, where the kernel could not or did not: it has ended, so the lock is free."""
    if not (out / "run.json").exists():
        runs.settle(out, status, notebook=notebook.stem, settings=dict(values), started=started, reason=reason)
        return status, reason
    record = runs.read(out)
    if record.get("started", "") < started:  # a resumed run whose notebook failed before it came to runs.start
        return status, reason
    if status == "finished" and record["status"] == "failed":  # the notebook itself judged so
        return "failed", record.get("reason", "")
    if status != "finished" or record["status"] != "finished":
        runs.settle(out, status, **({"reason": reason} if reason else {}))
    return status, reason


def _why(error) -> str:
    if error.traceback == [f"{error.ename}: {error.evalue}"]:  # a UsageError, which shows no more
        return error.evalue
    lines = error.source.splitlines()
    first = (line for line in lines if line.strip() and not line.lstrip().startswith(("#", "%")))
    colours = re.compile(r"\x1b\[[0-9;]*m")
    at = re.search(r"Cell In\[\d+\], line (\d+)", colours.sub("", "\n".join(error.traceback)))
    line = lines[int(at[1]) - 1] if at and int(at[1]) <= len(lines) else next(first, "")
    where = f"cell {error.exec_count} (`{line.strip()}`)"
    return (
        f"interrupted in {where}"
        if error.ename == "KeyboardInterrupt"
        else f"{where} failed: {error.ename}: {error.evalue}"
    )


@contextlib.contextmanager
def _interruptible_kernel(begun: Callable[[], bool]):
    """A kernel manager class for this very interpreter, whose kernels get our Ctrl-C and SIGTERM as an interrupt.

    Before the run has `begun` there is nothing to save, and a kernel that comes up would not hear it: then all ends.
    """
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    kernels = []
    # a kernel spec called python3 may belong to another environment; 50 hides the note that loopback is not encrypted
    argv = [
        sys.executable,
        "-c",
        LAUNCH,
        "-f",
        "{connection_file}",
        "--log-level=50",
        "--HistoryManager.enabled=False",
    ]

    class Kernel(AsyncKernelManager):
        interrupted = False
        kernel_spec = KernelSpec(argv=argv, display_name="Python 3", language="python")

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            kernels.append(self)

    def interrupt(number, frame):
        restore()  # the second one ends at once
        Kernel.interrupted = True
        pids = [k.provisioner.pid for k in kernels if k.provisioner is not None and k.provisioner.has_process]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)  # to the kernel alone: its workers are for it to stop
        if not pids or not begun():
            raise KeyboardInterrupt

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {}
    if os.name == "posix" and threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield Kernel
    finally:
        restore()


@contextlib.contextmanager
def _at_home():
    """Within it kernels begin with this folder as their home: a copied notebook must not look for another (`runs.go_home`)."""
    before = os.environ.get("WORKBENCH_HOME")
    os.environ["WORKBENCH_HOME"] = str(Path.cwd())
    try:
        yield
    finally:
        os.environ.pop("WORKBENCH_HOME")
        if before is not None:
            os.environ["WORKBENCH_HOME"] = before


def _literal(path: Path) -> str:
    return str(path).replace("{", "{{").replace("}", "}}")  # papermill formats paths as templates
