"""What a report says of a run: reconstructions beside baselines, priors on one encoder, draws as descriptors hear them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torchaudio
from scipy.spatial.distance import pdist
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import confusion_matrix
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from workbench import autoencoder, evidence, metrics, runs, saved, training
from workbench.autoencoder import Autoencoder
from workbench.data import Clips, descriptors
from workbench.errors import UsageError
from workbench.nn.losses import magnitudes, spectral_distance
from workbench.nn.noise import keyed_noise
from workbench.nn.priors import PRIORS, prior

__all__ = [
    "Draws",
    "beside",
    "draws",
    "nearest",
    "open_run",
    "pca_griffin_lim",
    "priors",
    "reconstructions",
    "side_by_side",
]

MOST = 128  # held-out clips a report decodes, and clips of one label it draws at most
PCA_CLIPS = 2048


def open_run(source) -> tuple[Autoencoder, Clips]:
    """The model of a run and the clips that it was trained on, refused where they no longer fit together."""
    clips, record = saved.clips_of(source), runs.read(source)
    model = autoencoder.load(source)
    if clips.fingerprint != record["data"]:
        print(
            f"The store {clips.store} has changed since {source} was trained: clips may have moved between its splits."
        )
    apart = {"pack": "of packs of their own", "cluster": "whose near-duplicates are held out with them"}
    print(
        f"{source}: family {model.family}, {len(clips.split('train')):,} training clips; {len(clips.split('test')):,} test clips "
        + apart[clips.manifest["settings"]["split_by"]]
    )
    if not clips.manifest["shareable"]:
        print("This page holds originals, which the pack's card does not call shareable: keep it to yourself.")
    return model, clips


def nearest(clips: Clips, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions in `clips` of the nearest log-mel neighbour of each vector (n, D), and the cosine similarity."""
    distance, rows = NearestNeighbors(n_neighbors=1, metric="cosine").fit(clips.vectors()).kneighbors(vectors)
    return rows[:, 0], 1 - distance[:, 0]


