"""Results that a thesis is made of: small tables with their provenance, and named steps that refuse missing or stale ones.

    figures/NAME/*.csv, *.npz        what was measured, a few kilobytes each, kept in git
    figures/NAME/provenance.json     what made them: command, commit, versions, device, runs; the SHA-256 of each file, and of
                                     each file of the repository that defines what they mean
    figures/*.pdf, thesis/generated  what steps make of them, without training: never in git

A table is *altered* where its hash is not that of its provenance, and *stale* where what defines it has changed since.
"""

import ast
import hashlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from workbench import runs
from workbench.errors import UsageError
from workbench.files import whole, write_json
from workbench.plots import export

__all__ = ["Step", "Steps", "digest", "keep", "macros", "made_of", "read_provenance"]

PROVENANCE = "provenance.json"
WIDTH = 15.0  # cm, of text and figures: what is drawn at ten points is printed at ten points


# ---------------------------------------------------------------------------------------------------- tables, kept


def digest(path: Path) -> str:
    """SHA-256 of a file, whatever its line ends; of a Python file without comments, docstrings, imports and empty lines."""
    data = Path(path).read_bytes()
    if path.suffix != ".npz":
        data = data.replace(b"\r\n", b"\n")
    if path.suffix == ".py":
        data = code(data.decode("utf-8")).encode()
    return hashlib.sha256(data).hexdigest()


def code(source: str) -> str:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = list(ast.walk(ast.parse(source)))
    said = [n.body[0] for n in nodes if isinstance(n, kinds) and ast.get_docstring(n) is not None]
    imports = [
        n for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom))
    ]  # a module that moves is the same module
    skipped = {i for node in said + imports for i in range(node.lineno, node.end_lineno + 1)}
    lines = ((i, line.rstrip()) for i, line in enumerate(source.splitlines(), 1) if i not in skipped)
    return "\n".join(line for _, line in lines if line and not line.lstrip().startswith("#"))


def made_of(folders: Sequence[Path]) -> dict:
    """What the records of runs say together: how many, when, commits (with a plus: not all was committed), devices,
    threads, fingerprints of data, minutes in all, and the versions of packages of the first."""
    records = [runs.read(folder) for folder in folders]
    if unfinished := [str(f) for f, r in zip(folders, records, strict=True) if r["status"] != "finished"]:
        raise UsageError(f"{unfinished[0]} is not finished, so nothing is collected of it.")

    def kinds(value: Callable[[dict], object]) -> list:
        return sorted({value(r) for r in records})

    return {
        "runs": len(records),
        "from": min(r["started"] for r in records),
        "to": max(r["ended"] for r in records),
        "commits": kinds(lambda r: r["git"].get("commit", "")[:12] + "+" * bool(r["git"].get("dirty"))),
        "devices": kinds(lambda r: r["device"]),
        "threads": kinds(lambda r: r["threads"]),
        "data": kinds(lambda r: r["data"][:12]),
        "minutes": round(sum(r["wall_seconds"] for r in records) / 60, 1),
        "versions": records[0]["versions"],
    }


def keep(
    folder: Path,
    tables: Mapping[str, pd.DataFrame | Mapping[str, np.ndarray]],
    command: str,
    of: Mapping,
    inputs: Sequence[str],
    home: Path,
) -> None:
    """Write tables {"ladder.csv": table, "spectra.npz": {name: array}} and the provenance beside them.

    Arguments: `command` that makes them again, from the root of the repository; `of` the runs (see `made_of`); `inputs`
    paths below `home` of what defines the numbers: where one changes, these tables are stale.
    """
    by = {key: value for key, value in runs.provenance().items() if key != "platform"}  # before the folder is touched
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        with whole(folder / name) as part:
            if name.endswith(".npz"):
                np.savez_compressed(part, **table)
            else:
                table.to_csv(part, index=False, float_format="%.6g", lineterminator="\n")
    record = {
        "command": command,
        "collected": runs.now(),
        "by": by,
        "of": dict(of),
        "files": {name: digest(folder / name) for name in tables},
        "inputs": {name: digest(home / name) for name in inputs},
    }
    write_json(folder / PROVENANCE, record)


