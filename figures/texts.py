"""The tables of the thesis, the results that its prose may name, and the appendix that says what made them."""

import flows
import pandas as pd
import yaml
from flows import CONTRASTS, MEASURES, POSTERIORS, PRIORS, counted, decimal, said
from named import DEMO, FLOORS, FOLDS, GENERATED, HOME, LADDER, MAIN, ROWS, STEPS

from workbench import thesis
from workbench.evaluation import export
from workbench.evaluation.rows import flat


@STEPS.step(f"{GENERATED}/demo-ladder.tex", "demo/ladder.csv")
def ladder_table(table: pd.DataFrame) -> str:
    table = table.assign(set=[LADDER[what][1] for what in table.what]).set_index("set").drop(columns="what")
    caption = (
        "Sets of one size against the held-out clips of the built-in pack: what each measure says of sets whose worth is "
        "known. Lower is better for FAD and KID, higher for coverage and diversity, each read beside its floor."
    )
    return export.latex(table.map(said), caption, "tab:ladder")


@STEPS.step(f"{GENERATED}/demo-reconstructions.tex", "demo/reconstructions.csv")
def reconstructions(table: pd.DataFrame) -> str:
    shown = pd.DataFrame(
        {
            "numbers per clip": table.numbers.map(str),
            "distance": table.distance.map(said),
            "95 % interval": [f"{said(a)} to {said(b)}" for a, b in zip(table.low, table.high, strict=True)],
        },
    ).set_index(table.what.rename(""))
    n = table.n.iloc[0]
    return export.latex(
        shown, f"Spectral distance of {n} held-out clips of the built-in pack; lower is better.", "tab:reconstructions"
    )


@STEPS.step(f"{GENERATED}/demo-priors.tex", "demo/priors.csv")
def priors(table: pd.DataFrame) -> str:
    shown = table.set_index("prior").rename(index=PRIORS)
    shown = shown.rename(columns={"log_likelihood": "log-likelihood"})
    shown = shown[["log-likelihood", "mmd", "auc", *MEASURES]].map(said).rename(columns={"mmd": "MMD", "auc": "AUC"})
    caption = (
        "Priors that know the label, on the frozen encoder of the built-in run: log-likelihood of held-out latents in nats "
        f"per clip, discrepancy of draws from them (MMD, floor {said(table.floor.iloc[0])}), how well a linear classifier "
        "tells the two apart (AUC, 0.5 is chance), and what is heard of the decoded draws."
    )
    return export.latex(shown, caption, "tab:demo-priors")


@STEPS.step(f"{GENERATED}/flows-main.tex", ROWS, FLOORS)
def main_table(rows: pd.DataFrame, floors: pd.DataFrame) -> str:
    sweep = flows.read(rows)
    body = {}
    for q in POSTERIORS:
        for p in PRIORS:
            cells = {name: sweep.wide[name][flows.arm(q, p)] for name in MEASURES}
            body[f"{POSTERIORS[q]}, prior {PRIORS[p]}"] = {
                name: decimal(name, v.mean()) + (f" ± {decimal(name, v.std())}" if len(v) > 1 else "")
                for name, v in cells.items()
            }
    means = floors.groupby("number").value.mean()
    body["other real clips (floor)"] = {name: decimal(name, means[name]) for name in MEASURES}
    caption = (
        f"Draws against held-out clips of machines never heard, {sweep.where}: mean and standard deviation over "
        f"{counted(sweep.rows.store.nunique(), 'fold')}, under the embedding {sweep.embedding}."
    )
    return export.latex(pd.DataFrame(body).T, caption, "tab:main")


@STEPS.step(f"{GENERATED}/flows-contrasts.tex", ROWS)
def contrasts(rows: pd.DataFrame) -> str:
    sweep, body = flows.read(rows), {}
    for key, (words, *_) in CONTRASTS.items():
        d = sweep.contrasts[key, "FAD"]
        body[words] = {
            "difference": flows.signed(d.mean),
            "95 % interval": flows.between(d),
            "detectable": said(d.detectable),
        }
    caption = (
        f"Paired differences of FAD {sweep.where}, over {counted(sweep.contrasts['prior', 'FAD'].n, 'fold')}. "
        "\\emph{Detectable} is the true difference that as many would find in four of five such experiments."
    )
    return export.latex(pd.DataFrame(body).T, caption, "tab:contrasts")


@STEPS.step(f"{GENERATED}/flows-secondary.tex", ROWS)
def secondary(rows: pd.DataFrame) -> str:
    sweep = flows.read(rows)
    body = {
        words: {name: with_interval(name, sweep.contrasts[key, name]) for name in MEASURES if name != "FAD"}
        for key, (words, *_) in CONTRASTS.items()
    }
    caption = f"The same differences of the other measures {sweep.where}, with 95~\\% intervals where there are several folds."
    return export.latex(pd.DataFrame(body).T, caption, "tab:secondary")


