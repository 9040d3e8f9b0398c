"""Priors of every kind on the same frozen encoder."""

import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import pdist
from torch import Tensor

from workbench import training
from workbench.autoencoder import Autoencoder
from workbench.data import Clips
from workbench.errors import UsageError
from workbench.evaluation import evidence, metrics
from workbench.nn.noise import keyed_noise
from workbench.nn.priors import PRIORS, prior

__all__ = ["evaluate_priors"]


def evaluate_priors(
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
            measured = {}
            if at is not None:
                c_n = asked[: at.n] if model.context_spec and asked is not None else None
                measured = at.measure(at.points(model.render(drawn[: at.n], c_n)[:, 0].numpy()))
            table.append(
                {
                    "prior": kind,
                    "log_likelihood": nats.mean(),
                    "low": low,
                    "high": high,
                    "mmd": metrics.mmd(held, drawn, bandwidth),
                    "floor": floor,
                    "auc": metrics.auc(held, drawn[: len(held)], seed) if len(held) >= 10 else np.nan,
                    **measured,
                    "n": len(nats),
                    "parameters": sum(v.numel() for v in model.prior.parameters()),
                    "seconds": round(seconds, 1),
                }
            )
    finally:
        model.prior = own
    return pd.DataFrame(table)
