"""Clips -> points (N, D) for metrics: by descriptors, or by CLAP; the one file that imports CLAP.

A number about embeddings means something under one embedding only, so it carries its name: FAD-CLAP is not
FAD-descriptors. Whatever changes a point is part of what a kept one is found by. Give real and drawn clips the same
length: both embeddings hear how long a silence is.
"""

import hashlib
import importlib.util
import io
import os
import sys
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from workbench import files
from workbench.data import audio, descriptors
from workbench.errors import UsageError

__all__ = ["CHECKPOINTS", "Checkpoint", "clap", "embed", "fetch", "found", "sha256"]

CLAP_RATE, CLAP_LENGTH = 48_000, 480_000  # Hz; values: CLAP listens to 10 s at once
BATCH, MELS = 8, 32
VARIABLE, SEAL = "WORKBENCH_CLAP", "WORKBENCH_CLAP_SHA256"  # the path of a checkpoint; the hash that a user trusts

# of each descriptor: the floor of those heard as ratios, then the middle and the spread of the built-in pack and of
# drum machines together. Fixed, so that a number is the same whatever else is measured.
SCALES = {
    "loudness": (None, -17, 4.5),
    "crest": (None, 15, 3.8),
    "log_attack": (None, -2.8, 0.67),
    "decay": (1e-2, -1.5, 0.98),
    "duration": (1e-2, -2.9, 0.85),
    "temporal_centroid": (1e-3, -2.9, 0.99),
    "centroid": (50, 8.0, 0.94),
    "bandwidth": (50, 8.1, 0.48),
    "rolloff": (50, 8.5, 1.1),
    "flatness": (1e-4, -5.5, 2.4),
    "low": (None, 0.27, 0.38),
    "mid": (None, 0.38, 0.35),
    "high": (None, 0.34, 0.38),
    "zero_crossings": (10, 7.7, 1.5),
    "pitch": (30, 4.5, 1.3),
    "pitch_confidence": (None, 0.41, 0.42),
}
# dB above the floor: middle and spread of the mean and of the deviation over time, and of the attack
MEL_SCALE = ((4.3, 5.5), (8.1, 5.1), (33, 16))
ATTACK = 2  # frames of 1,024 values every 512


@dataclass(frozen=True)
class Checkpoint:
    """A published CLAP: its file, the network it is of, its SHA-256 ("" where none is known), and where it lies.

    Wu et al., 2023, https://arxiv.org/abs/2211.06687
    """

    file: str
    network: str
    sha256: str
    address: str = "https://huggingface.co/lukewys/laion_clap"


CHECKPOINTS = {
    "clap-music": Checkpoint(
        "music_audioset_epoch_15_esc_90.14.pt",
        "HTSAT-base",
        "fae3e9c087f2909c28a09dc31c8dfcdacbc42ba44c70e972b58c1bd1caf6dedd",
    ),
    "clap-630k": Checkpoint("630k-audioset-best.pt", "HTSAT-tiny", ""),
}


