"""Three numbers a sound, which are to know nothing of its label: a Wasserstein autoencoder whose decoder is told the rest."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.autoencoder import Autoencoder, Batch, Stage, load, ramp
from workbench.data import Clips
from workbench.errors import UsageError
from workbench.models._settings import complete
from workbench.nn.blocks import Vocoder, halving, principal_components, seen, some
from workbench.nn.discriminators import Discriminator
from workbench.nn.losses import distance_matching
from workbench.nn.noise import keyed_noise
from workbench.nn.posteriors import Gaussian, Posterior
from workbench.nn.priors import prior
from workbench.nn.representations import Mel, frames_of

__all__ = ["PRESETS", "TINY", "Wae", "build", "discrepancy"]

WIDTHS = (0.2, 0.5, 1.0, 2.0, 5.0)  # of the kernels, in units of the latent's dimension


def discrepancy(z: Tensor, w: Tensor, c: Tensor | None = None) -> Tensor:
    """Unbiased squared maximum mean discrepancy of two samples (B, L), by inverse multiquadrics of several widths.

    With contexts c (B, C), of the pairs (z, c) from (w, c): two clips count the more, the more columns they share, and the rarer
    these are. Zero is then the same law for each label, not only for all clips together.

    Wasserstein auto-encoders (Tolstikhin et al., 2018), https://arxiv.org/abs/1711.01558
    """

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        d = torch.cdist(a, b).square() / a.shape[1]
        return torch.stack([width / (width + d) for width in WIDTHS]).mean(0)

    across = kernel(z, w)
    pairs = kernel(z, z) + kernel(w, w) - across - across.T
    weight = torch.ones_like(pairs)
    if c is not None:
        weight = weight + (c / c.sum(0).clamp_min(1) * len(c)) @ c.T
    weight = weight.fill_diagonal_(0)
    return (weight * pairs).sum() / weight.sum()


class GriffinLim(nn.Module):
    """Mel pictures (B, M, N) to sound (B, 1, T), by iterations alone, from the phases of fixed noise."""

    def __init__(self, mel: Mel, length: int, iterations: int):
        super().__init__()
        self.mel, self.iterations = mel, iterations
        self.register_buffer("noise", mel.stft.noise(length), persistent=False)

    def forward(self, m: Tensor) -> Tensor:
        s = self.mel.inverse(m).pow(3.0)[:, None] * self.noise
        return self.mel.stft.inverse(self.mel.stft.agree(s, self.iterations))


class LatentDiscriminator(Discriminator):
    """Tells from z (B, L) what the context c (B, C) says: the latent discriminator of Fader networks (Lample et al., 2017,
    https://arxiv.org/abs/1706.00409).

    groups: the columns that answer one question, as label, octave or style.
    """

    def __init__(self, latent: int, groups: Sequence[Sequence[int]], hidden: int):
        super().__init__()
        self.groups = [list(group) for group in groups]
        self.net = nn.Sequential(
            nn.Linear(latent, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, sum(map(len, self.groups))),
        )

    def cross_entropy(self, z: Tensor, c: Tensor, anything: bool) -> Tensor:
        """Mean cross-entropy of the discriminator's answers with c, or with any answer alike, over what is known; each answer counts the same."""
        losses, answers = [], self.net(z)
        for group in self.groups:
            known = c[:, group].sum(1) > 0
            if known.any():
                wanted = c[known][:, group] / c[known][:, group].sum(1, keepdim=True)
                count = wanted.sum(0)
                weight = wanted @ (1 / count.clamp_min(1e-6))
                wanted = (count > 0).float().expand_as(wanted) / (count > 0).sum() if anything else wanted
                found = F.cross_entropy(answers[known][:, group], wanted, reduction="none")
                losses.append((weight * found).sum() / weight.sum())
        return torch.stack(losses).mean() if losses else answers.sum() * 0

    def loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return self.cross_entropy(real, fake, anything=False)


class Encoder(nn.Module):
    """(B, 1, T) -> (B, L): convolutions along time, beside principal coordinates of what the context leaves of a picture"""

    def __init__(self, picture: Mel, frames: int, latent: int, channels: Sequence[int]):
        super().__init__()
        self.picture = picture
        size = picture.bands * frames
        for name, shape in {"centre": (size,), "project": (size, latent)}.items():
            self.register_buffer(name, torch.zeros(shape))
        self.net = halving(picture.bands, channels)
        for _ in channels:
            frames = (frames + 1) // 2
        self.head = nn.Linear(channels[-1] * frames + latent, latent)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def rows(self, x: Tensor) -> Tensor:
        return self.picture(x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        m = self.picture(x)
        principal = (m.flatten(1) - self.centre) @ self.project
        return principal + self.head(torch.cat([self.net(m).flatten(1), principal], 1))


class Modulated(nn.Module):
    """Twice as many frames, of which each channel is brought to mean 0 and deviation 1 and then to what the context asks for.

    Adaptive instance normalisation (Huang and Belongie, 2017, https://arxiv.org/abs/1703.06868), with scale and shift from an
    embedding of z and c; without normalisation it would be FiLM (Perez et al., 2018, https://arxiv.org/abs/1709.07871).
    """

    def __init__(self, inputs: int, outputs: int, style: int):
        super().__init__()
        self.up = nn.ConvTranspose1d(inputs, outputs, 4, stride=2, padding=1)
        self.norm = nn.InstanceNorm1d(outputs)
        self.scale, self.shift = nn.Linear(style, outputs), nn.Linear(style, outputs)

    def forward(self, h: Tensor, style: Tensor) -> Tensor:
        h = self.norm(self.up(F.leaky_relu(h, 0.2)))
        return (1 + self.scale(style))[:, :, None] * h + self.shift(style)[:, :, None]


class Decoder(nn.Module):
    """(B, L), (B, C) -> (B, 1, T): a picture, linear in z and c at the start, which modulated layers correct, and its sound"""

    def __init__(
        self, voice: nn.Module, bands: int, frames: int, latent: int, context: int, channels: Sequence[int], style: int
    ):
        super().__init__()
        self.voice, self.bands, self.frames, self.context = voice, bands, frames, context
        self.envelope = nn.Linear(latent + context, bands * frames)
        self.style = nn.Sequential(
            nn.Linear(latent + context, style), nn.LeakyReLU(0.2), nn.Linear(style, style), nn.LeakyReLU(0.2)
        )
        self.narrow = (channels[0], -(-frames // 2 ** len(channels)))
        self.start = nn.Linear(style, self.narrow[0] * self.narrow[1])
        self.layers = nn.ModuleList(Modulated(a, b, style) for a, b in pairwise([*channels, channels[-1]]))
        self.out = nn.Conv1d(channels[-1], bands, 3, padding=1)
        self.out.weight.data *= 0.1
        nn.init.zeros_(self.out.bias)

    def picture(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """-> (B, M, N)"""
        c = torch.zeros(z.shape[0], self.context, device=z.device) if c is None else c  # nothing is known
        z = torch.cat([z, c], 1)
        m = self.envelope(z).unflatten(1, (self.bands, self.frames))
        style = self.style(z)
        h = self.start(style).unflatten(1, self.narrow)
        for layer in self.layers:
            h = layer(h, style)
        return F.relu(m + self.out(F.leaky_relu(h, 0.2))[:, :, : self.frames])

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        return self.voice(self.picture(z, c))


class Wae(Autoencoder):
    """Wasserstein autoencoder of mel pictures with a latent of three dimensions and a decoder that is told label and attributes.

    Assisted sound sample generation with musical conditioning in adversarial auto-encoders (Bitton et al., 2019,
    https://arxiv.org/abs/1904.06215): latents are drawn to N(0, I) by their discrepancy, and what the decoder is told anyway is
    kept out of them, as its answer to that would be ignored otherwise: by a discriminator of latents, which they confuse, and by a
    discrepancy that is taken of latents together with contexts.
    """

    def __init__(self, settings: dict):
        super().__init__(settings)
        s = self.settings
        frames = frames_of(self.length, s["n_fft"], s["hop"])
        picture = [Mel(self.rate, s["n_fft"], s["hop"], s["mels"]) for _ in range(2)]
        self.latent = s["latent"]
        self.encoder = Encoder(picture[0], frames, self.latent, s["encoder"])
        if s["vocoder"]:
            voice = Vocoder(picture[1], self.length, s["vocoder"]["channels"], s["vocoder"]["iterations"])
            voice.requires_grad_(False)
        else:
            voice = GriffinLim(picture[1], self.length, s["iterations"])
        context = len(self.context_spec)
        self.decoder = Decoder(voice, s["mels"], frames, self.latent, context, s["decoder"], s["style"])
        kinds = self.context_kinds
        groups = [[i for i, k in enumerate(kinds) if k == kind] for kind in dict.fromkeys(kinds)]
        self.discriminator = (
            LatentDiscriminator(self.latent, groups, s["discriminator"]) if s["adversary"] and groups else None
        )
        self.prior = prior(s["prior"], self.latent, len(self.labels), **s["flow"])

    def posterior_of(self, h: Tensor, c: Tensor | None = None) -> Posterior:
        return Gaussian(h, torch.full_like(h, self.settings["noise"]).log())

    def start_from_data(self, clips: Clips, training: bool) -> None:
        """Let the decoder say what the context says of pictures in proportion, and encoder and it the principal components of the rest."""
        if not training or self.settings["start"] == "random":
            return
        rows = seen(clips, self.encoder.rows, self.encoder.centre.device)
        with torch.no_grad():
            centre, told = rows.mean(0), self.context_of(clips, some(clips).numpy())
            rows.sub_(centre)
            weight, bias = rows.new_zeros(0, rows.shape[1]), centre
            if self.context_spec:
                usual, told = told.mean(0), told - told.mean(0)
                weight = torch.linalg.solve(told.T @ told + torch.eye(told.shape[1]), told.T @ rows)
                bias = centre - usual @ weight
                along = torch.linalg.qr(weight.T).Q  # whatever lies in these directions would tell the context
                rows.sub_(rows @ along @ along.T)
            _, out, into = principal_components(rows, self.latent)
            for name, value in {"centre": centre, "project": into}.items():
                getattr(self.encoder, name).copy_(value)
            self.decoder.envelope.bias.copy_(bias)
            self.decoder.envelope.weight.copy_(torch.cat([out, weight.T], 1))

    def stages(self) -> tuple[Stage, ...]:
        s, steps = self.settings, self.settings["steps"]

        def latents(batch: Batch, step: int) -> Tensor:
            posterior = self.posterior(batch.x)
            return posterior.sample(batch.noise(step, *posterior.mean.shape[1:]))

        def told(batch: Batch, step: int) -> Tensor | None:
            """What the decoder is told of each clip: all that is known, for one in three the label alone, for one in ten nothing."""
            if not self.context_spec:
                return None
            c, u = batch.c.clone(), torch.special.ndtr(batch.noise(step + 1, 2))
            c[u[:, 0] < 1 / 3, len(self.labels) :] = 0
            c[u[:, 1] < 1 / 10] = 0
            return c

        def autoencode(batch: Batch, step: int) -> dict[str, Tensor]:
            z = latents(batch, step)
            wanted = self.encoder.picture(batch.x)
            made = self.decoder.picture(z, told(batch, step))
            normal = keyed_noise([batch.seed, step, 1], range(len(z)), self.latent).to(z)
            losses = {
                "error": F.l1_loss(made, wanted) / wanted.mean(),
                "discrepancy": discrepancy(z, normal, batch.c if s["joint"] and self.context_spec else None),
            }
            if self.discriminator is not None:
                losses["adversary"] = self.discriminator.cross_entropy(z, batch.c, anything=True)
            if s["perceptual"]:
                losses["distance matching"] = distance_matching(z, batch.descriptors)
            return losses

        def pair(batch: Batch, step: int) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                return latents(batch, step), batch.c

        weights = {"error": 1.0, "discrepancy": s["discrepancy"]}
        if self.discriminator is not None:
            weights["adversary"] = ramp(s["adversary"], max(steps["autoencode"] // 2, 1))
        if s["perceptual"]:
            weights["distance matching"] = s["perceptual"]
        first = Stage(
            "autoencode",
            steps["autoencode"],
            autoencode,
            weights,
            ("encoder", "decoder"),
            batch_size=s["batch_size"],
            monitor=None,  # the discriminator's answers have no best
            healthy={"error": (0.25, 0.6), "discrepancy": (-0.01, 0.02)},
            prepare=self.start_from_data,
            discriminator=self.discriminator,
            pair=None if self.discriminator is None else pair,
        )
        return first, self.prior_stage(steps["prior"])


DEFAULTS = {
    "latent": 3,
    "n_fft": 1024,
    "hop": 512,
    "mels": 128,
    "encoder": (256, 256, 256),
    "decoder": (256, 256, 256),
    "style": 128,
    "noise": 0.05,
    "conditional": True,
    "adversary": 0.3,
    "discriminator": 64,
    "discrepancy": 20.0,
    "joint": True,
    "perceptual": 0.0,
    "vocoder": {},
    "iterations": 8,
    "prior": "standard",
    "flow": {},
    "start": "data",
    "batch_size": 64,
    "steps": {"autoencode": 1000, "prior": 400},
}
PRESETS = {
    "tiny": {
        "n_fft": 256,
        "hop": 128,
        "mels": 24,
        "encoder": (16, 16),
        "decoder": (16, 16),
        "style": 16,
        "discriminator": 16,
        "iterations": 2,
        "batch_size": 8,
        "flow": {"layers": 2, "hidden": 16},
        "steps": {"autoencode": 30, "prior": 100},
    },
    "small": {},
    "base": {
        "encoder": (512, 512, 512),
        "decoder": (512, 512, 512),
        "style": 256,
        "discriminator": 256,
        "batch_size": 128,
        "flow": {"layers": 8, "hidden": 256},
        "steps": {"autoencode": 60_000, "prior": 10_000},
    },
}
TINY = {
    **PRESETS["tiny"],
    "length": 4096,
    "rate": 8000,
    "labels": ("a", "b"),
    "prior": "realnvp",
    "steps": {"autoencode": 2, "prior": 2},
}


def build(
    *, length: int, rate: int, labels: Sequence[str] = (), attributes: Sequence[str] = (), vocoder="", **settings
) -> Wae:
    """A new model for clips of `length` values at `rate` Hz.

    Arguments:
        latent: L; three can be looked at. noise: standard deviation of the encoder, where latents have 1.
        n_fft, hop, mels: of the picture. encoder, decoder: channels; each layer halves or doubles time. style: size of the
            embedding that modulates. iterations: of Griffin-Lim. vocoder: the run of a model that has one, for speed.
        conditional: the decoder sees label and attributes. attributes: which; `for_clips` takes all that the store knows.
        adversary: weight of the latent discriminator's confusion, reached halfway, 0 for none; discriminator: its width.
        discrepancy: weight of that from N(0, I); joint: of latents and contexts together, not of latents alone.
        perceptual: weight of the difference between distances of latents and of what the ear measures.
        prior: one of nn.priors.PRIORS. start: "data" (principal components) or "random".
    """
    source, trained = load(Path(vocoder).expanduser()) if isinstance(vocoder, str) and vocoder else None, vocoder or {}
    if source is not None:
        known = source.settings
        if not isinstance(getattr(source.decoder, "vocoder", None), Vocoder):
            raise UsageError(
                f"The model of {vocoder} is of the family '{source.family}', which has no vocoder; give a run of 'mel'."
            )
        trained = {"run": vocoder, "channels": known["vocoder"], "iterations": known["iterations"]}
    settings = complete("wae", DEFAULTS, {**settings, "vocoder": trained})
    if source is not None:
        asked = {"rate": rate, **{name: settings[name] for name in ("n_fft", "hop", "mels")}}
        has = {name: known[name] for name in asked}
        if has != asked:
            raise UsageError(
                f"The vocoder of {vocoder} was trained for {has}, but this model has {asked}; give it the same, or train another vocoder."
            )
    if settings["noise"] <= 0:
        raise UsageError("A `noise` of 0 was asked; a posterior has some, such as 0.05.")
    if settings["vocoder"] and not {"channels", "iterations"} <= set(settings["vocoder"]):
        raise UsageError(f"`vocoder` came as {vocoder!r}; give the folder of a run of 'mel'.")
    fixed = {"length": length, "rate": rate, "labels": tuple(labels), "attributes": tuple(dict.fromkeys(attributes))}
    model = Wae(fixed | settings)
    if source is not None:
        model.decoder.voice.load_state_dict(source.decoder.vocoder.state_dict())
    return model
