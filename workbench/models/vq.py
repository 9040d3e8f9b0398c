"""Series of codes: every frame is one of a few hundred timbres and a gain that the code knows nothing of."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.autoencoder import Autoencoder, Batch, Stage
from workbench.data import Clips
from workbench.errors import UsageError
from workbench.models._settings import complete
from workbench.nn.blocks import Residual, principal_components, seen
from workbench.nn.losses import spectral_distance
from workbench.nn.posteriors import Codes, Posterior
from workbench.nn.representations import STFT, frames_of

__all__ = ["FLOOR", "HEARD", "PRESETS", "TINY", "Vq", "build", "loudest"]

POWER = 1 / 3  # of magnitudes: how loudness grows (Stevens, 1957)
FLOOR = 1e-6  # of a frame's gain, in rms magnitude: a silent frame is the same code at any level
HEARD = 1e-3  # frames below it, relative to the loudest of the clip, have no say in what codes are
STEP = 4  # every fourth frame finds principal components and first codes: neighbours are alike
KEPT = 0.99  # of a code's running mean at each step
FIRST = 50_000  # frames that are clustered
RARE = 0.1  # frames a batch, in the running mean; a code used less often starts again at one of the batch's frames


def loudest(gain: Tensor) -> Tensor:
    """Which frames are heard, of logarithms of gains (B, N): those within 60 dB of the clip's loudest. Most of a padded one-shot is none."""
    return gain > gain.amax(1, keepdim=True) + math.log(HEARD)


