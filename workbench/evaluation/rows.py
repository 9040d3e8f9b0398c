"""Runs and their reports as one table: which runs there are, what was asked of them, and what their reports say."""

import glob
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from workbench import runs
from workbench.errors import UsageError
from workbench.files import read_json
from workbench.runs import RunError

__all__ = ["ENCODER", "Rows", "gather", "of", "reports", "trained"]

ENCODER = ("log_likelihood", "mmd", "auc")  # of one encoder's latents: between encoders they mean nothing
# of draws from the run's own prior, before the embedding
DRAWS = (
    "FAD",
    "KID",
    "coverage",
    "diversity",
    "diversity within labels",
    "diversity ratio",
    "memorisation",
    "label accuracy ratio",
    "descriptor distance",
    "descriptor floor",
    "GILBO, nats",
)
APART = ("length", "rate", "labels")  # settings that come from the store


@dataclass(frozen=True)
class Rows:
    """A row for each run (or run and prior): table, and which of its columns tell arms apart and which are numbers."""

    table: pd.DataFrame
    settings: tuple[str, ...]
    numbers: tuple[str, ...]


def trained(places: Sequence[str]) -> list[Path]:
    """The finished runs of 2_train that these folders (or patterns such as "runs/a*") are, or hold at any depth.

    One whose record or settings are damaged is left out, and said to be.
    """
    found, left = _sorted(places)
    for said in left.values():
        print(f"Left out: {said}")
    return found


def _sorted(places: Sequence[str]) -> tuple[list[Path], dict[Path, str]]:
    """The runs as `trained` has them, and what is said of those that are left out."""
    found, left = [], {}
    if not places:
        raise RunError("No runs were named to compare; name runs of 2_train, folders that hold some, or patterns.")
    for place in places:
        path, here, why = Path(place).expanduser(), [], {}
        # a folder may be called "a [1]", which as a pattern is "a 1"
        named = [str(path)] if path.exists() else glob.glob(str(path)) or glob.glob(str(path).replace("[", "[[]"))
        for record in (p for f in sorted(named) for p in sorted(Path(f).rglob(runs.RECORD))):
            try:
                if (r := runs.read(record.parent))["notebook"] == "2_train" and r["status"] == "finished":
                    runs.read(record.parent, store=str, labels=list)
                    model(record.parent)
                    here.append(record.parent)
            except UsageError as error:
                why[record.parent.resolve()] = str(error)
        if not here:
            raise RunError(
                f"{place} is no finished run of 2_train and holds none; name runs, folders of runs or a pattern."
                + "".join(f" {said}" for said in list(why.values())[:1])
            )
        left |= why
        found += here
    return list(dict.fromkeys(found)), left


def model(run: Path) -> dict:
    """The settings of a run's model, settings.json: its family, and those that it was built of."""
    found = read_json(run / "settings.json")
    settings = found.get("settings") if isinstance(found.get("family"), str) else None
    if not isinstance(settings, dict) or not all(type(settings.get(name)) is int for name in ("length", "rate")):
        raise UsageError(
            f"{run / 'settings.json'} is damaged (it has no family, length and rate): train the model again."
        )
    return found


def reports(trained_runs: Sequence[Path]) -> dict[Path, Path]:
    """The newest finished report of each run that has one: 7_report, or its short form extras/priors."""
    wanted = {run.resolve(): run for run in trained_runs}
    newest = {}
    for place, record in runs.readable(_near(trained_runs)):
        judged, embedding = (record["settings"].get(name) for name in ("run", "embedding"))
        if record["notebook"] not in ("7_report", "priors") or record["status"] != "finished":
            continue
        if isinstance(judged, str) and isinstance(embedding, str):
            path = Path(judged)
            about = next((w for w in wanted if w == path.resolve() or w.parts[-len(path.parts) :] == path.parts), None)
            if about is not None and record["started"] > newest.get(about, ("",))[0]:
                newest[about] = (record["started"], place)
    return {wanted[about]: place for about, (_, place) in newest.items()}


def _near(trained_runs: Sequence[Path]) -> set[Path]:
    """The folders of the runs beside these, and of those in `runs`."""
    near = {p for run in trained_runs for p in (run.parent, Path("runs"))}
    return {
        p.parent.resolve() for folder in near for depth in ("*", "*/*") for p in folder.glob(f"{depth}/{runs.RECORD}")
    }


def _unread(folders: Iterable[Path]) -> Iterator[str]:
    """What is said of those whose record cannot be read, in the order of their names."""
    for folder in sorted(folders):
        try:
            runs.read(folder)
        except RunError as error:
            yield str(error)