def with_interval(name: str, d: flows.Difference) -> str:
    sign = "+" * (d.mean >= 0)
    ends = f" [{decimal(name, d.low)}, {decimal(name, d.high)}]" if d.n > 1 else ""
    return f"{sign}{decimal(name, d.mean)}{ends}"


@STEPS.step(f"{GENERATED}/flows-likelihood.tex", ROWS)
def likelihoods(rows: pd.DataFrame) -> str:
    body = {}
    order = rows.assign(posterior=pd.Categorical(rows.posterior, list(POSTERIORS), ordered=True))
    for (q, beta), part in order.groupby(["posterior", "beta"], observed=True):
        own = part[part.prior == "standard"]
        means = part.groupby("prior").log_likelihood.mean()
        body[f"{POSTERIORS[q]}, beta {beta:g}"] = {
            "nats": said(own.nats.mean()),
            "distance": said(own.distance.mean()),
            **{PRIORS[p]: said(means[p]) for p in PRIORS},
        }
    caption = (
        "Nats spent and spectral distance of reconstructions, and the log-likelihood of held-out latents under each prior "
        "(nats per clip; means over folds). Likelihoods compare within a line, which is one encoder's, not between lines."
    )
    return export.latex(pd.DataFrame(body).T, caption, "tab:likelihood")


@STEPS.step(f"{GENERATED}/folds.tex", FOLDS)
def folds(table: pd.DataFrame) -> str:
    names = {"machines": "machines", "train": "training", "valid": "validation", "test": "test", "near": "left out"}
    shown = (
        table[list(names)]
        .rename(columns=names)
        .map(str)
        .set_index(pd.Index([f"fold {i + 1}" for i in range(len(table))]))
    )
    caption = (
        "The drum machines by folds: clips in each part. Whole machines are held out; clips left out are test and "
        "validation clips that nearly equal a training clip of another machine."
    )
    return export.latex(shown, caption, "tab:folds")


# -------------------------------------------------------------------------- what prose may name


@STEPS.step(
    f"{GENERATED}/results.tex",
    ROWS,
    FOLDS,
    FLOORS,
    *(
        f"demo/{name}.csv"
        for name in ("ladder", "labels", "numbers", "damage", "priors", "reconstructions", "run", "map", "counts")
    ),
)
def results(rows, parts, floors, ladder, labels, numbers, damage, priors, reconstructions, run, places, counts) -> str:
    from workbench.data import descriptors
    from workbench.data.synthesis import LABELS, MACHINES
    from workbench.models import wave
    from workbench.nn.losses import SCALES

    found = {f"flows/{k}": v for k, v in flows.results(flows.read(rows), parts, floors).items()}
    run = dict(zip(run.number, run.value, strict=True))
    for what, row in ladder.set_index("what").iterrows():
        found |= {f"demo/{LADDER[what][0]}/{name}": said(value) for name, value in row.items()}
    for name, row in numbers.set_index("number").iterrows():
        short = name.removesuffix(f"-{row.embedding}")
        found[f"demo/interval/{short}"] = f"{said(row.low)} to {said(row.high)}"
        found[f"demo/floor interval/{short}"] = f"{said(row.floor_low)} to {said(row.floor_high)}"
        found[f"demo/value/{short}"] = said(row.value)
    fails = sorted(set(damage.kind[~damage.grows]))
    found["demo/damage"] = (
        f"it does not grow with {', '.join(fails)}, so it is not to be trusted there"
        if fails
        else "it grows with each grade"
    )
    judged = labels.assign(ratio=labels.draws / labels.floor)
    best, worst = judged.loc[judged.ratio.idxmin()], judged.loc[judged.ratio.idxmax()]
    found |= {
        "demo/labels": str(len(labels)),
        "demo/labels nearer than another": str(int((labels.draws < labels.other).sum())),
        "demo/best label": best.label,
        "demo/worst label": worst.label,
        "demo/best label/ratio": said(best.ratio),
        "demo/worst label/ratio": said(worst.ratio),
    }
    distance = reconstructions.set_index("what").distance
    pca = next(what for what in distance.index if what.startswith("PCA"))
    found |= {
        "demo/distance": said(distance["this model"]),
        "demo/distance/pca": said(distance[pca]),
        "demo/distance/nearest": said(distance["nearest training clip"]),
        "demo/distance/silence": said(distance["silence"]),
        "demo/minutes": said(run["seconds"] / 60),
        "demo/parameters": f"{run['parameters'] / 1e6:.1f} million",
        "demo/rate": f"{run['rate']:,.0f}",
        "demo/length": f"{run['length']:,.0f}",
        "demo/nats": said(run["nats"]),
        "demo/rise": said(run["rise"]),
        "demo/active": f"{run['active']:.0f}",
        "demo/set size": f"{run['size of sets']:.0f}",
        "demo/asked label": said(run["label accuracy ratio"]),
        "demo/within label diversity": said(run["diversity ratio"]),
        "demo/memorisation": said(run["memorisation"]),
        "demo/trust": said(places.trust.iloc[0]),
        "demo/clips": f"{counts.clips.sum():,}",
        "demo/kinds": str(len(LABELS)),
        "demo/machines": str(len(MACHINES)),
        "demo/test": str(counts.clips[counts.split == "test"].sum()),
        "demo/train": f"{counts.clips[counts.split == 'train'].sum():,}",
    }
    likelihood = priors.set_index("prior").log_likelihood
    found["demo/flow over mixture"] = flows.signed(likelihood["realnvp"] - likelihood["mixture"])
    asked = yaml.safe_load((HOME / "notebooks" / "sweeps" / f"{MAIN}.yaml").read_text("utf-8"))["runs"]
    train, fitted = (next(r["parameters"] for r in asked if r["notebook"] == name) for name in ("train", "priors"))
    found |= {
        "sweep/folds": str(next(r["parameters"]["folds"] for r in asked if r["notebook"] == "data")),
        "sweep/steps": str(train["settings"]["steps"]["autoencode"]),
        "sweep/prior steps": str(fitted["steps"]),
    }
    d = wave.DEFAULTS
    found |= {
        "wave/bands": str(wave.BANDS),
        "wave/latent": str(d["latent"]),
        "wave/stride": str(wave.STRIDE),
        "wave/iterations": str(d["iterations"]),
        "wave/warmup": str(d["warmup"]),
        "wave/window": f"{wave.WINDOW * wave.BANDS:,}",
        "wave/hop": str(wave.HOP * wave.BANDS),
        "wave/scales": ", ".join(f"{n}" for n in SCALES),
        "descriptors": str(len(descriptors.NAMES)),
    }
    return thesis.macros({name: latex(text) for name, text in found.items()})


