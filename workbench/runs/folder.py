"""The run folder: what made a result, the lock while it is being made, and how it ended."""

__all__ = [
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

import contextlib
import copy
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from workbench.errors import UsageError
from workbench.files import locks, room, unused, write_json
from workbench.runs.environment import now, peak_memory, provenance

RECORD = "run.json"
FACTS = {
    "notebook": "",
    "status": "interrupted",
    "started": "",
    "settings": {},
    "data": "",
    "seed": 0,
    "note": "",
    "results": {},
}

_beside: list[Path] = []  # in a notebook: the folder in which it lies
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
        else:
            stopped = issubclass(kind, KeyboardInterrupt)
            why = "interrupted by the keyboard" if stopped else str(error) or kind.__name__
            with contextlib.suppress(UsageError):  # where the folder is gone, the error itself says more
                self.fail(why, "interrupted" if stopped else "failed")
        self.close()

    def path(self, name: str) -> Path:
        """The path of an artefact of this run; folders on the way are made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def note(self, **fields) -> None:
        """Write facts which were not known at the start (data fingerprint, device ...) into the record."""
        self.record.update(fields)
        with room(self.folder / RECORD):
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
    and neither was asked for, or holds something that is no run; and where a run is to be resumed on other clips than it
    was begun with.
    """
    if resume and not out:
        raise RunError("To resume, say which run: give its folder as `out`.")
    sown(seed)
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
        if earlier := _admitted(folder, resume, replace):
            same(folder, earlier, notebook, data)
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


def sown(seed: int) -> None:
    if seed < 0:
        raise RunError(f"A seed of {seed} was asked; seeds are whole numbers from 0 on.")


def same(folder, record: Mapping, notebook: str, data: str) -> None:
    """Refuse to resume a run as another notebook, or on clips of another fingerprint than it was begun with."""
    if record["notebook"] and notebook and record["notebook"] != notebook:
        raise RunError(
            f"{folder} is a run of {record['notebook']}, and {notebook} cannot go on with it: give another folder."
        )
    if record["data"] and data and record["data"] != data:
        raise RunError(
            f"{folder} was begun on clips of the fingerprint {record['data'][:16]}, and those of its store have {data[:16]} now: the "
            "store has changed since, so the run cannot be resumed. Bring back the store as it was, or begin another run."
        )


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


def read(folder, **asked: type) -> dict:
    """The record of a run, run.json, with all of FACTS; RunError where there is none or it is damaged.

    asked: names of settings that the caller needs, each with its type.
    """
    path = Path(folder) / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        what = (
            "holds no run.json" if path.parent.is_dir() else "is a file" if path.parent.exists() else "does not exist"
        )
        raise RunError(f"{folder} {what}, so it is no run folder: give one that `workbench run` made.") from None
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}): see that it is a file that you may read.") from None
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error) or type(error).__name__) from None
    if not isinstance(record, dict):
        raise _damaged(path, f"it holds {type(record).__name__}, and a mapping was expected")
    record = {name: value for name, value in record.items() if value is not None}
    if lacking := [name for name in ("status", "started", "settings") if name not in record]:
        raise _damaged(path, f"it has no {lacking[0]}")
    for name, default in FACTS.items():
        if not isinstance(record.setdefault(name, copy.copy(default)), type(default)):
            raise _damaged(path, f"its {name} is {record[name]!r:.80}, and something like {default!r} was expected")
    if missing := [name for name, kind in asked.items() if not isinstance(record["settings"].get(name), kind)]:
        raise _damaged(path, f"its settings name no {missing[0]}")
    try:
        datetime.fromisoformat(record["started"])
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    return record


def _damaged(path: Path, why: str) -> RunError:
    return RunError(f"{path} is damaged ({why}): the run must be made again.")


def readable(folders: Iterable[Path]) -> Iterator[tuple[Path, dict]]:
    """Those of the folders whose record can be read, with it: one that is damaged does not stand in the way of others."""
    for folder in folders:
        with contextlib.suppress(RunError):
            yield folder, read(folder)


def go_home() -> None:
    """Leave the folder where JupyterLab or Voila start a notebook, so that paths mean the same as in a terminal.

    A notebook that was copied elsewhere goes to the nearest folder from its own upwards in which there are `runs`.
    """
    here = Path.cwd()
    beside(here)
    if home := os.environ.get("WORKBENCH_HOME"):  # set by `workbench app`, `workbench lab` and `workbench run`
        os.chdir(home)
        return
    for folder in (here, *here.parents):
        if folder.name == "notebooks" and (folder.parent / "workbench").is_dir():
            os.chdir(folder.parent)
            return
        if any(folder.glob(f"runs/*/{RECORD}")):
            os.chdir(folder)
            return


def beside(folder) -> None:
    """Name the folder of a notebook that was copied: runs are looked for in it, in its `runs` and those of the folders above it.

    The first counts, as a cell may be run twice.
    """
    ours = Path(__file__).resolve().parents[2] / "notebooks"
    if not _beside and ours not in (here := Path(folder).resolve(), *here.parents):
        _beside.append(Path(folder))


def _above() -> list[Path]:
    return [above for folder in _beside for above in folder.absolute().parents]


def newest(root=None, notebook: str = "2_train") -> Path:
    """The newest finished run of a notebook under `root`, also inside demo folders; RunError where there is none.

    Without `root` these are the runs in `runs`, and where there is none those beside the notebook or above it.
    """
    near = [Path("runs"), *(p for folder in _beside for p in (folder / "runs", folder))]
    roots, above = (near, [folder / "runs" for folder in _above()]) if root is None else ([Path(root)], [])
    for place in roots + above:
        folders = (path.parent for depth in ("*", "*/*") for path in place.glob(f"{depth}/{RECORD}"))
        found = [
            (record["started"], folder)
            for folder, record in readable(folders)
            if record["notebook"] == notebook and record["status"] == "finished"
        ]
        if found:
            return max(found)[1]
    looked = ", ".join(dict.fromkeys(str(place.absolute()) for place in roots))
    looked += " or in `runs` of the folders above" if above else ""
    raise RunError(
        f"There is no finished run of {notebook} under {looked}: name one that lies elsewhere, or type `workbench run "
        f"{short(notebook)}`, or `workbench demo` for everything at once."
    )


def locate(folder, notebook: str = "2_train") -> Path:
    """The run of `notebook` that a folder is, or that lies in it (runs/demo -> runs/demo/train).

    A relative folder counts from here, and where there is none from the folder of the notebook, and from those above it.
    """
    folder = Path(folder).expanduser()
    near = [p for p in (folder, *(place / folder for place in _beside)) if p.exists()]
    folder = next(iter(near or [p for place in _above() if ((p := place / folder) / RECORD).exists()]), folder)
    here, damaged = FACTS, None
    try:
        here = read(folder)
    except RunError as error:
        if not (folder / RECORD).exists():
            raise
        damaged = error  # a run within it may be as it was
    if here["notebook"] == notebook:
        return folder
    inside = readable(path.parent for path in sorted(folder.glob(f"*/{RECORD}")))
    if found := [path for path, record in inside if record["notebook"] == notebook]:
        return found[-1]
    raise damaged or RunError(
        f"{folder} is a run of {here['notebook'] or 'an unknown notebook'}, and {notebook} is "
        "needed: give the folder of such a run."
    )


def _busy(folder: Path, who: dict) -> str:
    return f"{folder} is in use by {locks.describe(who)}: wait for it, stop it, or give another folder."
