"""Runs into the small tables of this folder, each collection with its provenance:

    python figures/collect.py demo RUN           of one run of 2_train on a pack that may be shown: reports, spectra, a map
    python figures/collect.py sweep NAME ROWS    of many: the rows.csv of 8_compare, with its notebooks/sweeps/NAME.yaml

Only this trains (priors on a frozen encoder, for minutes) and reads sound; what is made of the tables does neither.
"""

import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from workbench import plots, runs, thesis
from workbench.data import clips as stored
from workbench.data import stores
from workbench.errors import UsageError
from workbench.evaluation import evidence
from workbench.evaluation.draws import evaluate_draws
from workbench.evaluation.priors import evaluate_priors
from workbench.evaluation.reconstructions import evaluate_reconstructions
from workbench.latent import layout, probes
from workbench.trained import open_run
from workbench.training import collapse, read_log

HOME = Path(__file__).resolve().parent.parent
# what the numbers of a collection mean; the model itself is told by the commit of its run
MEANING = tuple(
    f"workbench/{name}.py" for name in ("data/descriptors", "evaluation/embeddings", "evaluation/metrics", "nn/losses")
)
SHOWN = ("kick", "snare", "hat open", "chime", "lead")  # labels of the spectra, one column each
STEPS = 200  # of a flow prior on the frozen encoder, as in the demo's report
SEED = 0


def below(path, root: str) -> str:
    """A path from its last folder called `root` on: what it is called in the repository, not on this machine."""
    parts = Path(path).parts
    return "/".join(parts[len(parts) - 1 - parts[::-1].index(root) :]) if root in parts else Path(path).name


# ------------------------------------------------------------------------------------------------------------ one run


def demo(source: Path) -> None:
    """Draws, reconstructions and priors of a run, as 7_report has them; refused where the pack is not to be passed on."""
    model, clips = open_run(source)
    if not clips.manifest["shareable"]:
        raise UsageError(
            f"The card of {clips.store.name} does not call its sounds shareable: pictures of them stay here."
        )
    kept = source / "embeddings"
    at = evidence.Reference(clips, folder=kept, seed=SEED)
    found = evidence.gather(model, at, SEED)
    table, _ = evaluate_reconstructions(model, clips)
    judged = evaluate_draws(model, clips, SEED)
    used = collapse.usage(model, clips.split("test"))
    probed = probes.latent_probes(model, clips, seed=SEED)
    numbers = {"rise": used.rise, "nats": used.nats, "active": used.active, "size of sets": found.n, **judged.summary()}
    numbers |= dict(zip(probed.number, probed.value, strict=True))
    numbers |= {"parameters": sum(p.numel() for p in model.parameters()), "latents": model.latent}
    numbers |= {"rate": clips.rate, "length": clips.length, "seconds": runs.read(source)["wall_seconds"]}
    split = clips.index[clips.index.split.isin(["train", "valid", "test"])]
    counts = split.groupby(["label", "split"]).size().rename("clips").reset_index()
    tables = {
        "ladder.csv": found.ladder,
        "labels.csv": found.labels,
        "numbers.csv": found.numbers,
        "damage.csv": evidence.damage(at, seed=SEED).table,
        "priors.csv": evaluate_priors(model, clips, steps=STEPS, seed=SEED, at=at),
        "reconstructions.csv": table,
        "run.csv": pd.DataFrame({"number": numbers.keys(), "value": numbers.values()}),
        "curves.csv": curves(source / "log.jsonl"),
        "counts.csv": counts,
        "map.csv": points(model, clips),
        "spectra.npz": spectra(model, clips),
    }
    command = f".venv/bin/python figures/collect.py demo {below(source, 'runs')}"
    thesis.keep(
        HOME / "figures" / "demo",
        tables,
        command,
        thesis.made_of([source]),
        ("workbench/data/synthesis.py", *MEANING),
        HOME,
    )


def curves(log: Path) -> pd.DataFrame:
    """The numbers that a reader of the thesis looks at, of a log in which there are more."""
    table = read_log(log)
    table = table[table.split.isin(["train", "valid"]) & table["name"].isin(["distance", "nats", "nll"])]
    return table.assign(value=table.value.round(5))


def points(model, clips) -> pd.DataFrame:
    """Places of clips and draws on the map of latents."""
    laid = layout.chart(model, clips, draws=200, seed=SEED)
    asked = [""] * len(laid.draws) if laid.c is None else [model.labels[i] for i in laid.c.argmax(1)]
    places = np.concatenate([laid.clips, laid.draws]).round(3)
    what = ["clip"] * len(laid.clips) + ["draw"] * len(laid.draws)
    table = pd.DataFrame({"x": places[:, 0], "y": places[:, 1], "what": what, "label": [*clips.index.label, *asked]})
    return table.assign(trust=round(laid.trust, 4))


