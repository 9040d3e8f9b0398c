"""Figures in one style, their way to paper, and players of clips."""

from workbench.plots.charts import (
    bars,
    counts,
    curves,
    dots,
    histograms,
    lines,
    matrix,
    scatter,
    show_clips,
    spectrogram,
)
from workbench.plots.export import NoChrome, browser, chrome, save, save_all
from workbench.plots.players import audio, audio_row, player
from workbench.plots.style import CONFIG, show_offline

__all__ = [
    "CONFIG",
    "NoChrome",
    "audio",
    "audio_row",
    "bars",
    "browser",
    "chrome",
    "counts",
    "curves",
    "dots",
    "histograms",
    "lines",
    "matrix",
    "player",
    "save",
    "save_all",
    "scatter",
    "show_clips",
    "show_offline",
    "spectrogram",
]
