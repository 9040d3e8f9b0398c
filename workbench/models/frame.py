"""The smallest family, and the one to copy from: a fully connected VAE of single frames, overlap-added."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from workbench.autoencoder import Autoencoder, Batch, Stage
from workbench.errors import UsageError
from workbench.models._settings import complete
from workbench.nn.posteriors import Gaussian, Posterior, kl
from workbench.nn.representations import Frames

__all__ = ["PRESETS", "TINY", "Frame", "build"]


class Encoder(nn.Module):
    """(B, 1, T) -> (B, 2 L, N): mean and log standard deviation of every frame's latent"""

    def __init__(self, size: int, hidden: int, latent: int):
        super().__init__()
        self.frames = Frames(size, size // 2)
        self.net = nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.frames(x)).transpose(1, 2)


class Decoder(nn.Module):
    """(B, L, N) -> (B, 1, T)"""

    def __init__(self, size: int, hidden: int, latent: int, context: int):
        super().__init__()
        self.frames = Frames(size, size // 2)
        self.label = nn.Linear(context, latent, bias=False) if context else None
        self.net = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, size), nn.Tanh())

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        if self.label is not None:
            assert c is not None, "This decoder is conditional: it needs a context."
            z = z + self.label(c)[:, :, None]
        return self.frames.inverse(self.net(z.transpose(1, 2)))


class Frame(Autoencoder):
    """Variational autoencoder of raw frames (Tatar et al., 2023, https://arxiv.org/abs/2305.15571).

    A clip is a series of N latents, so there is no prior over whole clips: reports leave draws out. Unlike the paper's,
    the frames are windowed and overlap-added, here and in synthesis, and so have no edges to hear.
    """

    def __init__(self, settings: dict):
        super().__init__(settings)
        s = self.settings
        if s["frame"] % 2 or self.length % (s["frame"] // 2):
            raise UsageError(
                f"A frame of {s['frame']} was asked, but a clip of {self.length} values does not divide into half frames of {s['frame'] / 2:g}; "
                f"take a power of two up to {2 * (self.length & -self.length)}."
            )
        self.latent, self.hop = s["latent"], s["frame"] // 2
        self.encoder = Encoder(s["frame"], s["hidden"], self.latent)
        self.decoder = Decoder(s["frame"], s["hidden"], self.latent, len(self.context_spec))

    def posterior_of(self, h: Tensor, c: Tensor | None = None) -> Posterior:
        mean, log_std = h.chunk(2, dim=1)
        return Gaussian(mean, log_std.clamp(-6, 1))

    def stages(self) -> tuple[Stage, ...]:
        def losses(batch: Batch, step: int) -> dict[str, Tensor]:
            posterior = self.posterior(batch.x)
            z = posterior.sample(batch.noise(step, *posterior.mean.shape[1:]))
            y = self.decode(z, batch.c)
            nats = kl(posterior, z)[0]
            return {"squares": F.mse_loss(y, batch.x), "kl": nats / posterior.mean[0].numel(), "nats": nats}

        s = self.settings
        weights = {"squares": 1.0, "kl": s["beta"], "nats": 0.0}
        return (
            Stage(
                "autoencode",
                s["steps"]["autoencode"],
                losses,
                weights,
                ("encoder", "decoder"),
                lr=s["lr"],
                batch_size=s["batch_size"],
                healthy={"squares": (0.0, 0.004)},  # silence lies at 0.007 to 0.016
            ),
        )


DEFAULTS = {
    "frame": 1024,
    "hidden": 2048,
    "latent": 256,
    "conditional": False,
    "beta": 1e-4,
    "lr": 1e-3,
    "batch_size": 16,
    "steps": {"autoencode": 1500},
}
PRESETS = {
    "tiny": {"frame": 256, "hidden": 32, "latent": 8, "batch_size": 8, "steps": {"autoencode": 30}},
    "small": {"hidden": 1024, "latent": 64},
    "base": {},
}
TINY = {**PRESETS["tiny"], "length": 4096, "rate": 8000, "labels": ("a", "b"), "steps": {"autoencode": 2}}


def build(*, length: int, rate: int, labels: Sequence[str] = (), **settings) -> Frame:
    """A new model for clips of `length` values at `rate` Hz.

    Arguments:
        frame: values in a frame. hidden: width of the one hidden layer on each side. latent: L of each frame.
        beta: weight of the divergence, averaged over frames and latents as the paper does, beside the mean squares.
    """
    return Frame({"length": length, "rate": rate, "labels": tuple(labels), **complete("frame", DEFAULTS, settings)})