def spectra(model, clips) -> dict[str, np.ndarray]:
    """Held-out clips, their reconstructions and draws of the same label, as the cells of their spectrograms."""
    held = clips.split("test")
    rows = np.array([np.flatnonzero(held.index.label == label)[SEED] for label in SHOWN])
    x = torch.from_numpy(held.audio(rows))[:, None]
    c = model.context_of(held, rows)
    back = model.render(model.batched(model.encode, x), c)
    drawn = torch.cat([model.sample(1, label=label, seed=SEED) for label in SHOWN])
    sounds = torch.cat([x, back, drawn])[:, 0].numpy()
    picture = plots.spectrogram(sounds, clips.rate)
    cells = np.stack([np.asarray(trace.z) for trace in picture.data]).astype(np.int8)
    return {"cells": cells, "labels": np.array(SHOWN), "rate": np.array(clips.rate), "length": np.array(clips.length)}


# ----------------------------------------------------------------------------------------------------------- many runs


def sweep(name: str, source: Path) -> None:
    """The rows of a comparison, of each fold and seed of which every arm is there, and how the clips were cut into folds."""
    rows = pd.read_csv(source)
    roots = [Path.cwd(), *source.resolve().parents]

    def find(path: str) -> Path:
        for root in roots:
            if (root / path).is_dir():
                return root / path
        raise UsageError(f"{path}, of which {source} tells, is neither here nor beside it: go where the sweep was run.")

    places = {store: find(store) for store in rows.store.unique()}
    arms = [k for k in ("posterior", "beta", "prior") if k in rows]
    wanted = math.prod(rows[k].nunique() for k in arms)
    whole = rows.groupby(["store", "seed"])[arms[0]].transform("size") == wanted
    if not whole.any():
        raise UsageError(f"No store and seed of {source} has all {wanted} arms: let the sweep go on.")
    if not whole.all():
        left = ", ".join(f"{s} seed {k}" for s, k in rows[~whole][["store", "seed"]].drop_duplicates().to_numpy())
        print(f"Left out, as arms are missing: {left}.")
    rows = rows[whole]
    folds = [
        {
            "store": below(store, "stores"),
            **stores.manifest(places[store])["splits"],
            "machines": machines(places[store]),
        }
        for store in rows.store.unique()
    ]
    heard = pd.concat([floors(places[store], rows.embedding.iloc[0]) for store in rows.store.unique()])
    run = [find(path) for path in rows.run.unique()]
    of = thesis.made_of(run)
    minutes = {"minutes": round(rows.groupby("run").minutes.first().sum(), 1)}
    rows = rows.assign(run=[below(p, "runs") for p in rows.run], store=[below(p, "stores") for p in rows.store])
    tables = {"rows.csv": rows, "folds.csv": pd.DataFrame(folds), "floors.csv": heard}
    command = f".venv/bin/python figures/collect.py sweep {name} ROWS.csv"
    yaml = f"notebooks/sweeps/{name}.yaml"
    thesis.keep(HOME / "figures" / name, tables, command, of | minutes, (yaml, *MEANING), HOME)
    print(f"{len(rows)} rows of {len(run)} runs, {rows.store.nunique()} folds, {rows.seed.nunique()} seeds.")


def floors(store: Path, embedding: str) -> pd.DataFrame:
    """What other real clips get: every measure of training clips against held-out ones, mean over subsets of one size."""
    at = evidence.Reference(stored.Clips(store), embedding, seed=SEED)
    parts = [at.train[at.rng.permutation(len(at.train))[: at.n]] for _ in range(evidence.FLOORS)]
    table = pd.DataFrame([{name: f(at.real, part) for name, f in evidence.MEASURES.items()} for part in parts])
    low, high = table.quantile(0.025), table.quantile(0.975)
    ends = {"number": table.columns, "value": table.mean(), "low": low, "high": high, "n": at.n}
    return pd.DataFrame(ends).assign(store=below(store, "stores"))


def machines(store: Path) -> int:
    return int(pd.read_parquet(store / "index.parquet", columns=["pack"]).pack.nunique())


if __name__ == "__main__":
    try:
        match sys.argv[1:]:
            case ["demo", run]:
                demo(runs.locate(run))
            case ["sweep", name, rows]:
                sweep(name, Path(rows))
            case _:
                sys.exit(__doc__)
    except UsageError as error:
        sys.exit(f"collect: {error}")