def of(number: str, names: Iterable[str]) -> str:
    """Which of the names a number bears, with or without that of an embedding ("FAD-clap-music" is an FAD); "" for none."""
    return next((name for name in names if number == name or number.startswith(f"{name}-")), "")


def gather(places: Sequence[str], priors: Sequence[str] = ()) -> Rows:
    """The numbers of the reports of runs; with `priors`, a row for each of them on each run's encoder.

    Raises UsageError for a run without a finished report and for runs whose numbers cannot stand in one table: of other
    clip lengths, rates or embeddings.
    """
    found, left = _sorted(places)
    told = reports(found)
    if missing := [run for run in found if run not in told]:
        raise UsageError(
            f"{len(missing)} of {len(found)} runs have no finished report, first {missing[0]}; make one by: "
            + shlex.join(["workbench", "run", "report", "-p", "run", str(missing[0])])
            + "".join(f" Left out: {said}" for said in [*left.values(), *_unread(_near(found) - left.keys())])
        )
    for said in left.values():
        print(f"Left out: {said}")
    about, settings, numbers = [], [], []
    for run in found:
        record, judge = runs.read(run), runs.read(told[run])
        built = model(run)
        embedding = judge["settings"]["embedding"]
        git = record.get("git", {})
        facts = {
            "run": str(run),
            "store": record["settings"]["store"],
            "data": record["data"],
            "seed": record["seed"],
            "choice of labels": ", ".join(map(str, record["settings"]["labels"])) or "all",
            "length": built["settings"]["length"],
            "rate": built["settings"]["rate"],
            "embedding": embedding,
            "parameters": record["results"].get("parameters"),
            "minutes": round(record.get("wall_seconds", np.nan) / 60, 1),
            "commit": git.get("commit", "")[:12] + "+" * bool(git.get("dirty")),
            "device": record.get("device"),
            "threads": record.get("threads"),
        }
        chosen = {"family": built["family"], **{k: v for k, v in flat(built["settings"]).items() if k not in APART}}
        said = {k.replace("distance, this model", "reconstruction distance"): v for k, v in judge["results"].items()}
        said = {k: v for k, v in said.items() if not k.startswith(("distance, ", "log-likelihood"))}
        table = compared(told[run]) if priors else None
        if priors and (lacking := sorted(set(priors) - set(table.prior))):
            raise UsageError(
                f"The report {told[run]} compares no prior {', '.join(lacking)}; it has {', '.join(table.prior)}."
            )
        for prior in priors or [None]:
            heard = said
            if prior is not None:
                row = table.set_index("prior").loc[prior].drop(["low", "high", "floor", "n"]).to_dict()
                facts = facts | {f"prior {k}": row.pop(k) for k in ("parameters", "seconds") if k in row}
                heard = {k: v for k, v in said.items() if not of(k, DRAWS)}
                heard |= {k if k in ENCODER else f"{k}-{embedding}": v for k, v in row.items()}
            about.append(facts)
            settings.append(chosen | ({"prior": prior} if prior else {}))
            numbers.append(heard)
    about, settings, numbers = map(pd.DataFrame, (about, settings, numbers))
    for column, unit in (("length", "values"), ("rate", "Hz"), ("embedding", ""), ("choice of labels", "")):
        if (kinds := about.groupby(column, sort=False).run.first()).size > 1:
            listed = ", ".join(f"{value} {unit}".strip() + f" ({run})" for value, run in kinds.items())
            raise UsageError(
                f"Numbers of runs of another {column} do not compare: {listed}. Compare those of one {column}."
            )
    differ = [k for k in settings if settings[k].map(str).nunique(dropna=False) > 1]
    numbers = numbers[[k for k in numbers if pd.api.types.is_numeric_dtype(numbers[k])]]
    return Rows(pd.concat([about, settings[differ], numbers], axis=1), tuple(differ), tuple(numbers))


def compared(report: Path) -> pd.DataFrame:
    """priors.csv of a report: a row for each prior that it compares."""
    path = report / "priors.csv"
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}): make the report again by `workbench run report`.") from None
    if lacking := {"prior", "low", "high", "floor", "n"} - set(table):
        raise UsageError(f"{path} is damaged (it has no {', '.join(sorted(lacking))}): make the report again.")
    return table


def flat(settings: Mapping, before: str = "") -> dict:
    """{"steps": {"prior": 2}} -> {"steps.prior": 2}; lists become text."""
    found = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{key}.")
        else:
            found[before + key] = str(value) if isinstance(value, list) else value
    return found
