"""The thesis model: PQMF bands in and out, one latent vector for the whole clip."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.autoencoder import Autoencoder, Batch, Stage, ramp
from workbench.data import Clips
from workbench.errors import UsageError
from workbench.models._settings import complete
from workbench.nn.blocks import Parts, Residual, divisors, down, principal_components, seen, up
from workbench.nn.discriminators import SpectralDiscriminator
from workbench.nn.flows import Flow
from workbench.nn.losses import distance_matching, spectral_distance
from workbench.nn.posteriors import FlowPosterior, Gaussian, Posterior, kl
from workbench.nn.priors import prior
from workbench.nn.representations import PQMF, STFT

__all__ = ["PRESETS", "TINY", "Wave", "build"]

BANDS = 16
WINDOW, HOP = 64, 32  # of the short-time spectra inside each band: 1024 and 512 values of the clip
STRIDE = 4
FADE = 256  # values over which a clip falls silent before its tail
TAIL = 512  # silent values at the end: the bands are periodic, and what an attack leaks before its start ends up there


class Spectrum(nn.Module):
    """Magnitudes of the bands' short-time spectra to the power 1/3, as one row per clip, or for each of its parts.

    The cube root is close to how loudness grows (Stevens, 1957) and bounded below; on real drums 64 principal
    components of it keep more of a clip than as many of the logarithm.
    """

    def __init__(self, length: int, parts: int):
        super().__init__()
        self.stft, self.bands = STFT(WINDOW, HOP), BANDS
        self.bins, self.frames = WINDOW // 2 + 1, length // (BANDS * HOP) + 1
        whole = (
            self.frames if parts == 1 else self.frames - 1
        )  # the last frame is in the silent tail: parts go without it
        self.parts = Parts(whole, whole // parts)
        self.size = BANDS * self.bins * self.parts.part

    def forward(self, bands: Tensor) -> Tensor:
        """(B, M, N) -> (B K, size)"""
        s = self.stft(bands.float().flatten(0, 1)[:, None])  # half precision has no FFT
        m = (s.square().sum(1) + 1e-12).pow(1 / 6).reshape(bands.shape[0], -1, self.frames)
        return self.parts(m[:, :, : self.parts.frames]).flatten(1)

    def inverse(self, rows: Tensor) -> Tensor:
        """(B K, size) -> (B, M, bins, frames)"""
        m = self.parts.inverse(rows.unflatten(1, (-1, self.parts.part)), self.parts.count)
        return F.pad(m, (0, self.frames - self.parts.frames)).unflatten(1, (self.bands, self.bins))


class Encoder(nn.Module):
    """Strided residual convolutions over the bands, beside a fixed projection on principal components.

    What comes out is (mean, log standard deviation, features for a posterior flow), (B, 2 L + flow_features). At the
    start the mean is the clip's principal coordinates, each of unit variance, and the network corrects them. With `parts` K
    the latent is a series of K vectors of L / K, one after the other, each of which sees what convolutions bring to its part.
    """

    def __init__(self, length: int, latent: int, channels: Sequence[int], flow_features: int, parts: int):
        super().__init__()
        self.latent, self.each = latent, latent // parts
        self.pqmf, self.spectrum = PQMF(BANDS), Spectrum(length, parts)
        self.register_buffer("centre", torch.zeros(self.spectrum.size))
        self.register_buffer("project", torch.zeros(self.spectrum.size, self.each))
        steps = [down(a, b, STRIDE) for a, b in pairwise(channels)]
        self.net = nn.Sequential(
            nn.Conv1d(BANDS, channels[0], 7, padding=3), *steps, Residual(channels[-1]), nn.LeakyReLU(0.2)
        )
        frames = length // (BANDS * STRIDE ** len(steps))
        self.parts = Parts(frames, frames // parts)
        self.head = nn.Linear(channels[-1] * self.parts.part + self.each, 2 * self.each + flow_features)
        nn.init.zeros_(self.head.weight[: 2 * self.each])
        nn.init.zeros_(self.head.bias)
        nn.init.constant_(self.head.bias[self.each : 2 * self.each], -1.6)  # a standard deviation of 0.2

    def forward(self, x: Tensor) -> Tensor:
        bands = self.pqmf(x)
        principal = (self.spectrum(bands) - self.centre) @ self.project
        h = self.head(torch.cat([self.parts(self.net(bands)).flatten(1), principal], 1))
        parts = h[:, : self.each] + principal, h[:, self.each : 2 * self.each], h[:, 2 * self.each :]
        return torch.cat([p.reshape(x.shape[0], -1) for p in parts], 1)


class Decoder(nn.Module):
    """One vector to bands: a waveform with amplitude modulation, plus filtered noise.

    The noise branch shapes an excitation of constant magnitude with a time-frequency envelope that is linear in z (in
    the cube-root domain). Its loadings start as the principal components of the training clips, and the excitation,
    white noise at first, is learned: one-shots begin together, so their phases have something in common. Some steps of
    Griffin-Lim, through which training goes as well, then bring the phases of overlapping frames to agree; without them
    tones sound like noise. The waveform branch starts silent and adds what an envelope cannot say. With `parts` K each of
    K vectors of L / K makes its part of the envelope and of where the waveform starts from.
    """

    def __init__(self, length: int, latent: int, context: int, channels: Sequence[int], iterations: int, parts: int):
        super().__init__()
        self.iterations, self.each = iterations, latent // parts
        self.pqmf, self.spectrum = PQMF(BANDS), Spectrum(length, parts)
        self.envelope = nn.Linear(self.each, self.spectrum.size)
        self.label = nn.Linear(context, latent, bias=False) if context else None
        self.excitation = nn.Parameter(self.spectrum.stft.noise(length // BANDS, BANDS))
        fade = torch.ones(length)
        fade[-TAIL:] = 0
        fade[-TAIL - FADE : -TAIL] = torch.linspace(1, 0, FADE)
        self.register_buffer("fade", fade, persistent=False)
        frames = length // (BANDS * STRIDE ** len(channels))
        self.parts = Parts(frames, frames // parts)
        self.start = nn.Linear(self.each, channels[0] * self.parts.part)
        self.net = nn.Sequential(*(up(a, b, STRIDE) for a, b in pairwise([channels[0], *channels])), nn.LeakyReLU(0.2))
        self.out = nn.Conv1d(channels[-1], 2 * BANDS, 7, padding=3)
        nn.init.zeros_(self.envelope.bias)
        nn.init.zeros_(self.out.bias)
        self.out.weight.data[:BANDS] *= 0.02

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """z (B, L), c (B, C) or None -> (B, 1, T)"""
        if self.label is not None:
            assert c is not None, "This decoder is conditional: it needs a context."
            z = z + self.label(c)
        parts = z.reshape(-1, self.each)
        envelope = self.spectrum.inverse(F.relu(self.envelope(parts)).pow(3.0))
        s = self.spectrum.stft.agree((envelope[:, :, None] * self.excitation).flatten(0, 1), self.iterations)
        shaped = self.spectrum.stft.inverse(s).reshape(z.shape[0], self.spectrum.bands, -1)
        narrow = self.parts.inverse(self.start(parts).unflatten(1, (-1, self.parts.part)), self.parts.count)
        wave, amplitude = self.out(self.net(narrow)).chunk(2, dim=1)
        return self.pqmf.inverse(wave * torch.sigmoid(amplitude) + shaped) * self.fade


class Wave(Autoencoder):
    """Multi-band variational autoencoder of whole clips, in three stages.

    RAVE's front end, decoder branches and two-stage training (Caillon and Esling, 2021, https://arxiv.org/abs/2111.05011)
    on one vector for a clip, with a prior fitted to the frozen encoder's aggregate posterior.
    """

    def __init__(self, settings: dict):
        super().__init__(settings)
        s = self.settings
        stride = BANDS * STRIDE ** max(len(s["encoder"]) - 1, len(s["decoder"]))
        if self.length % stride:
            raise UsageError(
                f"A clip of {self.length} values does not divide by the model's stride of {stride}; build the store with a "
                f"multiple of {stride} values or use fewer channels."
            )
        self.latent, parts = s["latent"], s["series"]
        if parts > 1 and s["posterior"] == "flow":
            raise UsageError(
                f"A flow posterior is of one vector, and a series of {parts} was asked: take the one or the other."
            )
        flow_features = 32 if s["posterior"] == "flow" else 0
        strides = HOP, STRIDE ** (len(s["encoder"]) - 1), STRIDE ** len(s["decoder"])
        frames = [self.length // (BANDS * stride) for stride in strides]
        common = math.gcd(self.latent, *frames)
        if common % parts:
            raise UsageError(
                f"A series of {parts} was asked, which does not divide the {self.latent} latents and the {min(frames)} frames at the "
                f"narrowest of encoder or decoder: take one of {divisors(common)}, fewer channels for more frames, or clips of another length."
            )
        self.encoder = Encoder(self.length, self.latent, s["encoder"], flow_features, parts)
        self.decoder = Decoder(self.length, self.latent, len(self.context_spec), s["decoder"], s["iterations"], parts)
        self.posterior_flow = (
            Flow("realnvp", self.latent, flow_features, layers=4, hidden=64) if flow_features else None
        )
        self.prior = prior(s["prior"], self.latent, len(self.labels), **s["flow"])
        self.discriminator = SpectralDiscriminator(channels=s["discriminator"])

    def posterior_of(self, h: Tensor, c: Tensor | None = None) -> Posterior:
        mean, log_std = h[:, : 2 * self.latent].chunk(2, dim=1)
        base = Gaussian(mean, log_std.clamp(-6, 1))
        return (
            FlowPosterior(base, self.posterior_flow, h[:, 2 * self.latent :])
            if self.posterior_flow is not None
            else base
        )

    def start_from_data(self, clips: Clips, training: bool) -> None:
        """Make encoder and decoder the principal component analysis of the clips' spectra."""
        if not training or self.settings["start"] == "random":
            return
        encoder, device = self.encoder, self.encoder.centre.device
        rows = seen(clips, lambda x: encoder.spectrum(encoder.pqmf(x)), device)
        centre, out, into = (v.to(device) for v in principal_components(rows, self.encoder.each))
        with torch.no_grad():
            encoder.centre.copy_(centre)
            encoder.project.copy_(into)
            self.decoder.envelope.bias.copy_(centre)
            self.decoder.envelope.weight.copy_(out)

    def stages(self) -> tuple[Stage, ...]:
        s, steps = self.settings, self.settings["steps"]

        def draw(batch: Batch, step: int) -> tuple[Posterior, Tensor, Tensor]:
            posterior = self.posterior(batch.x)
            z = posterior.sample(batch.noise(step, self.latent))
            return posterior, z, self.decode(z, batch.c)

        def autoencode(batch: Batch, step: int) -> dict[str, Tensor]:
            posterior, z, y = draw(batch, step)
            nats, floored = kl(posterior, z, s["free_bits"])
            told = (
                {"distance matching": distance_matching(posterior.mean, batch.descriptors)} if s["perceptual"] else {}
            )
            return {"distance": spectral_distance(batch.x, y, overlap=2).mean(), "kl": floored, "nats": nats, **told}

        def adversarial(batch: Batch, step: int) -> dict[str, Tensor]:
            y = draw(batch, step)[2]
            score, features = self.discriminator.generator_losses(batch.x, y)
            return {"distance": spectral_distance(batch.x, y, overlap=2).mean(), "score": score, "features": features}

        encode = ("encoder", "decoder") + (("posterior_flow",) if self.posterior_flow is not None else ())
        perceptual = {"distance matching": s["perceptual"]} if s["perceptual"] else {}
        size = s["batch_size"]
        return (
            Stage(
                "autoencode",
                steps["autoencode"],
                autoencode,
                {"distance": 1.0, "kl": ramp(s["beta"], s["warmup"]), "nats": 0.0} | perceptual,
                encode,
                batch_size=size,
                healthy={"distance": (0.4, 0.85), "nats": (25, 110)},
                prepare=self.start_from_data,
                patience=s["patience"],
            ),
            Stage(
                "adversarial",
                steps["adversarial"],
                adversarial,
                {"distance": 1.0, "score": 0.1, "features": 1.0},
                ("decoder",),
                lr=s["adversarial_lr"],
                batch_size=size,
                monitor=None,
                healthy={"distance": (0.4, 0.85)},
                discriminator=self.discriminator,
                pair=lambda batch, step: (batch.x, draw(batch, step)[2]),
            ),
            self.prior_stage(steps["prior"]),
        )


