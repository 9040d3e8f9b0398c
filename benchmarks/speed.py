"""How fast is a family? Decoding one clip, and a training step of its first stage, in seconds of audio per second.

    python benchmarks/speed.py [family] [preset] [length]

A peer is timed beside it where its figures are known: RAVE v2 decodes 1 s on two cores at 17 x real time and trains at
4.9 s/s (measured with its own code; see README), so look at the ratio, not at the seconds of a noisy machine.
"""

import sys
import time

import numpy as np
import torch

from workbench import models
from workbench.autoencoder import Autoencoder, Batch

RATE, THREADS = 44_100, 2


def median_seconds(f, repeats: int) -> float:
    f()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        f()
        times.append(time.perf_counter() - begun)
    return float(np.median(times))


def decoding(model: Autoencoder) -> float:
    """Seconds that one clip takes to decode."""
    x, c = clips(model, 1)
    z = model.eval().encode(x).detach()
    with torch.inference_mode():
        return median_seconds(lambda: model.decode(z, c), 30)


def stepping(model: Autoencoder) -> float:
    """Seconds of a training step of the first stage, on 16 clips."""
    stage = model.train().stages()[0]
    optimiser = torch.optim.AdamW([p for part in stage.trains for p in getattr(model, part).parameters()], 1e-5)
    batch = Batch(*clips(model, 16), torch.arange(16), torch.ones(16))

    def step() -> None:
        losses = stage.losses(batch, stage.steps)
        sum((w(stage.steps) if callable(w) else w) * losses[name] for name, w in stage.weights.items()).backward()
        optimiser.step()
        optimiser.zero_grad()

    return median_seconds(step, 8)


def clips(model: Autoencoder, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(n, 1, model.length, generator=torch.Generator().manual_seed(0)) * 0.1
    return x, model.wide(torch.eye(max(len(model.labels), 1))[[0] * n])


def main(family: str = "wave", preset: str = "small", length: str = "65536") -> None:
    torch.set_num_threads(THREADS)
    model = models.build(family, preset, length=int(length), rate=RATE, labels=("a", "b"))
    seconds = model.length / RATE
    decode, trained = decoding(model), stepping(model)
    parts = ", ".join(f"{n} {sum(p.numel() for p in m.parameters()) / 1e6:.2f} M" for n, m in model.named_children())
    print(f"{family} {preset}, {model.length} values at {RATE} Hz, {THREADS} threads; parameters: {parts}")
    print(f"decoding one clip: {1e3 * decode:.1f} ms, {seconds / decode:.0f} x real time")
    print(f"a training step of 16 clips: {trained:.2f} s, {16 * seconds / trained:.0f} s of audio per second")


if __name__ == "__main__":
    main(*sys.argv[1:])