def read_provenance(folder: Path) -> dict:
    """The provenance of the tables in a folder; {} where there is none."""
    import json

    path = folder / PROVENANCE
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


# ---------------------------------------------------------------------------------------------------- steps


@dataclass(frozen=True)
class Step:
    """What is made (a path below the root of the repository), of which tables (paths below figures/), and how.

    make: the tables, in their order -> a plotly Figure for a pdf, a text for a tex file
    """

    output: str
    needs: tuple[str, ...]
    make: Callable

    @property
    def name(self) -> str:
        return ("Figure " if self.output.startswith("figures/") else "Text ") + Path(self.output).stem


@dataclass
class Steps:
    """Named steps in a repository; `step` declares one, `build` makes what they make, or refuses by name."""

    home: Path
    all: list[Step] = field(default_factory=list)

    def step(self, output: str, *needs: str) -> Callable:
        def declare(make: Callable) -> Callable:
            if output in (s.output for s in self.all):
                raise ValueError(f"Two steps make {output}.")
            self.all.append(Step(output, needs, make))
            return make

        return declare

    def wrong(self, need: str) -> str:
        """Why a table cannot be used, or nothing."""
        path = self.home / "figures" / need
        record = read_provenance(path.parent)
        again = f"; make it again by: {record['command']}" if record else ""
        shown = f"figures/{need}"
        if not path.is_file():
            return f"{shown} is missing{again or '; see figures/collect.py'}"
        if path.name == PROVENANCE:
            return ""
        if not record:
            return f"{shown} has no {PROVENANCE} beside it that says what made it; see figures/collect.py"
        if record["files"].get(path.name) != digest(path):
            return f"{shown} is altered: it is not what its {PROVENANCE} tells of{again}"
        for name, was in record["inputs"].items():
            source = self.home / name
            if not source.is_file() or digest(source) != was:
                return (
                    f"{shown} is stale: {name} has {'changed' if source.is_file() else 'gone'} since it was made{again}"
                )
        return ""

    def check(self) -> None:
        """Raise UsageError with a line for each step whose tables are missing, altered or stale."""
        why = {need: self.wrong(need) for need in sorted({n for step in self.all for n in step.needs})}
        faults = [f"{s.name} cannot be made: {why[n]}." for s in self.all for n in s.needs if why[n]]
        if faults:
            raise UsageError("\n".join(faults))

    def load(self, need: str):
        path = self.home / "figures" / need
        if path.suffix == ".csv":
            return pd.read_csv(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        return read_provenance(path.parent)

    def build(self) -> list[Path]:
        """Make everything, figures by one browser; what of figures/*.pdf and thesis/generated no step makes is removed."""
        self.check()
        tables = {need: self.load(need) for need in {n for step in self.all for n in step.needs}}
        made = {self.home / s.output: s.make(*(tables[n] for n in s.needs)) for s in self.all}
        generated = self.home / "thesis" / "generated"
        generated.mkdir(parents=True, exist_ok=True)
        for old in {*(self.home / "figures").glob("*.pdf"), *generated.glob("*.tex")} - set(made):
            old.unlink()
        with export.browser():
            for path, what in made.items():
                if path.suffix == ".pdf":
                    export.save(what, path, WIDTH)
                else:
                    with whole(path) as part:
                        part.write_text(what, encoding="utf-8")
        return list(made)

    def main(self) -> None:
        """`build` as a command: says what was made, or ends with a sentence and status 1."""
        begun = time.perf_counter()
        try:
            made = self.build()
        except UsageError as error:
            sys.exit(f"figures: {error}")
        kinds = sum(path.suffix == ".pdf" for path in made)
        seconds = time.perf_counter() - begun
        print(f"{kinds} figures in figures/ and {len(made) - kinds} texts in thesis/generated/, in {seconds:.0f} s.")


# ---------------------------------------------------------------------------------------------------- for LaTeX


def macros(results: Mapping[str, str]) -> str:
    r"""A file of results by name, for \result{NAME}: prose has no typed numbers, and an unknown name stops LaTeX."""
    return "".join(f"\\setresult{{{name}}}{{{text}}}\n" for name, text in sorted(results.items()))