DEFAULTS = {
    "latent": 64,
    "series": 1,
    "encoder": (32, 64, 96, 128, 128),
    "decoder": (128, 96, 64, 32),
    "iterations": 4,
    "conditional": False,
    "perceptual": 0.0,
    "posterior": "gaussian",
    "prior": "realnvp",
    "flow": {},
    "discriminator": 16,
    "start": "data",
    "beta": 1e-3,
    "warmup": 100,
    "adversarial_lr": 1e-3,
    "free_bits": 0.0,
    "patience": None,
    "batch_size": 16,
    "steps": {"autoencode": 1000, "adversarial": 100, "prior": 800},
}
PRESETS = {
    "tiny": {
        "latent": 8,
        "encoder": (8, 8, 16, 16, 16),
        "decoder": (16, 16, 8, 8),
        "discriminator": 4,
        "batch_size": 8,
        "flow": {"layers": 2, "hidden": 16},
        "steps": {"autoencode": 30, "adversarial": 4, "prior": 100},
    },
    "small": {},
    "base": {
        "latent": 128,
        "encoder": (64, 128, 256, 384, 512),
        "decoder": (512, 384, 256, 128),
        "discriminator": 32,
        "batch_size": 32,
        "flow": {"layers": 8, "hidden": 256},
        "adversarial_lr": 2e-4,
        "steps": {"autoencode": 60_000, "adversarial": 60_000, "prior": 10_000},
    },
}
TINY = {
    **PRESETS["tiny"],
    "length": 4096,
    "rate": 8000,
    "labels": ("a", "b"),
    "steps": {"autoencode": 2, "adversarial": 2, "prior": 2},
}


def build(*, length: int, rate: int, labels: Sequence[str] = (), **settings) -> Wave:
    """A new model for clips of `length` values at `rate` Hz.

    Arguments:
        labels: what the prior can be asked for. conditional: the decoder sees the label as well.
        latent: L. series: vectors that share it, one after the other in time; 1 is a vector for the whole clip, and 32 with
            three steps of channels the rate of RAVE. encoder, decoder: channels from the clip inwards, and outwards; each step divides time by 4.
        iterations: of Griffin-Lim within the decoder; 0 leaves the phases of the excitation.
        posterior: "gaussian" or "flow". prior: one of nn.priors.PRIORS. flow: layers, hidden, dropout of its flow.
        beta: weight of the divergence in nats per clip, reached after `warmup` steps; free_bits: nats per latent.
        perceptual: weight of the difference between distances of latents and of what the ear measures.
        adversarial_lr: learning rate of the adversarial stage, for decoder and discriminator.
        start: "data" (principal components) or "random". steps: of each stage; 0 leaves a stage out.
    """
    return Wave({"length": length, "rate": rate, "labels": tuple(labels), **complete("wave", DEFAULTS, settings)})
