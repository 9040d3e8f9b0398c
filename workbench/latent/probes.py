"""What probes read from latents: labels, factors, descriptors, and how much of a draw its sound determines."""

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import RidgeCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from workbench.autoencoder import Autoencoder
from workbench.data import Clips
from workbench.evaluation import metrics

__all__ = ["at_levels", "explained", "latent_probes"]


def latent_probes(model: Autoencoder, clips: Clips, n: int = 256, seed: int = 0) -> pd.DataFrame:
    """What latents determine: number, value, and chance, the value of a latent without information.

    A linear probe of the label and the silhouette of labels (training latents judge test latents, series by their mean);
    the rank correlation of distances between held-out latents with those of standardised descriptors; GILBO, the nats that
    a draw's sound tells of the draw, E log q(z | x) - log p(z) with x decoded from z ~ p(z), a lower bound with the
    model's own posterior (Alemi and Fischer, 2018, https://arxiv.org/abs/1802.04874); and where the true factors of the
    clips are known, as in the built-in pack, the mean mutual information gap.
    """
    fit, held = clips.split("train"), clips.split("test")
    z, seen = (v.mean(2).numpy() if v.dim() > 2 else v.numpy() for v in map(model.latents, (held, fit)))
    labels = held.index.label.to_numpy()
    shared = np.isin(labels, list(set(fit.index.label)))
    rows = []
    if len(set(fit.index.label)) > 1 and len(set(labels[shared])) > 1:
        right = metrics.linear_probe(seen, fit.index.label.to_numpy(), z[shared], labels[shared])
        rows.append(("label by a linear probe, balanced accuracy", right, 1 / len(set(labels[shared]))))
        if len(set(labels)) < len(z):
            rows.append(("silhouette of labels", metrics.silhouette(z, labels), 0.0))
    if len(z) >= 3:
        agreement = float(spearmanr(pdist(z), pdist(held.measured(fit)))[0])
        rows.append(("distances as descriptors have them, rank correlation", agreement, 0.0))
    if model.prior is not None:
        drawn, c = model.draw(n, seed=seed)
        x = model.render(drawn, c if model.context_spec else None)
        found = model.batched(lambda sound, latent: model.posterior(sound).log_prob(latent), x, drawn)
        with torch.inference_mode():
            rows.append(("GILBO, nats", float((found - model.prior.log_prob(drawn)).mean()), 0.0))
    factors = [column for column in held.index if column.startswith("factor_")]
    if factors and len(fit) > 20:
        gaps = metrics.mig(seen, fit.index[factors].to_numpy(float))
        rows.append(("mutual information gap, mean of factors", float(np.nanmean(gaps)), 0.0))
    return pd.DataFrame(rows, columns=["number", "value", "chance"])


def at_levels(model: Autoencoder, clips: Clips, decibels: float, seed: int = 0) -> Tensor:
    """The posterior mean of every clip, each at a random level of up to so many dB more or less, (N, L) or (N, L, K)"""
    gain = 10 ** (np.random.default_rng(seed).uniform(-decibels, decibels, (len(clips), 1)) / 20)
    parts = (slice(i, i + 256) for i in range(0, len(clips), 256))
    louder = (torch.from_numpy((clips.audio(part) * gain[part]).astype(np.float32))[:, None] for part in parts)
    return torch.cat([model.batched(model.encode, x) for x in louder])


def explained(
    fit: np.ndarray, target: np.ndarray, held: np.ndarray, held_target: np.ndarray, seed: int = 0
) -> dict[str, float]:
    """R² on held-out latents (m, L) of fresh probes that tell a number from a latent: a line, a forest, a network.

    The probes see none of the training of the model whose latents they are given; the strongest counts.
    """
    probes = {
        "linear": RidgeCV(np.logspace(-3, 3, 7)),
        "forest": RandomForestRegressor(200, min_samples_leaf=3, n_jobs=2, random_state=seed),
        "network": MLPRegressor(
            hidden_layer_sizes=(64, 64), alpha=1e-2, early_stopping=True, max_iter=400, random_state=seed
        ),
    }
    return {
        name: float(make_pipeline(StandardScaler(), probe).fit(fit, target).score(held, held_target))
        for name, probe in probes.items()
    }
