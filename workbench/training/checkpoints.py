"""The state of a training on disk, and whether a model and clips are those with which it was begun."""

import hashlib
import json

import torch

from workbench.autoencoder import Autoencoder
from workbench.data import Clips
from workbench.errors import UsageError
from workbench.files import whole

__all__ = ["TrainingError", "agreed", "damaged", "made_of", "read", "write"]


class TrainingError(UsageError):
    """Training cannot start or go on; the message says why and what to change."""


def write(path, state: dict) -> None:
    # torch's own writer says RuntimeError whatever is wrong with disk, folder or permission
    with whole(path) as part, open(part, "wb") as file:
        torch.save(state, file)


def read(path, made: dict, device: torch.device) -> dict:
    """The state that `write` wrote; TrainingError where it is damaged, or of a model or clips that were `made` otherwise."""
    try:
        state = torch.load(path, weights_only=True, map_location=device)
    except Exception as error:  # of a cut or strange file, torch raises what zip, pickle and its own reader have
        raise damaged(path, getattr(error, "strerror", None) or "cut or not whole") from None
    kinds = {"model": dict, "done": list, "made of": dict}
    at = {"stage": str, "step": int, "best": (int, float), "worse": int, "weights": dict}
    if isinstance(state, dict):
        state.setdefault("made of", made)  # checkpoints of before this was kept
    whole = isinstance(state, dict) and all(isinstance(state.get(name), kind) for name, kind in kinds.items())
    if whole and (progress := state.get("progress")) is not None:
        whole = isinstance(progress, dict) and all(isinstance(progress.get(name), kind) for name, kind in at.items())
        whole = whole and isinstance(state.get("optimisers"), list)
    if not whole or "progress" not in state:
        raise damaged(path, "it does not say where the training stands")
    agreed(path.parent, state["made of"], made)
    return state


def damaged(path, why) -> TrainingError:
    said = str(why).splitlines()[:2] or ["it is empty"]
    return TrainingError(
        f"{path} is damaged ({said[-1].strip()}), so the training cannot go on from it: bring back a whole copy, or begin anew with "
        "--replace."
    )


def made_of(model: Autoencoder, clips: Clips) -> dict:
    """What a training that goes on must not change: settings but for the steps, and which clip has which label and split."""
    settings = {name: value for name, value in model.settings.items() if name != "steps"}
    dealt = clips.index[["clip", "label", "split"]].to_csv(index=False)
    made = {
        "family": model.family,
        **settings,
        "digest of labels and splits": hashlib.sha256(dealt.encode()).hexdigest()[:16],
    }
    return json.loads(json.dumps(made))


def agreed(folder, before: dict, now: dict) -> None:
    if differ := [name for name in now if before.get(name) != now[name]]:
        was, came = (", ".join(f"{name} = {of.get(name)!r}" for name in differ[:3]) for of in (before, now))
        raise TrainingError(
            f"The training in {folder} was begun with {was}, and {came} came now: resume it with what it was begun with, or begin "
            "another run."
        )
