"""Complex spectrograms as pictures of two channels, one latent vector for the whole, and phases that are predicted."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.autoencoder import Autoencoder, Batch, Stage, ramp
from workbench.data import Clips
from workbench.models._settings import complete
from workbench.nn.blocks import principal_components, seen
from workbench.nn.losses import distance_matching, spectral_distance
from workbench.nn.posteriors import Gaussian, Posterior, kl
from workbench.nn.priors import prior
from workbench.nn.representations import STFT, frames_of

__all__ = ["PRESETS", "TINY", "Stft", "build"]

POWER = 1 / 3  # of magnitudes: how loudness grows (Stevens, 1957), and bounded below; the decoder cubes


def compressed(s: Tensor) -> Tensor:
    """(B, 2, F, N) with magnitudes to the power POWER and phases as they were"""
    magnitude = (s.square().sum(1, keepdim=True) + 1e-12).sqrt()
    return s * magnitude.pow(POWER - 1)


class Encoder(nn.Module):
    """(B, 1, T) -> (B, 2 L): mean and log standard deviation.

    Strided convolutions over the compressed complex spectrogram, beside a fixed projection of its magnitudes on principal
    components; at the start the mean is the clip's principal coordinates, and the network corrects them.
    """

    def __init__(self, frames: int, latent: int, n_fft: int, hop: int, channels: Sequence[int]):
        super().__init__()
        self.latent, self.stft = latent, STFT(n_fft, hop)
        bins = n_fft // 2 + 1
        self.register_buffer("centre", torch.zeros(bins * frames))
        self.register_buffer("project", torch.zeros(bins * frames, latent))
        layers = [
            nn.Sequential(nn.Conv2d(a, b, (5, 3), stride=(4, 2), padding=(2, 1)), nn.LeakyReLU(0.2))
            for a, b in pairwise([2, *channels])
        ]
        self.net = nn.Sequential(*layers)
        for _ in channels:
            bins, frames = (bins + 3) // 4, (frames + 1) // 2
        self.head = nn.Linear(channels[-1] * bins * frames + latent, 2 * latent)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        nn.init.constant_(self.head.bias[latent:], -1.6)  # a standard deviation of 0.2

    def magnitudes(self, x: Tensor) -> Tensor:
        """(B, 1, T) -> (B, F N)"""
        return (self.stft(x.float()).square().sum(1) + 1e-12).pow(POWER / 2).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        s = compressed(self.stft(x.float()))
        principal = (s.square().sum(1).sqrt().flatten(1) - self.centre) @ self.project
        h = self.head(torch.cat([self.net(s).flatten(1), principal], 1))
        return torch.cat([h[:, : self.latent] + principal, h[:, self.latent :]], 1)


class Decoder(nn.Module):
    """(B, L) -> (B, 1, T): magnitudes linear in z before they are cubed, and a phase for each cell.

    The phase is that of an excitation common to all sounds (one-shots begin together) plus what the network, as a complex
    number, says of this one. The inverse STFT of the product is the sound: nothing is iterated.
    """

    def __init__(self, length: int, latent: int, context: int, n_fft: int, hop: int, channels: Sequence[int]):
        super().__init__()
        self.stft = STFT(n_fft, hop)
        self.bins, self.frames = n_fft // 2 + 1, length // hop + 1
        self.envelope = nn.Linear(latent, self.bins * self.frames)
        nn.init.zeros_(self.envelope.bias)
        self.label = nn.Linear(context, latent, bias=False) if context else None
        self.excitation = nn.Parameter(self.stft.noise(length)[0])
        steps = len(channels)
        self.narrow = (channels[0], -(-self.bins // 4**steps), -(-self.frames // 2**steps))
        self.start = nn.Linear(latent, channels[0] * self.narrow[1] * self.narrow[2])
        ups = [
            nn.ConvTranspose2d(a, b, (8, 4), stride=(4, 2), padding=(2, 1))
            for a, b in pairwise([*channels, channels[-1]])
        ]
        self.net = nn.Sequential(*(layer for up in ups for layer in (nn.LeakyReLU(0.2), up)), nn.LeakyReLU(0.2))
        self.out = nn.Conv2d(channels[-1], 2, 3, padding=1)
        fade = torch.ones(length)
        fade[-256:] = torch.linspace(1, 0, 256)
        self.register_buffer("fade", fade, persistent=False)

    def spectrogram(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """(B, 2, F, N), not compressed"""
        if self.label is not None:
            assert c is not None, "This decoder is conditional: it needs a context."
            z = z + self.label(c)
        magnitude = F.relu(self.envelope(z)).pow(3.0).unflatten(1, (1, self.bins, self.frames))
        said = self.out(self.net(self.start(z).unflatten(1, self.narrow)))[:, :, : self.bins, : self.frames]
        phase = self.excitation + said
        return magnitude * phase / (phase.square().sum(1, keepdim=True) + 1e-10).sqrt()

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        return self.stft.inverse(self.spectrogram(z, c)) * self.fade


class Stft(Autoencoder):
    """Variational autoencoder of complex spectrograms, in the two channels of which phases are kept, not guessed.

    Real and imaginary part as two channels after DrumGAN (Nistal et al., 2020, https://arxiv.org/abs/2008.12073), which
    found them the best of the representations that it compared; here as a variational autoencoder of a whole clip.
    """

    def __init__(self, settings: dict):
        super().__init__(settings)
        s = self.settings
        self.latent = s["latent"]
        view = (s["n_fft"], s["hop"])
        frames = frames_of(self.length, *view)
        self.encoder = Encoder(frames, self.latent, *view, s["encoder"])
        self.decoder = Decoder(self.length, self.latent, len(self.context_spec), *view, s["decoder"])
        self.prior = prior(s["prior"], self.latent, len(self.labels), **s["flow"])

    def posterior_of(self, h: Tensor, c: Tensor | None = None) -> Posterior:
        mean, log_std = h.chunk(2, dim=1)
        return Gaussian(mean, log_std.clamp(-6, 1))

    def start_from_data(self, clips: Clips, training: bool) -> None:
        """Make encoder and decoder the principal component analysis of the clips' magnitudes."""
        if not training or self.settings["start"] == "random":
            return
        device = self.encoder.centre.device
        rows = seen(clips, self.encoder.magnitudes, device)
        centre, out, into = (v.to(device) for v in principal_components(rows, self.latent))
        with torch.no_grad():
            self.encoder.centre.copy_(centre)
            self.encoder.project.copy_(into)
            self.decoder.envelope.bias.copy_(centre)
            self.decoder.envelope.weight.copy_(out)

    def stages(self) -> tuple[Stage, ...]:
        s, steps = self.settings, self.settings["steps"]

        def losses(batch: Batch, step: int) -> dict[str, Tensor]:
            posterior = self.posterior(batch.x)
            z = posterior.sample(batch.noise(step, self.latent))
            wanted = compressed(self.encoder.stft(batch.x.float()))
            with torch.autocast(batch.x.device.type, enabled=False):
                made = self.decoder.spectrogram(z.float(), batch.c if self.context_spec else None)
                y = self.decoder.stft.inverse(made) * self.decoder.fade
            nats, floored = kl(posterior, z, s["free_bits"])
            told = (
                {"distance matching": distance_matching(posterior.mean, batch.descriptors)} if s["perceptual"] else {}
            )
            return {
                "distance": spectral_distance(batch.x, y, overlap=2).mean(),
                "complex": (compressed(made) - wanted).square().sum() / wanted.square().sum(),
                "kl": floored,
                "nats": nats,
                **told,
            }

        weights = {"distance": 1.0, "complex": s["phase"], "kl": ramp(s["beta"], s["warmup"]), "nats": 0.0}

        return (
            Stage(
                "autoencode",
                steps["autoencode"],
                losses,
                weights | ({"distance matching": s["perceptual"]} if s["perceptual"] else {}),
                ("encoder", "decoder"),
                batch_size=s["batch_size"],
                healthy={"distance": (0.4, 0.9), "nats": (25, 110)},
                prepare=self.start_from_data,
            ),
            self.prior_stage(steps["prior"]),
        )


DEFAULTS = {
    "latent": 64,
    "n_fft": 1024,
    "hop": 512,
    "encoder": (16, 32, 64),
    "decoder": (64, 32, 8),
    "conditional": False,
    "perceptual": 0.0,
    "prior": "realnvp",
    "flow": {},
    "start": "data",
    "beta": 1e-3,
    "warmup": 100,
    "phase": 0.3,
    "free_bits": 0.0,
    "batch_size": 16,
    "steps": {"autoencode": 600, "prior": 800},
}
PRESETS = {
    "tiny": {
        "latent": 8,
        "n_fft": 256,
        "hop": 128,
        "encoder": (4, 8),
        "decoder": (8, 4),
        "batch_size": 8,
        "flow": {"layers": 2, "hidden": 16},
        "steps": {"autoencode": 30, "prior": 100},
    },
    "small": {},
    "base": {
        "latent": 128,
        "encoder": (32, 64, 128),
        "decoder": (128, 64, 32),
        "batch_size": 32,
        "flow": {"layers": 8, "hidden": 256},
        "steps": {"autoencode": 60_000, "prior": 10_000},
    },
}
TINY = {
    **PRESETS["tiny"],
    "length": 4096,
    "rate": 8000,
    "labels": ("a", "b"),
    "steps": {"autoencode": 2, "prior": 2},
}


def build(*, length: int, rate: int, labels: Sequence[str] = (), **settings) -> Stft:
    """A new model for clips of `length` values at `rate` Hz.

    Arguments:
        latent: L. n_fft, hop: of the spectrogram, in values. encoder, decoder: channels; each layer divides frequency by
            4 and time by 2, or multiplies them.
        conditional: the decoder sees the label. prior: one of nn.priors.PRIORS. flow: layers, hidden, dropout.
        start: "data" (principal components) or "random". beta: weight of the divergence in nats per clip, reached after
            `warmup` steps; free_bits: nats per latent. phase: weight of the error of compressed complex cells.
        perceptual: weight of the difference between distances of latents and of what the ear measures.
        steps: of each stage; 0 leaves a stage out.
    """
    return Stft({"length": length, "rate": rate, "labels": tuple(labels), **complete("stft", DEFAULTS, settings)})
