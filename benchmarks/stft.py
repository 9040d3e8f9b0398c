"""Spectrograms for the family `stft`: computed in each step, or once and read from a file beside the store?

    python benchmarks/stft.py STORE

Both give a training step of 16 clips what it needs: the clips and their complex spectrograms.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from speed import THREADS, median_seconds

from workbench import data, models


def main(store: str) -> None:
    torch.set_num_threads(THREADS)
    clips = data.Clips(store).split("train")
    stft = models.for_clips(clips, "stft").encoder.stft
    rng = np.random.default_rng(0)
    rows = [np.sort(rng.permutation(len(clips))[:16]) for _ in range(32)]
    turn = iter(range(10**9))

    def now() -> torch.Tensor:
        return stft(torch.from_numpy(clips.audio(rows[next(turn) % 32]))[:, None])

    shape = tuple(now().shape[1:])
    with tempfile.TemporaryDirectory(dir=Path(store).parent) as folder:
        kept = np.lib.format.open_memmap(Path(folder) / "spectra.npy", "w+", np.float32, (len(clips), *shape))
        for i in range(0, len(clips), 64):
            part = np.arange(i, min(i + 64, len(clips)))
            kept[part] = stft(torch.from_numpy(clips.audio(part))[:, None]).numpy()
        kept.flush()

        def read() -> torch.Tensor:
            chosen = rows[next(turn) % 32]
            clips.audio(chosen)  # the losses compare sounds as well
            return torch.from_numpy(kept[chosen])

        computed, fetched = median_seconds(now, 60), median_seconds(read, 60)
        print(
            f"{len(clips):,} clips of {clips.length:,} values, spectrograms of {shape}: {kept.nbytes / 2**20:,.0f} MiB in a file"
        )
        print(
            f"computed in the step {1e3 * computed:.1f} ms, read {1e3 * fetched:.1f} ms: ratio {computed / fetched:.2f}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