def embed(
    clips: np.ndarray,
    rate: int,
    name: str = "descriptors",
    folder: Path | None = None,
    checkpoint: Path | None = None,
    trusted: str = "",
) -> np.ndarray:
    """Points (N, D) float32 of clips (N, T) in [-1, 1] at `rate` Hz, kept in `folder` for the next time.

    "descriptors" (D = 112): what the ear measures, and of 32 log-mel bands the mean and deviation over time and the level
    of the attack, each on a fixed scale (without the attack, smearing it brought clips nearer to real ones).
    "clap-music", "clap-630k" (D = 512, unit norm): see `clap`; `checkpoint` and `trusted` are for these.
    """
    clips = np.asarray(clips, np.float32)
    if clips.ndim != 2 or not len(clips):
        raise ValueError(f"Clips have shape {clips.shape}, and (N, T) with N of 1 or more is embedded.")
    if not np.isfinite(clips).all():
        raise ValueError(
            f"{int((~np.isfinite(clips)).any(1).sum())} of {len(clips)} clips hold values that are no numbers."
        )
    if name == "descriptors":
        made_of, make = "descriptors 2", partial(described, clips, rate)
    elif name in CHECKPOINTS:
        made_of = f"{name} {found(name, checkpoint, trusted)[1]} mono soxr-HQ int16 repeatpad"
        make = partial(clap, clips, rate, name, checkpoint, trusted)
    else:
        raise UsageError(f"There is no embedding '{name}'; known are descriptors, {', '.join(CHECKPOINTS)}.")
    if folder is None:
        return make()
    key = hashlib.sha256(f"{made_of} {rate} {clips.shape}".encode() + pcm(clips).tobytes()).hexdigest()[:24]
    kept = Path(folder) / f"{name}-{key}.npy"
    if kept.is_file():
        return np.load(kept, allow_pickle=False)
    points = make()
    buffer = io.BytesIO()  # numpy's own writer says of a full disk how much was written, and not why
    np.save(buffer, points, allow_pickle=False)
    with files.room(kept):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with files.whole(kept) as part:
            part.write_bytes(buffer.getvalue())
    return points


def described(clips: np.ndarray, rate: int) -> np.ndarray:
    values = descriptors.matrix(clips, rate)
    for j, (floor, middle, spread) in enumerate(SCALES[n] for n in descriptors.NAMES):
        heard = values[:, j] if floor is None else np.log(np.maximum(values[:, j], floor))
        values[:, j] = (heard - middle) / spread
    mels = [descriptors.log_mel(x, rate, MELS) for x in clips]
    parts = [[m.mean(1), m.std(1), m[:, :ATTACK].mean(1)] for m in mels]
    scaled = (np.array(parts) - np.array(MEL_SCALE)[:, :1]) / np.array(MEL_SCALE)[:, 1:]
    weight = np.sqrt(scaled[0].size / values.shape[1])  # the 16 descriptors count as much as the 96 bands
    return np.concatenate([weight * values, scaled.reshape(len(clips), -1)], axis=1).astype(np.float32)


def pcm(clips: np.ndarray) -> np.ndarray:
    return np.round(np.clip(clips, -1, 1) * 32767).astype(np.int16)


# ------------------------------------------------------------------------------------------------------------- CLAP


def found(name: str, checkpoint: Path | None = None, trusted: str = "") -> tuple[Path, str]:
    """The file of a CLAP checkpoint (given, or named by WORKBENCH_CLAP) and its SHA-256, which is checked.

    A checkpoint is a pickle and executes code when it is loaded: only a file is taken whose hash is the published one,
    or the one that `trusted` names. Raises UsageError with what to fetch, or with both hashes.
    """
    wanted = CHECKPOINTS[name]
    given = checkpoint or os.environ.get(VARIABLE)
    if not given or not Path(given).is_file():
        lies = f"{given} is no file" if given else "no checkpoint was named"
        raise UsageError(
            f"The embedding {name} needs {wanted.file}, and {lies}: fetch it from {wanted.address}, and give its path as "
            f"`checkpoint` or in the environment variable {VARIABLE} (`workbench fetch {name}` downloads it); or use the embedding descriptors."
        )
    stat = Path(given).stat()
    seal, expected = (
        sha256(Path(given), stat.st_mtime_ns, stat.st_size),
        (trusted or wanted.sha256 or os.environ.get(SEAL, "")).lower(),
    )
    if not expected:
        raise UsageError(
            f"The SHA-256 of {wanted.file} is not known here, and loading the file executes what is in it. That of {given} is "
            f"{seal}: compare it with the publisher's, and give it as `trusted` or in the environment variable {SEAL}."
        )
    if seal != expected:
        raise UsageError(
            f"{given} has the SHA-256 {seal}, and that of {wanted.file} is {expected}: it is another file or a broken "
            "download, and is not loaded. Fetch it again."
        )
    return Path(given), seal


