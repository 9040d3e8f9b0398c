"""Draws of a model measured by descriptors, with and without label."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial.distance import pdist
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import confusion_matrix

from workbench.autoencoder import Autoencoder
from workbench.data import Clips, descriptors
from workbench.errors import UsageError
from workbench.evaluation import metrics
from workbench.evaluation.reconstructions import MOST, nearest

__all__ = ["Draws", "beside", "evaluate_draws", "forest", "judged_labels", "unlabelled"]


def beside(clips: Clips, drawn: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Draws (n, T) and the nearest of the clips in turn, (2 n, T), and a title for each."""
    near, alike = nearest(clips, descriptors.embed(drawn, clips.rate))
    found = clips.index.iloc[near]
    like = [f"nearest: {a} {b} ({s:.2f})" for a, b, s in zip(found.label, found["name"], alike, strict=True)]
    titles = [t for pair in zip(names, like, strict=True) for t in pair]
    return np.stack([drawn, clips.audio(near)], 1).reshape(-1, clips.length), titles


@dataclass(frozen=True)
class Draws:
    """Draws of a model, measured by descriptors.

    accuracy: of a classifier of real training clips, on held-out clips and on draws by label, each label counting the
    same · confusion: (requested, recognised) shares of the draws · vendi: per label, effective numbers of real and drawn clips
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
            f"The requested label is recognised in {self.accuracy['draws']:.0%} of draws and {self.accuracy['held-out']:.0%} of held-out "
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


def evaluate_draws(model: Autoencoder, clips: Clips, seed: int = 0, least: int = 8, each: int = 32) -> Draws:
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
    classifier = forest().fit(real.to_numpy(), real_label)
    drawn = {
        label: descriptors.matrix(model.sample(each, label=label, seed=seed)[:, 0].numpy(), model.rate)
        for label in labels
    }
    recognised = {label: classifier.predict(x) for label, x in drawn.items()}
    confusion = confusion_matrix(
        np.repeat(labels, each),
        np.concatenate([recognised[label] for label in labels]),
        labels=labels,
        normalize="true",
    )
    truth = confusion_matrix(kept_label, classifier.predict(kept.to_numpy()), labels=labels, normalize="true")

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
