"""The run folder: what made a result, the lock while it is being made, and how it ended."""

__all__ = [
    "Run",
    "RunError",
    "admit",
    "fresh",
    "go_home",
    "locate",
    "newest",
    "now",
    "provenance",
    "read",
    "settle",
    "short",
    "start",
    "status",
]

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from . import locks
from .errors import UsageError
from .files import room, unused, write_json

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
RECORD = "run.json"

_held: dict[Path, "Run"] = {}  # the runs that this process has open, so that a notebook cell can be run twice


class RunError(UsageError):
    """A run folder cannot be used as asked; the message says why and what to do."""


class Run:
    """One run in its folder; made by `start`, ended by `finish`, `fail` or by leaving a `with` block."""

    def __init__(self, folder: Path, lock, record: dict):
        self.folder, self.record = folder, record
        self._lock, self._clock = lock, time.monotonic()

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.record['status']})"

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self.record["status"] != "running":
            pass  # it has said itself how it ended
        elif kind is None:
            self.finish()
        elif issubclass(kind, KeyboardInterrupt):
            self.fail("interrupted by the keyboard", status="interrupted")
        else:
            self.fail(str(error) or kind.__name__)
        self.close()

    def path(self, name: str) -> Path:
        """The path of an artefact of this run; folders on the way are made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def note(self, **fields) -> None:
        """Write facts which were not known at the start (data fingerprint, device ...) into the record."""
        self.record.update(fields)
        write_json(self.folder / RECORD, self.record)

    def finish(self, **results) -> None:
        """Record the results (plain numbers and strings) and the status "finished"; the lock is given back."""
        self._end("finished", results=self.record.get("results", {}) | results)

    def fail(self, reason: str, status: str = "failed") -> None:
        """Record the status "failed" (or "interrupted") with its reason; the lock is given back."""
        self._end(status, reason=reason)

    def close(self) -> None:
        """Give the lock back; a run that is neither finished nor failed then counts as interrupted."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
            _held.pop(self.folder.resolve(), None)

    def _end(self, status: str, **fields) -> None:
        spent = {"wall_seconds": round(time.monotonic() - self._clock, 1), "peak_memory_mib": peak_memory()}
        self.note(status=status, ended=now(), **spent, **fields)
        self.close()


