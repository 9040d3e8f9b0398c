"""Sweeps: grids of notebook runs over Dask, each in its folder, begun again where they stopped."""

__all__ = ["Job", "jobs", "read", "run"]

import asyncio
import itertools
import json
import os
import signal
import string
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench import runs
from workbench.runs import notebooks, parameters


@dataclass(frozen=True)
class Job:
    """One notebook run of a sweep: its folder, what it is given, and the folders of the runs that must be there first."""

    notebook: str
    out: Path
    parameters: dict
    after: tuple[Path, ...]
    cell: dict


def read(path, given: Mapping[str, str] | None = None) -> dict:
    """A sweep from a YAML file; RunError says what is wrong with it.

    `what` says in a sentence what the sweep is for, `needs` {name: what it is} names what only the user knows and
    `given` must hold, `grid` {axis: values} makes a cell of each combination, and `runs` are those of each cell in
    their order, {notebook, out, parameters}, where "{name}" stands for a cell's value or one that was given. Runs
    with the same `out` are one.
    """
    path, given = Path(path), dict(given or {})
    try:
        spec = parameters.read(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise runs.RunError(f"There is no sweep {path}.") from None
    except (runs.RunError, UnicodeDecodeError) as error:
        raise runs.RunError(f"{path} cannot be read: {error}") from None
    parts = {"what", "needs", "grid", "runs"}
    if not isinstance(spec, dict) or set(spec) - parts or not {"grid", "runs"} <= set(spec):
        raise runs.RunError(
            f"{path} is no sweep: it is a mapping of {', '.join(sorted(parts))}, of which needs may be missing."
        )
    axes, entries = spec["grid"], spec["runs"]
    if not isinstance(axes, dict) or not all(isinstance(values, list) for values in axes.values()):
        raise runs.RunError(f"{path} is no sweep: its grid is a mapping of names to lists of values.")
    if not isinstance(entries, list) or not all(isinstance(e, dict) and {"notebook", "out"} <= set(e) for e in entries):
        raise runs.RunError(
            f"{path} is no sweep: its runs are a list, each with a notebook and out, and with parameters."
        )
    needs = spec.get("needs") or {}
    if missing := [f"-p {name} VALUE ({what})" for name, what in needs.items() if name not in given]:
        raise runs.RunError(f"{path} needs {', '.join(missing)}.")
    if unknown := set(given) - set(needs) - set(spec["grid"]):
        raise runs.RunError(
            f"{path} knows no {', '.join(sorted(unknown))}; it takes {', '.join([*needs, *spec['grid']])}."
        )
    for axis in set(given) & set(spec["grid"]):  # a part of the grid
        asked = parameters.read(str(given.pop(axis)))
        spec["grid"][axis] = asked if isinstance(asked, list) else [asked]
    return spec | {"given": given}


def jobs(spec: Mapping) -> list[Job]:
    """The distinct runs of a sweep, those of the first cells first; RunError for a parameter that a notebook lacks."""
    found: dict[Path, Job] = {}
    for values in itertools.product(*spec["grid"].values()):
        cell, before = dict(zip(spec["grid"], values, strict=True)), ()
        words = spec["given"] | cell
        for entry in spec["runs"]:
            out = Path(_filled(entry["out"], words))
            if out not in found:
                path = notebooks.resolve(entry["notebook"])
                given = {name: _filled(v, words) for name, v in (entry.get("parameters") or {}).items()}
                given = notebooks.fit(notebooks.parameters(path), given, path.stem)
                found[out] = Job(entry["notebook"], out, given, before, parameters.plain(cell))
            before = (*before, out)
    return list(found.values())


def _filled(value, words: Mapping):
    """The value with each "{name}" in it replaced; a text that is nothing else becomes the value itself, of its type."""
    if isinstance(value, dict):
        return {k: _filled(v, words) for k, v in value.items()}
    if isinstance(value, list):
        return [_filled(v, words) for v in value]
    if not isinstance(value, str):
        return value
    names = [name for _, name, _, _ in string.Formatter().parse(value) if name is not None]
    if unknown := [name for name in names if name not in words]:
        raise runs.RunError(f"The sweep's {value!r} names {unknown[0]!r}, and there are {', '.join(words)}.")
    if not names:
        return value
    return words[names[0]] if names and value == f"{{{names[0]}}}" else value.format(**words)


def status(job: Job) -> str:
    """ "finished", "failed", "interrupted", "running", "damaged" (what it is cannot be read), or "to do" """
    try:
        return runs.status(job.out) if (job.out / runs.RECORD).exists() else "to do"
    except runs.RunError:
        return "damaged"


def run(todo: list[Job], workers: int = 1, say: Callable[[str], None] = print, scheduler: str = "") -> dict[Path, str]:
    """Do what is not finished, `workers` runs at once, and return how each ended; what needs a run that failed is left out.

    Workers share the cores evenly. `scheduler` is the address of a Dask cluster whose machines see the same folders;
    without one the runs are done here. Ctrl-C stops them wherever they are done, and waits for it; those that train save themselves
    and go on the next time.
    """
    from distributed import Client, LocalCluster, as_completed

    threads = max(1, (os.cpu_count() or 1) // workers)
    local = (
        None
        if scheduler
        else LocalCluster(
            n_workers=1,
            threads_per_worker=workers,
            processes=False,
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            protocol="inproc://",
        )
    )
    ended: dict[Path, str] = {}
    mark = uuid.uuid4().hex  # of this call: a cluster may do the runs of others, and of one that was stopped
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C
    try:
        with Client(scheduler or local) as client:
            futures = {}
            for i, job in enumerate(todo):
                first = [futures[out] for out in job.after]
                futures[job.out] = client.submit(
                    _one, job, threads, first, mark, key=f"{job.out} {mark}", priority=-i, retries=0
                )
            try:
                for n, future in enumerate(as_completed(futures.values()), 1):
                    out, how = future.result()
                    ended[out] = how
                    say(f"{n} of {len(todo)}: {out} {how}")
            except KeyboardInterrupt:
                say("Stopping: runs that train save themselves first. A second Ctrl-C does not wait for them.")
                client.cancel(list(futures.values()))
                client.run(_stop, mark)
                raise
    finally:
        signal.signal(signal.SIGTERM, before)
        if local is not None:
            local.close()
    return ended


_running: dict[subprocess.Popen, str] = {}  # of this worker, by the mark of their sweep
_stopped: set[str] = set()


async def _stop(mark: str) -> None:
    """On a worker: begin no further run of this sweep, end those under way, and wait until they have saved themselves."""
    _stopped.add(mark)
    mine = [process for process, of in list(_running.items()) if of == mark]
    for process in mine:
        process.terminate()
    while any(process.poll() is None for process in mine):
        await asyncio.sleep(0.1)


def _one(job: Job, threads: int, first: list[tuple[Path, str]], mark: str) -> tuple[Path, str]:
    """Do one run in a process of its own, unless it is done or what it needs is not."""
    if mark in _stopped:
        return job.out, "stopped before it began"
    if broken := [str(out) for out, how in first if how != "finished"]:
        return job.out, f"left out, as {broken[0]} is missing"
    before = status(job)
    if before == "finished":
        return job.out, before
    again = []
    if before != "to do":
        resumable = before != "damaged" and "resume" in notebooks.parameters(notebooks.resolve(job.notebook))
        again = ["--resume" if resumable else "--replace"]
    with tempfile.TemporaryDirectory() as folder:
        values = Path(folder) / "parameters.yaml"
        values.write_text(json.dumps(job.parameters, ensure_ascii=False), encoding="utf-8")
        command = [sys.executable, "-m", "workbench.cli", "run", job.notebook, "--out", str(job.out), *again]
        process = subprocess.Popen(
            [*command, "-f", str(values)],
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C comes once, from `run`: a second one would not let them save
        )
        _running[process] = mark
        if mark in _stopped:  # since the question above
            process.terminate()
        said = process.communicate()[1].splitlines()
        del _running[process]
    if process.returncode == 0:
        return job.out, "finished"
    why = [line for line in said if line.startswith("workbench:")]
    return job.out, f"failed: {(why or said or ['it said nothing'])[-1].removeprefix('workbench: ')}"
