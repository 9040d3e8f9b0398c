"""Notebooks as programs: find one, read its parameters, run it into a run folder, and make the page to show."""

__all__ = ["Outcome", "Parameter", "execute", "fit", "parameters", "recall", "resolve"]

import ast
import contextlib
import difflib
import io
import json
import logging
import os
import signal
import sys
import threading
import tokenize
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import pages, runs

OURS = ("out", "resume", "replace")  # parameters which the command sets itself


# ipykernel's own launcher, but for one thing: a kernel that ends while it is interrupted may find its sockets closed, and
# tornado would show that as a traceback
LAUNCH = """
import logging, sys
sys.path[:1] = []
logging.getLogger("tornado.general").setLevel(logging.CRITICAL)
from ipykernel import kernelapp
kernelapp.launch_new_instance()
"""


@dataclass(frozen=True)
class Parameter:
    """A name in a notebook's parameters cell: its annotation ("" without one), default (source text) and comment."""

    name: str
    kind: str
    default: str
    help: str


@dataclass(frozen=True)
class Outcome:
    """How a notebook ended: status "finished", "failed" or "interrupted", its files, and the reason in a sentence."""

    status: str
    notebook: Path
    page: Path
    reason: str = ""


def resolve(name: str) -> Path:
    """The notebook of a path or of a short name: "train" is notebooks/2_train.ipynb, here or in the checkout."""
    if name.endswith(".ipynb"):
        if (path := Path(name)).is_file():
            return path
        raise runs.RunError(f"There is no notebook {name}.")
    folders = (Path("notebooks"), Path(__file__).resolve().parent.parent / "notebooks")
    known = {}
    for folder in folders:
        for path in sorted([*folder.glob("*.ipynb"), *folder.glob("extras/*.ipynb")]):
            known.setdefault(path.stem, path)
            known.setdefault(runs.short(path.stem), path)
    if name not in known:
        raise runs.RunError(
            f"There is no notebook called {name}; known are {_listed(runs.short(path.stem) for path in known.values())}."
        )
    return known[name]


def parameters(notebook: Path) -> dict[str, Parameter]:
    """What the cell tagged `parameters` declares, in its order."""
    import nbformat

    try:
        cells = nbformat.read(notebook, as_version=4).cells
        source = next((cell.source for cell in cells if "parameters" in cell.metadata.get("tags", ())), "")
        body = ast.parse(source).body
    except (ValueError, AttributeError, SyntaxError) as error:
        raise runs.RunError(f"{notebook} cannot be read as a notebook: {error}") from None
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for line in body:  # papermill's own inspection passes over annotations such as `str | None`
        match line:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=kind, value=default) if default is not None:
                found[name] = Parameter(
                    name, ast.unparse(kind), ast.unparse(default), comments.get(line.end_lineno, "")
                )
            case ast.Assign(targets=[ast.Name(id=name)], value=default):
                found[name] = Parameter(name, "", ast.unparse(default), comments.get(line.end_lineno, ""))
    return found


def fit(declared: Mapping[str, Parameter], given: Mapping[str, Any], notebook: str = "The notebook") -> dict[str, Any]:
    """The given values in the declared types; RunError names a parameter that is unknown or does not fit.

    A value that is a `Text` came from the command line, so that `007` is a string where the type is str.
    """
    values = {}
    for name, value in given.items():
        if name in OURS:
            raise runs.RunError(f"The parameter {name} is set by --{name}, not by -p or -f.")
        if name not in declared:
            close = difflib.get_close_matches(name, declared, 1, 0.5)
            hint = f" Did you mean {close[0]}?" if close else ""
            known = _listed(n for n in declared if n not in OURS) or "none"
            raise runs.RunError(f"{notebook} has no parameter {name}.{hint} It has: {known}.")
        values[name] = _converted(declared[name], value)
    return values


class Text(str):
    """A value as it was typed, of which only the parameter knows what it means."""


def _converted(parameter: Parameter, value):
    kinds = _kinds(parameter)
    if isinstance(value, Text):
        import yaml

        if "str" in kinds:
            return None if "None" in kinds and value.lower() in ("none", "null") else str(value)
        if kinds & {"int", "float"}:  # YAML reads 1e-3 as a string and 010 as eight
            for number in (int, float) if "int" in kinds else (float,):
                with contextlib.suppress(ValueError):
                    read = number(value)
                    if number in (int, float) and _fits(read, kinds):
                        return read
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:
            value = str(value)
    if not _fits(value, kinds):
        expected = parameter.kind or _listed(sorted(kinds))
        raise runs.RunError(
            f"The parameter {parameter.name} came as {value!r} ({type(value).__name__}), and {expected} was "
            f"expected; its default is {parameter.default}."
        )
    return value