class Encoder(nn.Module):
    """(B, 1, T) -> (B, L + 1, N): a point for each frame's timbre, and the logarithm of its gain

    The point is made of the frame's magnitudes over their root mean square, and so is the same however loud the clip is.
    At the start it is the frame's principal coordinates; the network, which also sees the neighbours, corrects them.
    """

    def __init__(self, latent: int, n_fft: int, hidden: int):
        super().__init__()
        self.stft, bins = STFT(n_fft, n_fft // 2), n_fft // 2 + 1
        self.register_buffer("centre", torch.zeros(bins))
        self.register_buffer("project", torch.zeros(bins, latent))
        self.net = nn.Sequential(
            nn.Conv1d(bins, hidden, 3, padding=1), Residual(hidden), nn.LeakyReLU(0.2), nn.Conv1d(hidden, latent, 1)
        )
        self.net[-1].weight.data *= 0.02
        nn.init.zeros_(self.net[-1].bias)

    def frames(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, T) -> compressed magnitudes of unit gain (B, F, N), and gains (B, 1, N)"""
        magnitude = (self.stft(x.float()).square().sum(1) + 1e-20).sqrt()
        gain = magnitude.square().mean(1, keepdim=True).sqrt().clamp_min(FLOOR)
        return (magnitude / gain).pow(POWER), gain

    def audible(self, x: Tensor) -> Tensor:
        """Some of the frames that are heard, as rows (M, F)"""
        v, gain = (f[:, :, ::STEP] for f in self.frames(x))
        return v.transpose(1, 2)[loudest(gain[:, 0].log())]

    def forward(self, x: Tensor) -> Tensor:
        v, gain = self.frames(x)
        principal = self.project.T @ (v - self.centre[:, None])
        return torch.cat([principal + self.net(v), gain.log()], 1)


class Codebook(nn.Module):
    """K points that stand for all: (B, L, N) -> numbers of the nearest (B, N)

    They are running means of the points nearest to them, not parameters; a code that hardly any frame uses starts again
    where a frame is. After Oord et al., 2017, https://arxiv.org/abs/1711.00937, appendix A.1, and Dhariwal et al., 2020
    (Jukebox), https://arxiv.org/abs/2005.00341
    """

    def __init__(self, codes: int, latent: int):
        super().__init__()
        self.register_buffer("codes", torch.randn(codes, latent))
        self.register_buffer("used", torch.ones(codes))
        self.register_buffer("sums", self.codes.clone())

    def nearest(self, h: Tensor) -> Tensor:
        points = h.transpose(1, 2)
        return (self.codes.square().sum(1) - 2 * points @ self.codes.T).argmin(2)

    def forward(self, numbers: Tensor) -> Tensor:
        """(B, N) -> (B, L, N)"""
        return self.codes[numbers].transpose(1, 2)

    @torch.no_grad()
    def learn(self, points: Tensor, numbers: Tensor) -> None:
        """One step of the running means towards points (M, L) that were given these codes (M,); deterministic for a seed of torch."""
        which = F.one_hot(numbers, len(self.codes)).to(points)
        self.used.mul_(KEPT).add_(which.sum(0), alpha=1 - KEPT)
        self.sums.mul_(KEPT).add_(which.T @ points, alpha=1 - KEPT)
        rare = (self.used < RARE).nonzero()[:, 0]
        if len(rare):
            chosen = points[torch.randint(len(points), (len(rare),), device=points.device)]
            self.sums[rare], self.used[rare] = chosen, 1.0
        self.codes.copy_(self.sums / self.used[:, None])


class Decoder(nn.Module):
    """(B, L + 1, N) -> (B, 1, N hop): magnitudes of each frame from its code and its neighbours', times the gain

    The phases are those of fixed noise, which some steps of Griffin-Lim bring to agree. Any number of frames will do.
    """

    def __init__(self, length: int, latent: int, context: int, n_fft: int, hidden: int, iterations: int):
        super().__init__()
        self.latent, self.iterations = latent, iterations
        self.stft, bins = STFT(n_fft, n_fft // 2), n_fft // 2 + 1
        self.envelope = nn.Conv1d(latent, bins, 1)
        self.label = nn.Linear(context, latent, bias=False) if context else None
        self.net = nn.Sequential(
            nn.Conv1d(latent, hidden, 3, padding=1), Residual(hidden), Residual(hidden, 3), nn.LeakyReLU(0.2)
        )
        self.out = nn.Conv1d(hidden, bins, 1)
        self.out.weight.data *= 0.02
        nn.init.zeros_(self.out.bias)
        self.register_buffer("noise", self.stft.noise(length), persistent=False)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        timbre, gain = z[:, : self.latent], z[:, self.latent :].exp()
        if self.label is not None:
            assert c is not None, "This decoder is conditional: it needs a context."
            timbre = timbre + self.label(c)[:, :, None]
        magnitude = F.relu(self.envelope(timbre) + self.out(self.net(timbre))).pow(3.0) * gain
        n = z.shape[2]
        noise = self.noise.repeat(1, 1, 1, n // self.noise.shape[3] + 1)[:, :, :, :n]
        return self.stft.inverse(self.stft.agree(magnitude[:, None] * noise, self.iterations))


class Vq(Autoencoder):
    """Vector-quantised autoencoder of frames, in which gain and timbre are kept apart.

    Vector-Quantized Timbre Representation (Bitton, Esling and Harada, 2020, https://arxiv.org/abs/2007.06349): codes of gain-free
    frames, analysed and played by what they sound like (see `codes`). A clip is a series, so there is no prior over whole clips.
    """

    def __init__(self, settings: dict):
        super().__init__(settings)
        s = self.settings
        self.latent, self.hop = s["latent"], s["n_fft"] // 2
        frames_of(self.length, s["n_fft"], self.hop)
        self.encoder = Encoder(self.latent, s["n_fft"], s["hidden"])
        self.codebook = Codebook(s["codes"], self.latent)
        self.decoder = Decoder(
            self.length, self.latent, len(self.context_spec), s["n_fft"], s["hidden"], s["iterations"]
        )

    def posterior_of(self, h: Tensor, c: Tensor | None = None) -> Posterior:
        points = h[:, : self.latent]
        numbers = self.codebook.nearest(points)
        straight = self.codebook(numbers) + (points - points.detach())  # gradients pass as if nothing was rounded
        return Codes(torch.cat([straight, h[:, self.latent :]], 1), numbers, len(self.codebook.codes))

    def check(self, clips: Clips) -> None:
        super().check(clips)
        frames = len(clips.split("train")) * self.decoder.noise.shape[3]
        if frames < self.settings["codes"]:
            raise UsageError(
                f"{frames:,} frames of training clips cannot fill {self.settings['codes']:,} codes; lower `codes` or add clips."
            )

    def start_from_data(self, clips: Clips, training: bool) -> None:
        """Principal components of frames as coordinates, and the means of clusters of frames as codes."""
        if not training:
            return
        from sklearn.cluster import MiniBatchKMeans

        encoder, book, device = self.encoder, self.codebook, self.encoder.centre.device
        rows = seen(clips, encoder.audible, device)
        centre, out, _ = principal_components(rows, self.latent)  # which leaves the rows centred
        scale = out[:, 0].norm()  # one for all: distances between points are those between frames
        axes = F.normalize(out, dim=0)
        points = (rows @ (axes / scale))[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:FIRST]]
        with torch.no_grad():
            encoder.centre.copy_(centre)
            encoder.project.copy_(axes / scale)
            self.decoder.envelope.weight.copy_((axes * scale)[:, :, None])
            self.decoder.envelope.bias.copy_(centre)
            k = min(len(book.codes), len(points))
            found = MiniBatchKMeans(k, n_init=1, random_state=0).fit(points)
            book.codes[:k] = torch.from_numpy(found.cluster_centers_).to(book.codes)
            book.used.fill_(1.0)
            book.sums.copy_(book.codes)

    def stages(self) -> tuple[Stage, ...]:
        s = self.settings

        def losses(batch: Batch, step: int) -> dict[str, Tensor]:
            h = self.encoder(batch.x)
            posterior = self.posterior_of(h)
            heard = loudest(h[:, -1])
            points, numbers = h[:, : self.latent].transpose(1, 2)[heard], posterior.numbers[heard]
            codes = self.codebook.codes[numbers]
            if self.codebook.training:
                self.codebook.learn(points.detach(), numbers)
            share = torch.bincount(numbers, minlength=s["codes"]) / len(numbers)
            return {
                "distance": spectral_distance(batch.x, self.decode(posterior.mean, batch.c), overlap=2).mean(),
                "commit": F.mse_loss(points, codes),
                "perplexity": torch.special.entr(share).sum().exp(),
            }

        return (
            Stage(
                "autoencode",
                s["steps"]["autoencode"],
                losses,
                {"distance": 1.0, "commit": s["commit"], "perplexity": 0.0},
                ("encoder", "codebook", "decoder"),
                batch_size=s["batch_size"],
                healthy={"distance": (0.5, 0.9), "perplexity": (0.2 * s["codes"], s["codes"])},
                prepare=self.start_from_data,
            ),
        )


DEFAULTS = {
    "codes": 512,
    "latent": 32,
    "n_fft": 1024,
    "hidden": 256,
    "iterations": 4,
    "conditional": False,
    "commit": 0.25,
    "batch_size": 16,
    "steps": {"autoencode": 450},
}
PRESETS = {
    "tiny": {
        "codes": 16,
        "latent": 8,
        "n_fft": 256,
        "hidden": 16,
        "iterations": 1,
        "batch_size": 8,
        "steps": {"autoencode": 30},
    },
    "small": {},
    "base": {"codes": 1024, "latent": 64, "hidden": 512, "batch_size": 32, "steps": {"autoencode": 60_000}},
}
TINY = {**PRESETS["tiny"], "length": 4096, "rate": 8000, "labels": ("a", "b"), "steps": {"autoencode": 2}}


def build(*, length: int, rate: int, labels: Sequence[str] = (), **settings) -> Vq:
    """A new model for clips of `length` values at `rate` Hz.

    Arguments:
        codes: K, timbres that there are. latent: L, of the points that stand for them. n_fft: values in a frame; the next
            begins half a frame later. hidden: channels. iterations: of Griffin-Lim within the decoder.
        conditional: the decoder sees the label. commit: weight of the distance between points and their codes.
    """
    return Vq({"length": length, "rate": rate, "labels": tuple(labels), **complete("vq", DEFAULTS, settings)})