def latex(text: str) -> str:
    return text.replace("%", r"\%").replace("−", "$-$").replace("beta", r"$\beta$").replace("N(0, I)", "$N(0, I)$")


@STEPS.step(f"{GENERATED}/provenance.tex", f"{DEMO}/provenance.json", f"{MAIN}/provenance.json")
def provenance(*records: dict) -> str:
    return "".join(entry(name, record) for name, record in zip((DEMO, MAIN), records, strict=True)) + versions(records)


@STEPS.step(f"{GENERATED}/settings.tex")
def settings() -> str:
    """The defaults of the family, from which an experiment writes only what differs."""
    from workbench.models import wave

    rows = {name: str(value) for name, value in flat(wave.DEFAULTS).items() if value not in ({}, None)}
    table = pd.DataFrame({"default": rows}).rename_axis("setting")
    return export.latex(table, "Settings of the model where an experiment says nothing else.", "tab:settings")


def entry(name: str, record: dict) -> str:
    """One collection: what made it, of which runs, and the hash of each table."""
    of, by = record["of"], record["by"]
    mark = "+" * bool(by["git"].get("dirty"))
    lines = {
        "made by": rf"\texttt{{{code(record['command'])}}}",
        "collected": f"{record['collected']}, commit \\texttt{{{by['git'].get('commit', '')[:12]}{mark}}}, on {by['device']}",
        "of": f"{of['runs']} run{'s' * (of['runs'] > 1)}, {of['from']} to {of['to']}, {said(of['minutes'])} minutes of training in all",
        "commits": ", ".join(rf"\texttt{{{c}}}" for c in of["commits"]),
        "device": f"{', '.join(of['devices'])}; threads: {', '.join(map(str, of['threads']))}",
        "data": ", ".join(rf"\texttt{{{d}}}" for d in of["data"]),
        "defined by": ", ".join(rf"\texttt{{{code(path)}}}" for path in record["inputs"]),
        "tables": ", ".join(rf"\texttt{{{code(f)}}} (\texttt{{{sha[:8]}}})" for f, sha in record["files"].items()),
    }
    body = "\n".join(rf"\item[{what}] {text}" for what, text in lines.items())
    return f"\\subsection*{{\\texttt{{figures/{name}}}}}\n\\begin{{provenance}}\n{body}\n\\end{{provenance}}\n"


def versions(records: tuple[dict, ...]) -> str:
    kinds = [{"python": record["by"]["python"], **record["of"]["versions"]} for record in records]
    listed = ", ".join(f"{name} {version}" for name, version in kinds[-1].items())
    same = all(kind == kinds[0] for kind in kinds)
    return f"\\subsection*{{Versions}}\n{'All runs' if same else 'The sweep'} used {listed}.\n"


def code(text: str) -> str:
    """For typewriter type: signs that LaTeX reads, and places where a line may end."""
    return text.replace("_", r"\_").replace("/", r"/\allowbreak ")
