"""Figures as files for print: pdf, svg and png, drawn by a Chrome that kaleido drives."""

__all__ = ["NoChrome", "browser", "chrome", "save", "save_all"]

import contextlib
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

import plotly.graph_objects as go
import plotly.io as pio

from workbench.errors import UsageError


class NoChrome(UsageError):
    """Figures cannot become pdf, svg or png files: kaleido found no Chrome or Chromium."""


def chrome() -> str | None:
    """The path of the browser that saves figures: BROWSER_PATH, else an installed Chrome or Chromium, or None."""
    from choreographer.browsers.chromium import Chromium

    if named := os.environ.get("BROWSER_PATH"):
        return shutil.which(named)
    return Chromium.find_browser(skip_local=False)


@contextlib.contextmanager
def browser():
    """Keep one Chrome for all figures saved inside: 0.3 s each instead of 4 s."""
    import kaleido

    _need_chrome()  # a server without one would keep us waiting for ever
    kaleido.start_sync_server(silence_warnings=True)
    try:
        yield
    finally:
        kaleido.stop_sync_server(silence_warnings=True)


def save(fig: go.Figure, path, width_cm: float = 15.0, height_cm: float | None = None) -> Path:
    """Write a figure as pdf, svg or png, by the ending of `path`, at a printed width; text is then 10 points.

    Raises NoChrome where there is no Chrome or Chromium to draw it.
    """
    path = Path(path)
    if (kind := path.suffix[1:].lower()) not in ("pdf", "svg", "png"):
        raise ValueError(f"{path.name} ends in {kind or 'nothing'!r}, and a figure is saved as pdf, svg or png.")
    pixels = 96 / 2.54  # CSS pixels a centimetre
    height = round(height_cm * pixels) if height_cm else fig.layout.height or 400
    _need_chrome()
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The kopts argument")  # said for each figure inside `browser`
        scale = 3 if kind == "png" else 1
        path.write_bytes(pio.to_image(fig, kind, width=round(width_cm * pixels), height=height, scale=scale))
    return path


def save_all(figs: Mapping[Path, go.Figure], width_cm: float = 15.0) -> None:
    """Save figures {path: figure} by one Chrome, and say so where there is none: what shows them goes on."""
    try:
        with browser():
            for path, fig in figs.items():
                save(fig, path, width_cm)
    except NoChrome as missing:
        print(f"The figures are not saved as files. {missing}")


def _need_chrome() -> None:
    if chrome() is None:
        raise NoChrome(
            "No Chrome or Chromium was found, and saving a figure as pdf, svg or png needs one: install chromium, or "
            "name it in the environment variable BROWSER_PATH."
        )