def _kinds(parameter: Parameter) -> set[str]:
    """The outer type names that fit, read from the annotation, else from the default; empty where anything does."""
    if not parameter.kind:
        with contextlib.suppress(ValueError, SyntaxError):
            kind = type(ast.literal_eval(parameter.default)).__name__
            return {"NoneType": set(), "int": {"int", "float"}}.get(kind, {kind})
        return set()

    def names(node) -> set[str]:
        match node:
            case ast.BinOp(op=ast.BitOr()):
                return names(node.left) | names(node.right)
            case ast.Subscript(value=ast.Name(id="Optional")):
                return names(node.slice) | {"None"}
            case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=parts)):
                return set().union(*map(names, parts))
            case ast.Subscript():
                return names(node.value)
            case ast.Constant(value=None):
                return {"None"}
            case ast.Name():
                return {node.id}
        return {"Any"}

    try:
        found = names(ast.parse(parameter.kind.strip("'\""), mode="eval").body)
    except SyntaxError:
        return set()
    found = {"str" if name == "Path" else "list" if name in ("tuple", "Sequence") else name for name in found}
    return found if found <= {"str", "int", "float", "bool", "list", "dict", "None"} else set()


def _fits(value, kinds: set[str]) -> bool:
    kind = {"NoneType": "None", "tuple": "list"}.get(type(value).__name__, type(value).__name__)
    return not kinds or kind in kinds or (kind == "int" and "float" in kinds)


def recall(out: Path, notebook: Path) -> dict[str, Any]:
    """The parameters with which the notebook was run into this folder before, so that resuming needs none."""
    path, declared = out / notebook.name, parameters(notebook)
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("papermill", {}).get("parameters", {})
    elif not (out / runs.RECORD).exists():
        return {}
    else:  # it was run by hand, in JupyterLab
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
        return (out / runs.RECORD).exists() and runs.read(out).get("started", "") >= started

    with _interruptible_kernel(begun) as kernel:
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
    lines = [line for line in error.source.splitlines() if line.strip() and not line.lstrip().startswith(("#", "%"))]
    where = f"cell {error.exec_count} (`{lines[0].strip() if lines else ''}`)"
    if error.ename == "KeyboardInterrupt":
        return f"interrupted in {where}"
    sentence = len(error.traceback) == 1  # a UsageError, which shows no more
    return f"{where} failed: {error.evalue if sentence else f'{error.ename}: {error.evalue}'}"


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


def _literal(path: Path) -> str:
    return str(path).replace("{", "{{").replace("}", "}}")  # papermill formats paths as templates


def serve(notebook: Path, values: Mapping[str, Any], port: int = 0, browser: bool = True) -> None:
    """Serve a notebook with these parameters by Voila on loopback, until Ctrl-C; each visitor gets an own kernel."""
    import socket
    import subprocess
    import tempfile

    import nbformat
    import papermill

    with socket.socket() as door:
        if port and door.connect_ex(("127.0.0.1", port)) == 0:
            raise runs.RunError(f"Port {port} is in use: give another one by --port, or leave it out.")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / notebook.name
        nb = papermill.parameterize.parameterize_notebook(
            papermill.iorw.load_notebook_node(str(notebook)), dict(values)
        )
        nbformat.write(nb, copy)
        command = [
            sys.executable,
            "-m",
            "voila",
            str(copy),
            f"--port={port}",
            "--Voila.ip=127.0.0.1",
            "--Voila.port_retries=0",
            # Voila brings a copy of JupyterLab's manager of widgets; which of the two a page loads first is chance, and
            # where they mix, one holds the widgets and the other shows "model not found"
            '--VoilaConfiguration.extension_denylist=["@jupyter-widgets/jupyterlab-manager"]',
        ]
        # pages that were closed leave a kernel of a gigabyte each
        command += ["--MappingKernelManager.cull_idle_timeout=60", "--MappingKernelManager.cull_interval=20"]
        command += [] if browser else ["--no-browser"]
        # threads that wait for each other by spinning take the browser's core, and then wait for it: two pages of two minutes took eight
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "WORKBENCH_HOME": str(Path.cwd())}
        server = subprocess.Popen(command, env=environment)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            if code := server.wait():
                raise runs.RunError(f"Voila ended with code {code}; what it said stands above.")
        except KeyboardInterrupt:
            server.wait()  # it heard it, too
        finally:
            if server.poll() is None:
                server.terminate()
                server.wait()


def _listed(names) -> str:
    return ", ".join(dict.fromkeys(names))
