"""What a latent tells of a clip's label, and whether the decoder does as label and attributes say."""

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import balanced_accuracy_score

from workbench.autoencoder import Autoencoder
from workbench.data import Clips, descriptors
from workbench.errors import UsageError
from workbench.evaluation import metrics
from workbench.evaluation.draws import forest, judged_labels

__all__ = ["attributes_obeyed", "check", "labels_of", "obeyed", "probes", "put"]


def check(model: Autoencoder) -> None:
    """Refuse a family that cannot draw a label, and a decoder that sees none."""
    if model.prior is None:
        raise UsageError(
            f"A '{model.family}' model has no law of whole clips, so no label can be drawn; take a single-vector family."
        )
    if not model.context_spec:
        raise UsageError(
            f"A '{model.family}' model whose decoder sees no label has nothing to obey; train one that does: -p family wae, or another with "
            "-p settings '{\"conditional\": true}'."
        )


def labels_of(model: Autoencoder, clips: Clips) -> list[str]:
    """Labels that can be judged; UsageError for fewer than two."""
    labels = judged_labels(model, clips)
    if not labels:
        raise UsageError("Judging labels needs two with at least 8 training and 2 held-out clips each.")
    return labels


def probes(model: Autoencoder, clips: Clips, seed: int = 0) -> dict[str, float]:
    """Balanced accuracy on held-out latents of fresh probes that tell the label: a line, a forest; and that of guessing."""
    labels = labels_of(model, clips)
    fit, *held = ((p, p.index.label.isin(labels).to_numpy()) for p in map(clips.split, ("train", "valid", "test")))
    z, y = model.latents(fit[0]).flatten(1).numpy()[fit[1]], fit[0].index.label[fit[1]]
    z_held = np.concatenate([model.latents(part).flatten(1).numpy()[known] for part, known in held])
    y_held = np.concatenate([part.index.label[known] for part, known in held])
    classifier = forest(seed)
    return {
        "linear": metrics.linear_probe(z, y, z_held, y_held),
        "forest": float(balanced_accuracy_score(y_held, classifier.fit(z, y).predict(z_held))),
        "guessing": 1 / len(labels),
    }


def obeyed(model: Autoencoder, clips: Clips, n: int = 12, seed: int = 0) -> pd.DataFrame:
    """How often a classifier of real training clips hears the label that was asked for.

    The classifier is linear, on `descriptors.embed`. Returns a row per label that can be judged: clips of training; share
    of real held-out clips of the label in which it is heard; the same of n held-out clips of other labels, encoded and decoded
    with this one instead of all that is known of them (changed), and of n draws of it (drawn).
    """
    labels = labels_of(model, clips)
    fit, held = clips.split("train"), [clips.split("valid"), clips.split("test")]
    known = fit.index.label.isin(labels).to_numpy()
    judge = metrics.linear().fit(fit.vectors()[known], fit.index.label[known])
    heard = np.concatenate([judge.predict(part.vectors()) for part in held])
    label = np.concatenate([part.index.label for part in held])
    rows = held[1].some(4 * n, seed)
    own = held[1].index.label.to_numpy()[rows]
    z = model.batched(model.encode, torch.from_numpy(held[1].audio(rows))[:, None])
    table = []
    for asked in labels:
        other = z[own != asked][:n]
        made = model.render(other, model.context(asked, len(other))), model.sample(n, label=asked, seed=seed)
        changed, drawn = (np.mean(judge.predict(descriptors.embed(x[:, 0].numpy(), model.rate)) == asked) for x in made)
        real = np.mean(heard[label == asked] == asked)
        table.append((asked, int((fit.index.label == asked).sum()), real, changed, drawn))
    return pd.DataFrame(table, columns=["label", "n", "real", "changed", "drawn"])


def attributes_obeyed(model: Autoencoder, clips: Clips, n: int = 12, seed: int = 0) -> pd.DataFrame:
    """How often a classifier of real training clips hears the attribute that a clip was changed to, all else as it was.

    A linear classifier on `descriptors.embed` for each kind of attribute that clips differ in. Returns a row per attribute:
    clips of training; share of real held-out clips that have it in which it is heard; the same of up to n held-out clips that
    have another of its kind, decoded with their own (own) and with this one instead (changed). Where `real` is hardly above
    `guessing`, the classifier cannot judge.
    """
    spec, kinds = np.array(model.context_spec), np.array(model.context_kinds)
    fit, held = clips.split("train"), clips.split("test")
    c_fit, c_held = model.context_of(fit).numpy(), model.context_of(held)
    table = []
    for kind in dict.fromkeys(kinds[len(model.labels) :]):
        words = np.flatnonzero(kinds == kind)
        known, has = c_fit[:, words].sum(1) == 1, c_held[:, words].numpy()
        if len(words) < 2:
            continue
        judge = metrics.linear().fit(fit.vectors()[known], spec[words][c_fit[known][:, words].argmax(1)])
        heard = judge.predict(held.vectors())
        for i, word in enumerate(spec[words]):
            others = np.flatnonzero((has.sum(1) == 1) & (has[:, i] == 0))
            rows = np.sort(np.random.default_rng(seed).permutation(others)[:n])
            if not len(rows) or not has[:, i].any():
                continue
            z, c = model.batched(model.encode, torch.from_numpy(held.audio(rows))[:, None]), c_held[rows]
            made = model.render(z, c), model.render(z, put(model, c, word))
            shares = (np.mean(judge.predict(descriptors.embed(x[:, 0].numpy(), model.rate)) == word) for x in made)
            real = np.mean(heard[has[:, i] == 1] == word)
            table.append((word, int(c_fit[:, words[i]].sum()), 1 / len(words), real, *shares))
    return pd.DataFrame(table, columns=["attribute", "n", "guessing", "real", "own", "changed"])


def put(model: Autoencoder, c: torch.Tensor, word: str) -> torch.Tensor:
    """Contexts (n, C) with this label or attribute in the place of the one of its kind that they had."""
    if word not in model.context_spec:
        raise UsageError(f"The decoder knows no label or attribute '{word}'; it knows {', '.join(model.context_spec)}.")
    kinds = np.array(model.context_kinds)
    i, c = model.context_spec.index(word), c.clone()
    c[:, kinds == kinds[i]] = 0
    c[:, i] = 1
    return c
