"""Mel spectrograms, loudness beside the latent, which is to be told nothing of it, and a vocoder at the decoder's end."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.autoencoder import Autoencoder, Batch, Stage, ramp
from workbench.data import Clips
from workbench.errors import UsageError
from workbench.models._settings import complete
from workbench.nn.blocks import Parts, Vocoder, divisors, halving, principal_components, seen
from workbench.nn.discriminators import SpectralDiscriminator
from workbench.nn.losses import distance_matching, spectral_distance
from workbench.nn.posteriors import Gaussian, Posterior, kl
from workbench.nn.priors import prior
from workbench.nn.representations import Mel as Picture
from workbench.nn.representations import frames_of

__all__ = ["PRESETS", "TINY", "Mel", "build"]

EXACT = -4.0  # log standard deviation of the loudness beside the latent: it is measured, not inferred


class Reversed(torch.autograd.Function):
    """The identity, whose gradient comes back times -scale (Ganin and Lempitsky, 2015, https://arxiv.org/abs/1409.7495)."""

    @staticmethod
    def forward(ctx, z: Tensor, scale: float | Tensor) -> Tensor:
        ctx.scale = scale
        return z.view_as(z)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * gradient, None


def power_of(parts: Tensor) -> Tensor:
    """Logarithm of the mean power of parts (B, M, S), (B, 1)"""
    return (parts.pow(6.0).mean((1, 2)) + 1e-9).log()[:, None]


def level(loud: Tensor, scale: Tensor) -> Tensor:
    """Loudness in deviations -> what a picture, magnitudes to the power 1/3, is multiplied by at it"""
    return ((loud * scale[1] + scale[0]) / 6).exp()


def at_one_level(parts: Tensor) -> Tensor:
    """Parts (B, M, S) of mean power one; what a picture adds to powers is no part of the sound"""
    power = (parts.pow(6.0) - 1e-12).clamp_min(0)
    return (power / power_of(parts).exp()[:, :, None] + 1e-12).pow(1 / 6)


class Encoder(nn.Module):
    """(B, 1, T) -> mean, log standard deviation and loudness, (B, 2 L + 1), or (B, 2 L + 1, K) for a series of parts

    Strided convolutions along time beside a fixed projection of the picture on principal components, across the direction that
    goes with loudness. Where pictures are `levelled`, both see them at one level.
    """

    def __init__(
        self, picture: Picture, parts: Parts, latent: int, channels: Sequence[int], series: bool, levelled: bool
    ):
        super().__init__()
        self.picture, self.parts, self.latent, self.series, self.levelled = picture, parts, latent, series, levelled
        size = picture.bands * parts.part
        for name, shape in {"centre": (size,), "project": (size, latent)}.items():
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("loud", torch.tensor([0.0, 1.0]))  # mean and deviation over the training clips
        self.net = halving(picture.bands, channels)
        frames = parts.part
        for _ in channels:
            frames = (frames + 1) // 2
        self.head = nn.Linear(channels[-1] * frames + latent, 2 * latent)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        nn.init.constant_(self.head.bias[latent:], -1.6)  # a standard deviation of 0.2

    def loudness(self, parts: Tensor) -> Tensor:
        """In deviations of the training clips, (B, 1)"""
        return (power_of(parts) - self.loud[0]) / self.loud[1]

    def even(self, parts: Tensor) -> Tensor:
        return at_one_level(parts) if self.levelled else parts

    def cut(self, x: Tensor) -> Tensor:
        """(B, 1, T) -> its picture in parts (B K, M, S)"""
        return self.parts(self.picture(x)[:, :, : self.parts.frames])

    def forward(self, x: Tensor) -> Tensor:
        parts = self.cut(x)
        loud = self.loudness(parts)
        parts = self.even(parts)
        principal = (parts.flatten(1) - self.centre) @ self.project
        h = self.head(torch.cat([self.net(parts).flatten(1), principal], 1))
        h = torch.cat([h[:, : self.latent] + principal, h[:, self.latent :], loud], 1)
        return h.unflatten(0, (x.shape[0], -1)).transpose(1, 2) if self.series else h


class Decoder(nn.Module):
    """(B, L + 1) or (B, L + 1, K) -> (B, 1, T): a picture, linear in z at the start, which a network corrects, and its sound"""

    def __init__(
        self, vocoder: Vocoder, parts: Parts, latent: int, context: int, channels: Sequence[int], levelled: bool
    ):
        super().__init__()
        self.vocoder, self.parts, self.levelled = vocoder, parts, levelled
        self.register_buffer("loud", torch.tensor([0.0, 1.0]))  # as the encoder's
        bands = vocoder.mel.bands
        self.envelope = nn.Linear(latent + 1, bands * parts.part)
        nn.init.zeros_(self.envelope.bias)
        self.label = nn.Linear(context, latent + 1, bias=False) if context else None
        self.narrow = (channels[0], -(-parts.part // 2 ** len(channels)))
        self.start = nn.Linear(latent + 1, self.narrow[0] * self.narrow[1])
        ups = [nn.ConvTranspose1d(a, b, 4, stride=2, padding=1) for a, b in pairwise([*channels, channels[-1]])]
        self.net = nn.Sequential(*(layer for up in ups for layer in (nn.LeakyReLU(0.2), up)), nn.LeakyReLU(0.2))
        self.out = nn.Conv1d(channels[-1], bands, 3, padding=1)
        self.out.weight.data *= 0.1
        nn.init.zeros_(self.out.bias)

    def picture(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """-> (B, M, N)"""
        series = z.dim() == 3
        count, loud = z.shape[2] if series else 1, z[:, -1:]
        if self.label is not None:
            assert c is not None, "This decoder is conditional: it needs a context."
            more = self.label(c)
            z = z + (more[:, :, None] if series else more)
        if series:
            z = z.transpose(1, 2).flatten(0, 1)
            loud = loud.transpose(1, 2).flatten(0, 1)
        z = torch.cat(
            [z[:, :-1], z[:, -1:].clamp(-2, 2)], 1
        )  # how loud sounds differ is known of those that there were
        m = self.envelope(z).unflatten(1, (-1, self.parts.part))
        m = m + self.out(self.net(self.start(z).unflatten(1, self.narrow)))[:, :, : self.parts.part]
        m = F.relu(m)
        if self.levelled:
            own = m.pow(6.0).mean((1, 2), keepdim=True).clamp_min(1e-6).pow(1 / 6)
            m = m / own * level(loud, self.loud)[:, :, None]
        m = self.parts.inverse(m, count)
        return F.pad(m, (0, 1)) if series else m

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        return self.vocoder(self.picture(z, c))


class Mel(Autoencoder):
    """Variational autoencoder of mel spectrograms with a vocoder, and timbre kept apart from loudness.

    The continuous model of Caillon, Bitton, Gatinet and Esling, 2020 (https://arxiv.org/abs/2008.01370): a probe tries to tell the
    loudness from the latent, and its reversed gradient is to make the encoder leave it out; the decoder gets the measured
    loudness instead. Here it stands as the last coordinate of z, beside L of timbre, so that it can be moved, drawn and kept. The same
    sound at another level has the same timbre exactly; what loudness and timbre of one pack have in common is left to the
    probe, and how far that goes is measured by the notebook `loudness`.
    """

    def __init__(self, settings: dict):
        super().__init__(settings)
        s = self.settings
        frames = frames_of(self.length, s["n_fft"], s["hop"])
        series = s["series"] > 1
        whole = frames - series  # parts go without the last frame, which is centred on the clip's end
        if whole % s["series"]:
            raise UsageError(
                f"A series of {s['series']} was asked, of clips that have {whole} frames: take one of {divisors(whole)}."
            )
        self.timbre, self.latent = s["latent"], s["latent"] + 1
        parts = Parts(whole, whole // s["series"])
        self.hop = parts.part * s["hop"] if series else None
        picture = [Picture(self.rate, s["n_fft"], s["hop"], s["mels"]) for _ in range(2)]
        levelled = s["invariance"] > 0
        self.encoder = Encoder(picture[0], parts, self.timbre, s["encoder"], series, levelled)
        vocoder = Vocoder(picture[1], self.length, s["vocoder"], s["iterations"])
        self.decoder = Decoder(vocoder, parts, self.timbre, len(self.context_spec), s["decoder"], levelled)
        self.probe = nn.Sequential(
            nn.Linear(self.timbre, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1)
        )
        self.prior = None if series else prior(s["prior"], self.latent, len(self.labels), **s["flow"])
        self.discriminator = SpectralDiscriminator(channels=s["discriminator"])

    def posterior_of(self, h: Tensor, c: Tensor | None = None) -> Posterior:
        mean, log_std, loud = h.split([self.timbre, self.timbre, 1], 1)
        return Gaussian(torch.cat([mean, loud], 1), torch.cat([log_std.clamp(-6, 1), torch.full_like(loud, EXACT)], 1))

    def start_from_data(self, clips: Clips, training: bool) -> None:
        """Make encoder and decoder the principal component analysis of the clips' pictures, without what loudness explains."""
        if not training or self.settings["start"] == "random":
            return
        encoder, device = self.encoder, self.encoder.centre.device
        with torch.no_grad():
            parts = seen(clips, encoder.cut, device)
            loud = power_of(parts)
            scale = torch.cat([loud.mean(0), loud.std(0).clamp_min(1e-3)])
            rows = encoder.even(parts).flatten(1)
            centre, slope = rows.mean(0), rows.new_zeros(rows.shape[1])
            for part in (encoder, self.decoder):
                part.loud.copy_(scale)
            if self.settings["invariance"]:
                slope = ((loud - scale[0]) / scale[1] * rows).mean(0)
                along = slope / slope.norm().clamp_min(1e-9)
                rows = rows - (rows @ along)[:, None] * along
            _, out, into = principal_components(rows, self.timbre)
            for name, value in {"centre": centre, "project": into}.items():
                getattr(encoder, name).copy_(value.to(device))
            self.decoder.envelope.bias.copy_(centre.to(device))
            self.decoder.envelope.weight.copy_(torch.cat([out, slope[:, None]], 1).to(device))

    def stages(self) -> tuple[Stage, ...]:
        s, steps = self.settings, self.settings["steps"]
        probing = ramp(s["invariance"], s["warmup"])

        def autoencode(batch: Batch, step: int) -> dict[str, Tensor]:
            posterior = self.posterior(batch.x)
            z = posterior.sample(batch.noise(step, *posterior.mean.shape[1:]))
            timbre, loud = (
                v.transpose(1, -1).reshape(-1, v.shape[1]) for v in posterior.mean.split([self.timbre, 1], 1)
            )
            with torch.no_grad():  # no pressure beyond chance: to mislead the probe is to tell it, with the other sign
                told = (1 - F.mse_loss(self.probe(timbre), loud) / loud.var(unbiased=False).clamp_min(1e-3)).clamp(0, 1)
            wanted = self.encoder.picture(batch.x)
            made = self.decoder.picture(z, batch.c if self.context_spec else None)
            nats, floored = kl(posterior, z)
            alike = (
                {"distance matching": distance_matching(posterior.mean[:, : self.timbre], batch.descriptors)}
                if s["perceptual"]
                else {}
            )
            return {
                "error": F.l1_loss(made, wanted) / wanted.mean(),
                "kl": floored / (z.shape[2] if z.dim() == 3 else 1),
                "nats": nats,
                "probe": F.mse_loss(self.probe(Reversed.apply(timbre, probing(step) * told)), loud),
                **alike,
            }

        def heard(batch: Batch, step: int) -> Tensor:
            """Of the clips' own pictures and of decoded ones in turn: the vocoder has to serve both."""
            with torch.no_grad():
                decoded = step % 2
                z = self.posterior(batch.x).mean if decoded else None
                m = (
                    self.decoder.picture(z, batch.c if self.context_spec else None)
                    if decoded
                    else self.encoder.picture(batch.x)
                )
            return self.decoder.vocoder(m)

        def vocode(batch: Batch, step: int) -> dict[str, Tensor]:
            y = heard(batch, step)
            score, features = self.discriminator.generator_losses(batch.x, y)
            return {"distance": spectral_distance(batch.x, y, overlap=2).mean(), "score": score, "features": features}

        weights = {
            "error": 1.0,
            "kl": ramp(s["beta"], s["warmup"]),
            "nats": 0.0,
            "probe": s["weight"] * bool(s["invariance"]),
        }
        return (
            Stage(
                "autoencode",
                steps["autoencode"],
                autoencode,
                weights | ({"distance matching": s["perceptual"]} if s["perceptual"] else {}),
                ("encoder", "decoder", "probe"),
                batch_size=s["batch_size"],
                monitor=None,  # the best probe would be the worst latent
                healthy={"error": (0.15, 0.5), "nats": (25 * s["series"], 110 * s["series"]), "probe": (0.9, 1.1)},
                prepare=self.start_from_data,
            ),
            Stage(
                "vocoder",
                steps["vocoder"],
                vocode,
                {"distance": 1.0, "score": s["score"], "features": s["features"]},
                ("decoder",),
                batch_size=s["batch_size"],
                monitor=None,
                healthy={"distance": (0.4, 0.9)},
                discriminator=self.discriminator,
                pair=lambda batch, step: (batch.x, heard(batch, step)),
            ),
            *(() if self.prior is None else (self.prior_stage(steps["prior"]),)),
        )


DEFAULTS = {
    "latent": 64,
    "series": 1,
    "n_fft": 1024,
    "hop": 512,
    "mels": 128,
    "encoder": (256, 256, 256),
    "decoder": (256, 256, 256),
    "vocoder": 256,
    "iterations": 4,
    "conditional": False,
    "perceptual": 0.0,
    "invariance": 1.0,
    "weight": 0.1,
    "prior": "realnvp",
    "flow": {},
    "discriminator": 16,
    "start": "data",
    "beta": 3e-4,
    "warmup": 200,
    "score": 0.05,
    "features": 0.5,
    "batch_size": 16,
    "steps": {"autoencode": 1000, "vocoder": 120, "prior": 800},
}
PRESETS = {
    "tiny": {
        "latent": 8,
        "n_fft": 256,
        "hop": 128,
        "mels": 24,
        "encoder": (16, 16),
        "decoder": (16, 16),
        "vocoder": 16,
        "iterations": 1,
        "discriminator": 4,
        "batch_size": 8,
        "flow": {"layers": 2, "hidden": 16},
        "steps": {"autoencode": 30, "vocoder": 4, "prior": 100},
    },
    "small": {},
    "base": {
        "latent": 128,
        "encoder": (512, 512, 512),
        "decoder": (512, 512, 512),
        "vocoder": 512,
        "discriminator": 32,
        "batch_size": 32,
        "flow": {"layers": 8, "hidden": 256},
        "steps": {"autoencode": 60_000, "vocoder": 200_000, "prior": 10_000},
    },
}
TINY = {
    **PRESETS["tiny"],
    "length": 4096,
    "rate": 8000,
    "labels": ("a", "b"),
    "steps": {"autoencode": 2, "vocoder": 2, "prior": 2},
}


def build(*, length: int, rate: int, labels: Sequence[str] = (), **settings) -> Mel:
    """A new model for clips of `length` values at `rate` Hz.

    Arguments:
        latent: L, of timbre; loudness is one more. series: latents one after the other; 1 is one for the whole clip.
        n_fft, hop, mels: of the picture. encoder, decoder: channels; each layer halves or doubles time. vocoder: channels.
        iterations: of Griffin-Lim within the vocoder. conditional: the decoder sees the label.
        invariance: scale of the probe's reversed gradient, reached after `warmup` steps; weight: of its loss. 0 for a model
            that leaves loudness in the latent.
        perceptual: weight of the difference between distances of latents and of what the ear measures.
        beta: weight of the divergence in nats per clip (or per latent of a series). score, features: weights of the discriminator's.
        prior: one of nn.priors.PRIORS, for whole clips. start: "data" (principal components) or "random".
    """
    return Mel({"length": length, "rate": rate, "labels": tuple(labels), **complete("mel", DEFAULTS, settings)})