def side_by_side(model: Autoencoder, clips: Clips, n: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Originals and their reconstructions in turn, (2 n, T), and a title for each."""
    rows = clips.some(n, seed)
    x = torch.from_numpy(clips.audio(rows))[:, None]
    c = model.context_of(clips, rows)
    y = model.render(model.batched(model.encode, x), c)
    distance, named = spectral_distance(x, y), clips.index.iloc[rows]
    titles = [
        t
        for label, name, d in zip(named.label, named["name"], distance, strict=True)
        for t in (f"{label}: {name}", f"comes back ({d:.2f})")
    ]
    return torch.stack([x, y], 1)[:, :, 0].flatten(0, 1).numpy(), titles


def beside(clips: Clips, drawn: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Draws (n, T) and the nearest of the clips in turn, (2 n, T), and a title for each."""
    near, alike = nearest(clips, descriptors.embed(drawn, clips.rate))
    found = clips.index.iloc[near]
    like = [f"nearest: {a} {b} ({s:.2f})" for a, b, s in zip(found.label, found["name"], alike, strict=True)]
    titles = [t for pair in zip(names, like, strict=True) for t in pair]
    return np.stack([drawn, clips.audio(near)], 1).reshape(-1, clips.length), titles


def pca_griffin_lim(fit: Tensor, x: Tensor, k: int, n_fft: int = 1024, hop: int = 256) -> Tensor:
    """Clips (n, 1, T) as k principal components of their spectra would give them back.

    Components of the cube root of STFT magnitudes (which keeps more of a drum than the logarithm does), found on the
    clips `fit`; phases by 32 steps of Griffin and Lim, 1984, https://doi.org/10.1109/TASSP.1984.1164317
    """
    window = torch.hann_window(n_fft)

    def spectra(clips: Tensor) -> Tensor:
        parts = [
            torch.stft(c[:, 0], n_fft, hop, window=window, pad_mode="constant", return_complex=True)
            for c in clips.split(64)
        ]
        return torch.cat([p.abs().pow(1 / 3) for p in parts])

    a = spectra(fit).flatten(1)
    centre = a.mean(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        components = torch.pca_lowrank(a.sub_(centre), min(k, len(fit) - 1), center=False, niter=3)[2]
    del a
    s = spectra(x)
    back = ((s.flatten(1) - centre) @ components @ components.T + centre).clamp_min(0).pow(3).reshape(s.shape)
    back = torch.minimum(back, s.pow(3).amax((1, 2), keepdim=True))  # the cube of an overshoot is a blast
    vocode = torchaudio.transforms.GriffinLim(n_fft, 32, hop_length=hop, power=1.0, rand_init=False, length=x.shape[-1])
    return torch.cat([vocode(b) for b in back.split(32)])[:, None]


def convergence(x: Tensor, y: Tensor) -> float:
    """Spectral convergence, mean over clips (n, 1, T): the error of magnitudes over the magnitudes, 1 for silence
    (Arik et al., 2018, https://arxiv.org/abs/1808.06719)."""
    a, b = (magnitudes(v, 1024, 256).flatten(1) for v in (x, y))
    return float(((a - b).norm(dim=1) / a.norm(dim=1).clamp_min(1e-9)).mean())


def reconstructions(model: Autoencoder, clips: Clips) -> tuple[pd.DataFrame, np.ndarray]:
    """Spectral distance of held-out clips from their reconstructions, beside what any model must beat.

    Baselines of the same run: the nearest training clip, principal components with as many numbers and Griffin-Lim,
    and silence. Returns a table (what, distance, low, high: 95 % bootstrap over clips, convergence, n, numbers per clip) and
    the distances of the model, one per clip.
    """
    fit, held = clips.split("train"), clips.split("test")
    rows = np.linspace(0, len(held) - 1, min(len(held), MOST)).astype(int)
    x = torch.from_numpy(held.audio(rows))[:, None]
    c = model.context_of(held, rows)
    z = model.batched(model.encode, x)
    some = np.random.default_rng(0).permutation(len(fit))[:PCA_CLIPS]
    numbers = z[0].numel()
    made = {
        "this model": model.render(z, c),
        f"PCA-{min(numbers, len(some) - 1)} + Griffin-Lim": pca_griffin_lim(
            torch.from_numpy(fit.audio(np.sort(some)))[:, None], x, numbers
        ),
        "nearest training clip": torch.from_numpy(fit.audio(nearest(fit, held.vectors(rows))[0]))[:, None],
        "silence": torch.zeros_like(x),
    }
    distances = {
        what: torch.cat([spectral_distance(a, b) for a, b in zip(x.split(32), y.split(32), strict=True)]).numpy()
        for what, y in made.items()
    }
    table = [
        {
            "what": what,
            "distance": d.mean(),
            **dict(zip(("low", "high"), metrics.bootstrap(d), strict=True)),
            "convergence": convergence(x, made[what]),
            "n": len(d),
        }
        for what, d in distances.items()
    ]
    return pd.DataFrame(table).assign(numbers=[numbers, min(numbers, len(some) - 1), 0, 0]), distances["this model"]


def priors(
    model: Autoencoder,
    clips: Clips,
    kinds: Sequence[str] = PRIORS,
    steps: int = 800,
    seed: int = 0,
    labelled: bool = True,
    at: evidence.Reference | None = None,
) -> pd.DataFrame:
    """Every kind of prior, fitted on the training latents of the same frozen encoder and judged on held-out ones.

    Arguments:
        labelled: may priors know the label, as the model's own does? at: what decoded draws are measured against.
    Returns a table: prior, log_likelihood in nats per clip (of draws of q, given the label), its 95 % interval over
    clips, of 1,000 draws the mmd from the held-out latents and the auc of telling them apart (0.5 is chance), the floor
    of the former (training latents against held-out ones); with `at`, of at.n decoded draws all of its measures; trained
    parameters and seconds of fitting. The model keeps the prior that it came with.
    """
    if not kinds:
        raise UsageError(f"No priors were named to compare; name some of {', '.join(PRIORS)}.")
    if model.context_spec and not labelled:
        raise UsageError(
            "This decoder is conditional, so draws need a label: priors that know none cannot be compared."
        )
    own, table = model.prior, []
    h = {name: model.features(clips.split(name)) for name in ("train", "valid", "test")}

    def latents(name: str) -> Tensor:
        noise = keyed_noise([seed, 11], range(len(h[name])), *model.latent_shape(h[name]))
        return model.batched(lambda f, e: model.posterior_of(f).sample(e), h[name], noise)

    held, known = latents("test"), latents("train")
    contexts = len(model.labels) if labelled else 0
    c = torch.from_numpy(clips.split("test").context()) if contexts else None
    bandwidth = float(np.median(pdist(held)))
    floor = metrics.mmd(held, known[np.random.default_rng(seed).permutation(len(known))[:1000]], bandwidth)
    try:
        for kind in kinds:
            with torch.random.fork_rng():
                torch.manual_seed(seed)  # a flow's first weights
                model.prior = prior(kind, own.latent, contexts, **model.settings.get("flow", {}))
            begun = time.perf_counter()
            training.fit_stage(model, model.prior_stage(steps, (h["train"], h["valid"])), clips, seed)
            seconds = time.perf_counter() - begun
            with torch.inference_mode():
                nats = model.prior.eval().log_prob(held, c).numpy()
            drawn, asked = model.draw(1000, seed=seed)
            low, high = metrics.bootstrap(nats)
            heard = {}
            if at is not None:
                c_n = asked[: at.n] if model.context_spec and asked is not None else None
                heard = at.measure(at.points(model.render(drawn[: at.n], c_n)[:, 0].numpy()))
            table.append(
                {
                    "prior": kind,
                    "log_likelihood": nats.mean(),
                    "low": low,
                    "high": high,
                    "mmd": metrics.mmd(held, drawn, bandwidth),
                    "floor": floor,
                    "auc": metrics.auc(held, drawn[: len(held)], seed) if len(held) >= 10 else np.nan,
                    **heard,
                    "n": len(nats),
                    "parameters": sum(v.numel() for v in model.prior.parameters()),
                    "seconds": round(seconds, 1),
                }
            )
    finally:
        model.prior = own
    return pd.DataFrame(table)


@dataclass(frozen=True)
class Draws:
    """Draws of a model, judged by descriptors.

    accuracy: of a classifier of real training clips, on held-out clips and on draws by label, each label counting the
    same · confusion: (asked, heard) shares of the draws · vendi: per label, effective numbers of real and drawn clips
    at equal n · kolmogorov: per descriptor, distance of unlabelled draws from held-out clips, and the floor: training
    clips from held-out ones at the same n · memorisation: see `metrics.memorisation` · values: the descriptors
    themselves, held-out and drawn
    """

    accuracy: dict[str, float]
    confusion: pd.DataFrame
    vendi: pd.DataFrame
    kolmogorov: pd.DataFrame
    memorisation: float
    values: tuple[np.ndarray, np.ndarray]

    def summary(self) -> dict[str, float]:
        return {
            "label accuracy ratio": self.accuracy["draws"] / self.accuracy["held-out"],
            "diversity ratio": self.vendi.ratio.mean(),
            "memorisation": self.memorisation,
            "descriptor distance": self.kolmogorov.draws.mean(),
            "descriptor floor": self.kolmogorov.floor.mean(),
        }

    def __str__(self) -> str:
        s = self.summary()
        return (
            f"The asked label is heard in {self.accuracy['draws']:.0%} of draws and {self.accuracy['held-out']:.0%} of held-out "
            f"clips (ratio {s['label accuracy ratio']:.2f}); within-label diversity is {s['diversity ratio']:.2f} of the real clips'; "
            f"memorisation of log-mel pictures {self.memorisation:.2f} (below 0.8 is suspicious); descriptors of unlabelled draws are "
            f"{s['descriptor distance']:.2f} from held-out clips (Kolmogorov-Smirnov; floor {s['descriptor floor']:.2f})."
        )


def forest(seed: int = 0) -> RandomForestClassifier:
    """A classifier in which each label counts the same, however many clips it has."""
    return RandomForestClassifier(300, min_samples_leaf=2, class_weight="balanced", random_state=seed, n_jobs=2)


def judged_labels(model: Autoencoder, clips: Clips, least: int = 8) -> list[str]:
    """Labels with enough clips to judge draws by, at least `least` for training and 2 held out; none if fewer than two."""
    count = clips.split("train").index.label.value_counts()
    some = clips.index.label[clips.index.split.isin(["valid", "test"])].value_counts()
    labels = [label for label in model.labels if count.get(label, 0) >= least and some.get(label, 0) >= 2]
    return labels if len(labels) > 1 else []


def unlabelled(model: Autoencoder, clips: Clips, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As many draws without label as there are held-out clips, 4 MOST at most, (n, T); log-mel vectors of these clips, and of the draws.

    Of these is the number "memorisation"; "memorisation-descriptors" and the like are of `evidence`, under an embedding.
    """
    held = np.concatenate([clips.split(s).vectors() for s in ("valid", "test")])
    made = model.sample(min(len(held), 4 * MOST), seed=seed + 1)[:, 0].numpy()
    return made, held, descriptors.embed(made, model.rate)


def draws(model: Autoencoder, clips: Clips, seed: int = 0, least: int = 8, each: int = 32) -> Draws:
    """Judge draws with and without label; labels with fewer than `least` training or 2 held-out clips are left out."""
    labels = judged_labels(model, clips, least)
    if not labels:
        raise UsageError(
            f"Judging draws by label needs two labels with at least {least} training and 2 held-out clips each."
        )
    fit = clips.split("train")
    held = pd.concat([clips.split("valid").index, clips.split("test").index])
    count = fit.index.label.value_counts()
    names = list(descriptors.NAMES)
    real, real_label = (fit.index.loc[fit.index.label.isin(labels), k] for k in (names, "label"))
    kept, kept_label = (held.loc[held.label.isin(labels), k] for k in (names, "label"))
    judge = forest().fit(real.to_numpy(), real_label)
    drawn = {
        label: descriptors.matrix(model.sample(each, label=label, seed=seed)[:, 0].numpy(), model.rate)
        for label in labels
    }
    heard = {label: judge.predict(x) for label, x in drawn.items()}
    confusion = confusion_matrix(
        np.repeat(labels, each), np.concatenate([heard[label] for label in labels]), labels=labels, normalize="true"
    )
    truth = confusion_matrix(kept_label, judge.predict(kept.to_numpy()), labels=labels, normalize="true")

    centre, spread = real.mean().to_numpy(), real.std().to_numpy() + 1e-9
    diversity = []
    for label in labels:
        own = ((real[real_label == label].to_numpy() - centre) / spread)[
            np.random.default_rng(seed).permutation(int(count[label]))[:each]
        ]
        made = ((drawn[label] - centre) / spread)[: len(own)]
        bandwidth = float(np.median(pdist(own)))
        diversity.append(
            {
                "label": label,
                "n": len(own),
                "real": metrics.vendi(own, bandwidth=bandwidth),
                "draws": metrics.vendi(made, bandwidth=bandwidth),
            }
        )
    vendi = pd.DataFrame(diversity)

    free_clips, unknown, new = unlabelled(model, clips, seed)
    n, free = len(free_clips), descriptors.matrix(free_clips, model.rate)
    other = fit.index[names].to_numpy()[np.random.default_rng(seed).permutation(len(fit))[:n]]
    table = pd.DataFrame(
        {
            "descriptor": names,
            "draws": metrics.kolmogorov(held[names], free),
            "floor": metrics.kolmogorov(held[names], other),
        }
    )
    return Draws(
        {"held-out": truth.diagonal().mean(), "draws": confusion.diagonal().mean()},
        pd.DataFrame(confusion, labels, labels),
        vendi.assign(ratio=vendi.draws / vendi.real),
        table,
        metrics.memorisation(fit.vectors(), unknown, new),
        (held[names].to_numpy(), free),
    )
