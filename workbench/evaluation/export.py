"""What leaves the workbench: tables for LaTeX, and a page of sounds for people without one."""

import contextlib
import html
import io
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from workbench import plots
from workbench.errors import UsageError
from workbench.evaluation import compare
from workbench.trained import open_run

__all__ = ["latex", "sounds"]

SIGNS = (
    ("\\", r"\textbackslash "),
    *((s, "\\" + s) for s in "&%$#_{}"),
    ("±", r"$\pm$"),
    ("−", "$-$"),
    ("×", r"$\times$"),
)
FITTED = (
    r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"  # made smaller where it is wider than the page
)
STYLE = """
body { font: 15px Helvetica, Arial, sans-serif; margin: 2em; max-width: 75em }
section { display: flex; flex-wrap: wrap; gap: 1em }
p { margin: .2em 0; overflow-wrap: anywhere; max-width: 220px }
"""


def latex(table: pd.DataFrame, caption: str, label: str) -> str:
    """A LaTeX table (booktabs, graphicx) of texts and numbers, its index first; what ends in a star is printed bold."""

    def cell(value) -> str:
        number = isinstance(value, (float, np.floating))
        text = str(value) if not number else f"{value:.4g}" if np.isfinite(value) else ""
        bold, text = text.endswith(" *"), text.removesuffix(" *")
        for sign, safe in SIGNS:
            text = text.replace(sign, safe)
        return rf"\textbf{{{text}}}" if bold else text

    lines = [
        [table.index.name or "", *table.columns],
        *([i, *row] for i, row in zip(table.index, table.to_numpy(object), strict=True)),
    ]
    head, *body = [" & ".join(map(cell, line)) + r" \\" for line in lines]
    columns = "l" + "r" * len(table.columns)
    rules = ["\\toprule", head, "\\midrule", *body, "\\bottomrule"]
    begin = [
        r"\centering\small",
        rf"\caption{{{caption}}}\label{{{label}}}",
        FITTED,
        rf"\begin{{tabular}}{{{columns}}}",
    ]
    end = [r"\end{tabular}}", r"\end{table}", ""]
    return "\n".join([r"\begin{table}", *begin, *rules, *end])


def sounds(places: Sequence[str], path: Path, n: int = 6, hidden: bool = False, seed: int = 0) -> Path:
    """Write a page that plays offline: n draws of each run in rows, and held-out originals where they may be shared.

    With `hidden` the columns of each row are shuffled and bear letters, until the reader asks for the names.
    """
    columns, notes, rng = {}, [], np.random.default_rng(seed)
    for run in compare.trained(places):
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it warns of originals, which this page leaves out
                model, clips = open_run(run)
        except UsageError as error:
            notes.append(f"{run} is left out: {error}")
            continue
        if model.prior is None:
            notes.append(f"{run} is left out: a '{model.family}' model has no prior to draw from.")
            continue
        columns[str(run)] = model.sample(n, seed=seed)[:, 0].numpy(), model.rate
        if clips.manifest["shareable"]:
            held = clips.split("test")
            columns.setdefault(
                f"real ({clips.store.name})", (held.audio(np.sort(rng.permutation(len(held))[:n])), clips.rate)
            )
        else:
            notes.append(f"Originals of {clips.store.name} are left out: its card does not call them shareable.")
    if not columns:
        raise UsageError("None of these runs can draw. " + " ".join(notes))
    names, body = list(columns), []
    for i in range(n):
        played = []
        for letter, k in zip(
            itertools.count(65), rng.permutation(len(names)) if hidden else range(len(names)), strict=False
        ):
            (clips, rate), name = columns[names[k]], html.escape(names[k])
            title = f"<b>{chr(letter)}</b><span hidden> {name}</span>" if hidden else name
            if i < len(clips):
                played.append(f"<div><p>{title}</p>{plots.player(clips[i], rate)}</div>")
        body.append(f"<h2>{i + 1}</h2><section>{''.join(played)}</section>")
    reveal = "document.querySelectorAll('span[hidden]').forEach(s => s.hidden = false)"
    button = f'<button onclick="{reveal}">Show the names</button>' if hidden else ""
    said = "".join(f"<p>{html.escape(note)}</p>" for note in dict.fromkeys(notes))
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Draws to compare</title><style>{STYLE}</style>'
    told = "A row holds one draw of each run, and a real clip where these may be passed on; levels are as they came. "
    told += "Letters are shuffled anew in each row." if hidden else ""
    page += f"<h1>Draws to compare</h1><p style='max-width:60em'>{told}</p>{button}{''.join(body)}<footer>{said}</footer></html>"
    path.write_text(page, encoding="utf-8")
    return path
