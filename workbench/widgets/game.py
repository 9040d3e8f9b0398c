"""The blind game "real or made?", which runs in a page without a kernel."""

import html
import json
from pathlib import Path

import numpy as np
from IPython.display import HTML

from workbench import plots

__all__ = ["real_or_made"]


def real_or_made(real, made, rate: float, seed: int = 0, trials: int = 20) -> HTML:
    """A blind game: clips of equal peak, half of them real, in random order; the guess rate comes with its 95 % interval.

    A guess is taken once its clip was played to its end. It runs in the page itself, without a kernel: in JupyterLab, in
    Voila and in the HTML export.

    Arguments:
        real, made: (n, T) clips with n >= trials / 2 each. seed: of choice and order.
    """
    half = trials // 2
    if min(len(real), len(made)) < half:
        raise ValueError(
            f"A game of {trials} trials needs {half} clips of each kind, but there are {len(real)} real and {len(made)} made."
        )
    rng = np.random.default_rng(seed)
    clips = [(x, True) for x in np.asarray(real)[rng.permutation(len(real))[:half]]]
    clips += [(x, False) for x in np.asarray(made)[rng.permutation(len(made))[:half]]]
    clips = [(0.9 * x / max(np.abs(x).max(), 1e-6), true) for x, true in clips]  # the level must not give it away
    order = rng.permutation(len(clips))
    buttons = "<button disabled>real</button> <button disabled>made</button> <output></output>"
    rows = "".join(
        f'<div class="trial">{plots.player(clips[i][0], rate, f"{n + 1}")}{buttons}</div>' for n, i in enumerate(order)
    )
    key = html.escape(json.dumps([bool(clips[i][1]) for i in order]))
    script = Path(__file__).with_name("game.js").read_text(encoding="utf-8")
    style = "display:grid;grid-template-columns:repeat(auto-fill,minmax(230px,1fr));gap:10px"
    tally = '<p><b class="tally">Play each clip to its end, then guess.</b></p>'
    return HTML(
        f'<div class="real-or-made" data-key="{key}"><div style="{style}">{rows}</div>{tally}</div>'
        f"<script>{script}</script>"
    )
