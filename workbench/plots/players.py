"""Players of clips, which play in JupyterLab and in a page without a network."""

__all__ = ["audio", "audio_row", "player"]

import base64
import html

from workbench.data.audio import encode

# of all that sounds on a page only what began last goes on; widgets/base.js says the same of its own
ALONE = "if(window.sounding!==this)window.sounding?.pause();window.sounding=this"


def audio(x, rate: float, title: str = ""):
    """A player of a clip (T,) in [-1, 1], which also plays in the HTML page. Never normalised; beyond 1 it clips."""
    return _html(player(x, rate, title))


def audio_row(clips, rate: float, titles=None):
    """Small players of clips (n, T) side by side, each below its title."""
    titles = [""] * len(clips) if titles is None else titles
    if len(titles) != len(clips):
        raise ValueError(f"{len(titles)} names came with {len(clips)} clips: give one each.")
    players = "".join(player(x, rate, title) for x, title in zip(clips, titles, strict=True))
    return _html(f'<div style="display:flex;flex-wrap:wrap;gap:6px 12px">{players}</div>')


def player(x, rate: float, title: str = "") -> str:
    """The HTML of a player; lossless FLAC, which stores the silence of a padded clip for nothing."""
    data = base64.b64encode(encode(x, rate)).decode()
    caption = (
        f'<figcaption style="font-size:12px;overflow-wrap:anywhere">{html.escape(str(title))}</figcaption>'
        if title
        else ""
    )
    return (
        f'<figure style="margin:0;width:220px">{caption}<audio controls preload="metadata" onplay="{ALONE}" '
        f'style="width:100%;height:32px" src="data:audio/flac;base64,{data}"></audio></figure>'
    )


def _html(text: str):
    from IPython.display import HTML

    return HTML(text)