def start(out, settings: dict, *, notebook="", data="", seed=0, note="", resume=False, replace=False) -> Run:
    """Make or reopen the run folder `out`, lock it until the run ends or the process dies, and write run.json.

    Arguments: `out` the folder, "" makes a fresh one; `settings` what the run was asked for (JSON types), `notebook` the stem ("2_train"), `data` the
    fingerprint of the clips, `seed`, `note` a remark to keep. `resume` keeps what an earlier run left and moves its
    record into `history`; `replace` empties the folder first. Raises RunError where the folder is in use, holds a run
    and neither was asked for, or holds something that is no run.
    """
    if resume and not out:
        raise RunError("To resume, say which run: give its folder as `out`.")
    if seed < 0:
        raise RunError(f"A seed of {seed} was asked; seeds are whole numbers from 0 on.")
    folder = _folder(out or fresh(notebook))
    for path, mine in list(_held.items()):  # a kernel that begins a notebook anew has given up the run it had open
        if path == folder.resolve() or (not out and mine.record["notebook"] == notebook):
            mine.close()
    with room(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = locks.take(folder)
    if lock is None:
        raise RunError(_busy(folder, locks.holder(folder) or {}))
    try:
        earlier = _admitted(folder, resume, replace)
        record = {
            "notebook": notebook,
            "status": "running",
            "note": note,
            "settings": dict(settings),
            "data": data,
            "seed": seed,
            "started": now(),
            **provenance(),
            "process": locks.whoami(),
        }
        if earlier:
            record["history"] = [*earlier.pop("history", []), earlier]
        with room(folder):
            write_json(folder / RECORD, record)
    except BaseException:
        lock.release()
        raise
    if not out:
        print(f"The run folder is {folder}.")
    return _held.setdefault(folder.resolve(), Run(folder, lock, record))


def short(notebook: str) -> str:
    """2_train -> train."""
    return re.sub(r"^\d+_", "", notebook)


def fresh(notebook: str) -> Path:
    """A run folder that is not there yet, by time and name: "2_train" -> runs/20260131-120000-train."""
    return unused(Path("runs", f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{short(notebook)}"))


def admit(folder, *, resume: bool = False, replace: bool = False) -> dict:
    """Refuse a folder in which a run may not be made, empty it if it is to be replaced; the record to resume, or {}."""
    folder = _folder(folder)
    if (who := locks.holder(folder)) is not None:
        raise RunError(_busy(folder, who))
    return _admitted(folder, resume, replace)


def _folder(path) -> Path:
    if (path := Path(path)).exists() and not path.is_dir():
        raise RunError(f"{path} is a file, and a run needs a folder: give another name.")
    return path


def _admitted(folder: Path, resume: bool, replace: bool) -> dict:
    if resume and replace:
        raise RunError(f"{folder} cannot be both resumed and replaced: ask for one of the two.")
    if (folder / RECORD).exists():
        if resume:
            return read(folder)
        if not replace:
            raise RunError(
                f"{folder} holds a run already ({status(folder, locked=False)}): give another folder, ask to replace it "
                "(--replace, replace=True), or, where it was training, to resume it (--resume, resume=True)."
            )
        _empty(folder)
    elif folder.is_dir() and (others := [p.name for p in folder.iterdir() if not _incidental(p)]):
        raise RunError(
            f"{folder} holds files and no {RECORD} (for example {min(others)}), so it is no run folder: "
            "give an empty or a new one."
        )
    return {}


def _incidental(path: Path) -> bool:
    # papermill has put the executing notebook there before its kernel calls start
    return path.name.startswith(".") or path.suffix in (".ipynb", ".html")


def _empty(folder: Path) -> None:
    for lock in folder.glob(f"*/**/{locks.NAME}"):
        if (who := locks.holder(lock.parent)) is not None:
            raise RunError(_busy(lock.parent, who))
    for path in folder.iterdir():
        if path.name == locks.NAME:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def settle(folder, status: str, **fields) -> None:
    """Write into run.json how a run ended, for a kernel that could not; where there is no record yet, make one."""
    path = Path(folder) / RECORD
    record = (read(folder) if path.exists() else {"started": now()} | provenance()) | fields
    seconds = (datetime.now(UTC) - datetime.fromisoformat(record["started"])).total_seconds()
    write_json(path, record | {"status": status, "ended": now(), "wall_seconds": round(seconds, 1)})


def status(folder, *, locked: bool | None = None) -> str:
    """How a run stands: "running", "finished", "failed" or "interrupted" (its process died without a word)."""
    said = read(folder).get("status", "interrupted")
    locked = locks.holder(folder) is not None if locked is None else locked
    return "interrupted" if said == "running" and not locked else said


def read(folder) -> dict:
    """The record of a run, run.json; RunError where there is none or it cannot be read."""
    path = Path(folder) / RECORD
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = "holds no run.json" if path.parent.is_dir() else "does not exist"
        raise RunError(f"{folder} {what}, so it is no run folder: give one that `workbench run` made.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is damaged ({error}): the run must be made again.") from None


def go_home() -> None:
    """Leave the folder where JupyterLab or Voila start a notebook, so that paths mean the same as in a terminal."""
    if home := os.environ.get("WORKBENCH_HOME"):  # set by `workbench app` and `workbench lab`
        os.chdir(home)
        return
    for folder in (Path.cwd(), *Path.cwd().parents):
        if folder.name == "notebooks" and (folder.parent / "workbench").is_dir():
            os.chdir(folder.parent)
            return


def newest(root="runs", notebook: str = "2_train") -> Path:
    """The newest finished run of a notebook under `root`, also inside demo folders; RunError where there is none."""
    found = []
    for path in [*Path(root).glob(f"*/{RECORD}"), *Path(root).glob(f"*/*/{RECORD}")]:
        with contextlib.suppress(RunError):
            record = read(path.parent)
            if record.get("notebook") == notebook and record.get("status") == "finished":
                found.append((record.get("started", ""), path.parent))
    if not found:
        raise RunError(
            f"There is no finished run of {notebook} under {root}: type `workbench run {short(notebook)}`, or "
            "`workbench demo` for everything at once."
        )
    return max(found)[1]


def locate(folder, notebook: str = "2_train") -> Path:
    """The run of `notebook` that a folder is, or that lies in it (runs/demo -> runs/demo/train)."""
    folder = Path(folder)
    here = read(folder)
    if here.get("notebook") == notebook:
        return folder
    inside = [p.parent for p in sorted(folder.glob(f"*/{RECORD}")) if read(p.parent).get("notebook") == notebook]
    if not inside:
        raise RunError(
            f"{folder} is a run of {here.get('notebook') or 'an unknown notebook'}, and {notebook} is "
            "needed: give the folder of such a run."
        )
    return inside[-1]


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
    root = Path(__file__).resolve().parent.parent
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


def _busy(folder: Path, who: dict) -> str:
    return f"{folder} is in use by {locks.describe(who)}: wait for it, stop it, or give another folder."
