"""Posterior means of all clips of a store, kept in the run's folder until store or model change."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
from torch import Tensor

from workbench import files
from workbench.autoencoder import Autoencoder
from workbench.data import Clips

__all__ = ["kept", "posterior_means"]


def posterior_means(model: Autoencoder, clips: Clips, folder: Path | None = None) -> Tensor:
    """The posterior mean of every clip, (N, L), kept in `folder` (the run's) until store or model change."""
    return kept(folder, "latents", model, clips, lambda: model.latents(clips))


def kept(
    folder: Path | None, name: str, model: Autoencoder, clips: Clips, make: Callable[[], Tensor], **asked
) -> Tensor:
    """What `make` gives, from NAME.safetensors in `folder` where that was made of the same model, clips and `asked`."""
    if folder is None:
        return make()
    path = Path(folder) / f"{name}.safetensors"
    made_of = {"data": clips.fingerprint, "clips": len(clips), "model": model.fingerprint(), **asked}
    made_of = {key: str(value) for key, value in made_of.items()}
    if path.is_file():
        with contextlib.suppress(safetensors.SafetensorError), safetensors.safe_open(path, "pt") as file:
            if file.metadata() == made_of:
                return file.get_tensor(name)
    value = make()
    with files.room(path), files.whole(path) as part:
        safetensors.torch.save_file({name: value.contiguous()}, part, made_of)
    return value