def fetch(name: str, folder: Path) -> Path:
    """Download a published CLAP into a folder (0.8 GB and more) and check its SHA-256; UsageError where that fails."""
    if name not in CHECKPOINTS:
        raise UsageError(f"There is no checkpoint '{name}'; known are {', '.join(CHECKPOINTS)}.")
    wanted, folder = CHECKPOINTS[name], Path(folder)
    path, address = folder / wanted.file, f"{wanted.address}/resolve/main/{wanted.file}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(address, str(path), wanted.sha256 or None)
    except (OSError, RuntimeError) as error:  # the latter where the hash is another one; nothing is left then
        raise UsageError(
            f"{address} could not be fetched ({error}); fetch it by other means, and name its path in {VARIABLE}."
        ) from None
    return path


@lru_cache
def sha256(path: Path, *stamp: int) -> str:
    """The hash of a file of gigabytes, once; `stamp` is what tells that it has changed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def clap(clips: np.ndarray, rate: int, name: str, checkpoint: Path | None = None, trusted: str = "") -> np.ndarray:
    """CLAP's audio embedding of clips (N, T), (N, 512) of unit norm: as laion_clap 1.1.7 makes it, without its text half.

    No file is loaded that `found` does not let through.

    Resampled to 48 kHz (soxr HQ), through 16 bits, and repeated as often as it fits whole into 10 s, the rest silence;
    of longer clips the first 10 s count.
    """
    model, points = network_of(*found(name, checkpoint, trusted), CHECKPOINTS[name].network), []
    for i in range(0, len(clips), BATCH):
        part = np.stack([audio.resample(x, rate, CLAP_RATE)[:CLAP_LENGTH] for x in clips[i : i + BATCH]])
        part = (np.clip(part, -1, 1) * 32767).astype(np.int16) / np.float32(32767)  # cut towards 0, as there
        part = np.tile(part, CLAP_LENGTH // part.shape[1])
        x = torch.from_numpy(np.pad(part, ((0, 0), (0, CLAP_LENGTH - part.shape[1]))))
        with torch.inference_mode():  # a third of the memory
            heard = {"waveform": x, "longer": torch.zeros(len(x), 1, dtype=torch.bool)}
            e = model.audio_projection(model.audio_branch(heard, mixup_lambda=None, device="cpu")["embedding"])
            points.append(F.normalize(e, dim=-1).numpy())
    return np.concatenate(points)


@lru_cache(maxsize=1)
def network_of(checkpoint: Path, seal: str, network: str):
    """The audio half of a checkpoint whose SHA-256 was found to be `seal`.

    laion_clap's own loader would fetch a language model first, to overwrite it.
    """
    if (package := importlib.util.find_spec("laion_clap")) is None:  # which does not run it
        raise UsageError(
            'CLAP is not installed: pip install "oneshot-workbench[clap]", or use the embedding descriptors.'
        )
    folder = package.submodule_search_locations[0]
    if folder not in sys.path:
        sys.path.append(folder)  # laion_clap imports its own parts by their bare names
    from clap_module import create_model

    model, _ = create_model(network, "transformer", precision="fp32", device="cpu", enable_fusion=False)
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)[
        "state_dict"
    ]  # see `found`: the pickle holds numpy scalars
    halves = ("audio_branch.", "audio_projection.")
    state = {k: v for key, v in state.items() if (k := key.removeprefix("module.")).startswith(halves)}
    try:
        missing = model.load_state_dict(state, strict=False).missing_keys
    except RuntimeError as error:
        raise UsageError(f"{checkpoint} is no {network}: {str(error).splitlines()[1].strip()}") from None
    if missing := [key for key in missing if key.startswith(halves)]:
        raise UsageError(f"{checkpoint} lacks {len(missing)} weights of a {network}, for example {missing[0]}.")
    return model.eval()
