"""What a trained run holds, read without torch: settings of its model, whether its weights are whole, and its clips."""

__all__ = ["VERSION", "Saved", "clips_of", "fits", "read", "store_of"]

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench import runs
from workbench.data.clips import Clips
from workbench.errors import UsageError
from workbench.files import read_json
from workbench.runs.parameters import families

VERSION = 3  # of the saved settings; a change that old files do not survive raises it (2: mixture below the flow)
RENAMED = {2: {"critic": "discriminator"}}  # by version: settings and parts of models that had another name then
SETTINGS, WEIGHTS = "settings.json", "model.safetensors"


@dataclass(frozen=True)
class Saved:
    """The family of a saved model and the settings that it is built of: length, rate and labels, and its own.

    renamed: parts of the model that have another name now, {then: now}
    """

    family: str
    settings: dict
    renamed: Mapping[str, str]


def read(folder) -> Saved:
    """What `Autoencoder.save` wrote about a model; UsageError where a file is missing, cut or damaged."""
    folder = Path(folder)
    path, weights = folder / SETTINGS, folder / WEIGHTS
    if not path.is_file() or not weights.is_file():
        raise UsageError(
            f"{folder} holds no trained model ({SETTINGS} and {WEIGHTS}); train one with `workbench run train`."
        )
    found = read_json(path, then="bring back a whole copy, or train the model again")
    version, family, settings = (found.get(name) for name in ("version", "family", "settings"))
    if version not in (readable := [*RENAMED, VERSION]):  # a list, as what is damaged may not be hashable
        known = ", ".join(map(str, readable))
        raise UsageError(
            f"The model in {folder} has settings of version {version}, this workbench reads {known}; train it again."
        )
    if family not in families():
        raise UsageError(
            f"The model in {folder} is of the family {family!r}, and known are {', '.join(families())}: bring back the file of "
            "that family into workbench/models, or train the model again."
        )
    kinds = {"length": int, "rate": int, "labels": list, "conditional": bool}
    names = {} if version == VERSION else RENAMED[version]
    known = {names.get(key, key): value for key, value in settings.items()} if isinstance(settings, dict) else {}
    wrong = [name for name, kind in kinds.items() if type(known.get(name)) is not kind]
    if wrong or min(known["length"], known["rate"]) < 1 or not all(isinstance(label, str) for label in known["labels"]):
        said = ", ".join(f"{name} {known.get(name)!r:.60}" for name in wrong or kinds)
        raise UsageError(f"{path} is damaged (its settings say {said}). Train the model again.")
    if why := torn(weights):
        raise UsageError(
            f"The weights in {folder} are damaged ({WEIGHTS} {why}): copy them again, or train the model again."
        )
    return Saved(family, known, names)


def torn(path: Path) -> str:
    """What is wrong with the size or head of a file of safetensors: 8 bytes, a head of JSON, and the values it tells of."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = int.from_bytes(file.read(8), "little")
        if size < 8 or head > size - 8:
            return f"has {size:,} bytes and no whole head"
        try:
            parts = json.loads(file.read(head))
            end = max((part["data_offsets"][1] for name, part in parts.items() if name != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return "has a head that cannot be read"
    return "" if size == 8 + head + end else f"has {size:,} bytes, and its head tells of {8 + head + end:,}"


def store_of(source: Path, path: str) -> Path:
    """The store of a run; a relative path counts from here, or from the folder in which the run was made."""
    places = [Path(path).expanduser(), *(folder / path for folder in source.resolve().parents)]
    for place in places:
        if (place / "manifest.json").is_file():
            return place
    raise UsageError(
        f"{source} was trained on the store {path}, which is neither here nor beside the run; go to the folder in which the run "
        "was made, or build the store again by `workbench run data`."
    )


def clips_of(source) -> Clips:
    """The clips that a run was trained on.

    Raises UsageError where the run has no model, its store is not found, or the two do not fit together any more.
    """
    source = Path(source)
    record = runs.read(source, store=str, labels=list)
    if (stands := runs.status(source)) != "finished" and not (source / WEIGHTS).is_file():
        then = "wait for it" if stands == "running" else f"go on with it: `workbench run train --out {source} --resume`"
        raise UsageError(f"{source} is {stands}, so there is no model in it yet: {then}, or take another run.")
    model, store = read(source), store_of(source, record["settings"]["store"])
    clips = Clips(store, labels=record["settings"]["labels"] or None)
    fits(clips, model.settings["length"], model.settings["rate"], model.settings["labels"])
    return clips


def fits(clips: Clips, length: int, rate: int, labels) -> None:
    """Refuse clips of another length, rate or other labels than a model was made for."""
    if (length, rate) != (clips.length, clips.rate):
        raise UsageError(
            f"The model takes clips of {length} values at {rate} Hz, but the store {clips.store} holds "
            f"{clips.length} values at {clips.rate} Hz; build the model or the store anew."
        )
    if tuple(labels) != clips.labels:
        other = ", ".join(sorted(set(labels) ^ set(clips.labels)))
        raise UsageError(
            f"The model knows {len(labels)} labels and the store {clips.store} has {len(clips.labels)}; they differ in {other}. "
            "The store was relabelled since: train again."
        )
