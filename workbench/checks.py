"""What a notebook is asked for, looked at before a kernel starts: runs, stores, labels, families and presets that are not there."""

__all__ = ["check", "source", "store"]

import contextlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench import models, runs, saved
from workbench.data import stores
from workbench.data.clips import Clips
from workbench.errors import UsageError
from workbench.models._settings import PRIORS
from workbench.runs import parameters

ACCELERATORS = ("auto", "cpu", "cuda", "mps")
EMBEDDINGS = ("descriptors", "clap-music", "clap-630k")  # those of `embeddings`, which imports torch


def check(
    notebook: Path, declared: Mapping[str, parameters.Parameter], values: Mapping, resumed: Path | None = None
) -> dict:
    """Refuse a parameter that names no such thing, in the words in which the notebook would, without importing torch.

    A parameter whose comment says `run of 2_train` (or `runs`) names one, and `made by 1_data` a store. Returns the runs that are
    not found from here but beside the notebook, with which the notebook finds them, too. resumed: the run that is gone on with.
    """
    now = {name: values.get(name, parameters.default(parameter)) for name, parameter in declared.items()}
    if resumed is not None and not (resumed / runs.RECORD).exists():
        return {}  # the next question says so
    runs.beside(notebook.parent)
    if isinstance(seed := now.get("seed"), int):
        runs.sown(seed)
    if (given := now.get("accelerator", "auto")) not in ACCELERATORS:
        raise UsageError(f"The accelerator '{given}' was asked; those that fit are {', '.join(ACCELERATORS)}.")
    if {"source", "store"} <= now.keys():  # of 1_data
        source(now["source"])
        store(now["store"])
    if "family" in now:
        models.check(now["family"], now.get("preset"), now.get("settings"))
    if unknown := [kind for kind in now.get("priors") or () if kind not in PRIORS]:
        raise UsageError(f"There is no prior '{unknown[0]}'; known are {', '.join(PRIORS)}.")
    if (given := now.get("embedding", EMBEDDINGS[0])) not in EMBEDDINGS:
        raise UsageError(f"There is no embedding '{given}'; known are {', '.join(EMBEDDINGS)}.")
    for name, parameter in declared.items():
        if "made by 1_data" in parameter.help:
            clips = Clips(now[name], labels=now.get("labels") or None)
            clips.trainable()
            if resumed is not None:
                runs.same(resumed, runs.read(resumed), notebook.stem, clips.fingerprint)
    if {"runs", "priors"} <= now.keys():  # of 8_compare: folders and patterns
        from workbench.evaluation import rows

        with contextlib.redirect_stdout(io.StringIO()):  # the notebook says what is left out
            rows.gather(now["runs"], now["priors"])
        return {}
    if "test" in now and (now["listener"] or (Path(now["test"]) / "test.json").is_file()):
        return {}  # the test is there, and needs no runs
    if "test" in now and not now["sources"] and now["test"] != parameters.default(declared["test"]):
        raise UsageError(
            f"There is no listening test in {now['test']}, and no runs were named to make it of: give the folder of a test, or runs "
            "by -p sources."
        )
    found, opened = {}, []
    for name, parameter in declared.items():
        if not re.search(r"\bruns? of 2_train\b", parameter.help):
            continue
        many = isinstance(now[name], list)
        wanted = now[name] if many else [now[name]] * bool(now[name])
        places = [runs.locate(each) for each in wanted] or [runs.newest()]
        opened += [(place, saved.clips_of(place)) for place in places]
        if (wanted and [str(place) for place in places] != wanted) or (not wanted and places[0].parts[:1] != ("runs",)):
            found[name] = [str(place) for place in places] if many else str(places[0])
        if family := re.search(r"with the family (\w+)", parameter.help):
            of_family(places, family[1])
    if opened:
        named(now, *opened[0])
    return found


def source(given: str) -> None:
    """Refuse a source of clips that is not there."""
    if not given.strip():
        raise UsageError(
            'No source was given: give a folder, an archive, a recording, or "synthetic" for the built-in pack.'
        )
    if given != "synthetic" and not Path(given).expanduser().exists():
        raise UsageError(
            f"There is no folder or file {given} to take clips from: give a folder, an archive, a recording, or "
            '"synthetic" for the built-in pack.'
        )


def store(given: str) -> None:
    """Refuse a place in which no store can be built: a file, or a folder of something else."""
    place = Path(given).expanduser()
    if not given.strip():
        raise UsageError("No store was given: name the folder in which the clips are to be kept, such as stores/mine.")
    if place.exists() and not place.is_dir():
        raise UsageError(f"{given} is a file, and a store is a folder: give another name.")
    if place.is_dir() and stores.manifest(place) is None:
        from workbench.data.builder import compatible

        compatible(place, {})


def of_family(places: list[Path], family: str) -> None:
    for place in places:
        if (has := saved.read(place).family) != family:
            raise UsageError(
                f"{place} is a run of the family '{has}', and one of '{family}' is needed: train one by `workbench run train -p family {family}`."
            )


def named(now: Mapping[str, Any], place: Path, clips: Clips) -> None:
    """Refuse labels, attributes and sounds that the first run does not know."""
    settings = saved.read(place).settings
    known = [*settings["labels"], *settings.get("attributes", [])]
    for word in filter(None, (now.get("start"), now.get("end"))):
        if word not in known:
            raise UsageError(
                f"The model of {place} knows no label or attribute '{word}'; it knows {', '.join(known) or 'none'}."
            )
    for word in [*(now.get("sounds") or []), *filter(None, [now.get("sound")])]:
        if word not in set(clips.index.label) and not Path(word).expanduser().is_file():
            clips.named(word)
