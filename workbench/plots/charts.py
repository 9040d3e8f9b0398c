"""Figures in one style: arrays or tables in, a plotly Figure out; reads no file."""

__all__ = [
    "bars",
    "counts",
    "curves",
    "dots",
    "histograms",
    "lines",
    "matrix",
    "scatter",
    "show_clips",
    "spectrogram",
]

import html
import textwrap

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.plots.players import audio_row
from workbench.plots.style import COLOURS, GREY, PANEL, PATTERNS, SCALE, SYMBOLS, styled


def spectrogram(clips, rate: float, titles=None, columns: int = 4) -> go.Figure:
    """A grid of magnitudes in dB below the loudest cell of all, over time and logarithmic frequency.

    Arguments: `clips` (n, T) or (T,), `rate` in Hz, `titles` n strings. Panels hold at most 96 x 96 cells of one byte
    (64 x 64 above 16 clips), so that a hundred of them stay below a megabyte.
    """
    clips = np.atleast_2d(np.asarray(clips, dtype=np.float32))
    if clips.ndim != 2 or 0 in clips.shape:
        raise ValueError(f"Clips have shape {clips.shape}, and (n, T) with n, T >= 1 is drawn.")
    n, length = clips.shape
    titles = _named(titles, n, "clips")
    cells = 96 if n <= 16 else 64
    low, high = 40.0, rate / 2
    levels = np.stack([_levels(x, rate, cells, low, high) for x in clips])
    levels = np.clip(levels - levels.max(), -80, 0).round().astype(np.int8)

    columns = min(columns, n)
    rows = -(-n // columns)
    # a title as wide as its panel on a page: 112 characters in a row of panels
    titles = [textwrap.wrap(title, max(112 // columns, 8)) for title in titles]
    more, body = 14 * (max(1, *map(len, titles)) - 1), rows * (150 if n <= 16 else 110)
    fig = make_subplots(
        rows,
        columns,
        shared_xaxes="all",
        shared_yaxes="all",
        subplot_titles=["<br>".join(_escaped(lines)) for lines in titles],
        horizontal_spacing=0.02,
        vertical_spacing=(min(0.3 * (1 / rows), 0.12) * body + more) / (body + more * rows),
    )
    octaves = (np.log10(low), np.log10(high))
    for i, level in enumerate(levels):
        seconds = length / rate / level.shape[1]
        fig.add_heatmap(
            z=level,
            x0=seconds / 2,
            dx=seconds,
            y0=octaves[0],
            dy=(octaves[1] - octaves[0]) / (cells - 1),
            coloraxis="coloraxis",
            hovertemplate="%{x:.3f} s, %{z} dB<extra></extra>",
            row=i // columns + 1,
            col=i % columns + 1,
        )
    ticks = [f for f in (100, 1000, 10_000) if low <= f <= high]
    fig.update_yaxes(tickvals=np.log10(ticks), ticktext=["100", "1k", "10k"][: len(ticks)], showgrid=False)
    fig.update_xaxes(showgrid=False)
    fig.update_yaxes(title="Hz", col=1)
    fig.update_xaxes(title="s", row=rows)
    fig.update_annotations(font_size=11)
    fig.update_layout(coloraxis=dict(colorscale="Magma", cmin=-80, cmax=0, colorbar=dict(title="dB", thickness=10)))
    fig = styled(fig, body=50 + body + more * rows)
    return fig.update_layout(margin_t=fig.layout.margin.t + more)


def _levels(x: np.ndarray, rate: float, cells: int, low: float, high: float) -> np.ndarray:
    """(T,) -> (cells, frames) decibels; each cell is the mean power of its band, or the nearest bin where narrower."""
    width = 2048 if len(x) >= 2048 else 256
    starts = np.linspace(0, max(len(x) - 1, 0), min(cells, max(len(x) // 32, 1))).astype(int)
    padded = np.pad(x, (width // 2, width // 2))
    frames = np.lib.stride_tricks.sliding_window_view(padded, width)[starts] * np.hanning(width).astype(np.float32)
    power = np.abs(np.fft.rfft(frames)) ** 2
    edges = np.geomspace(low, high, cells + 1) / rate * width
    first = np.minimum(edges[:-1].round().astype(int), power.shape[1] - 1)
    last = np.clip(edges[1:].round().astype(int), first + 1, power.shape[1])
    summed = np.concatenate([np.zeros((len(power), 1)), np.cumsum(power, axis=1)], axis=1)
    mean = (summed[:, last] - summed[:, first]) / (last - first)
    return 10 * np.log10(np.maximum(mean, 1e-12)).T


def curves(table, healthy=None, columns: int = 3) -> go.Figure:
    """Training curves, one small panel per name: training in colour, held-out in black, stages divided by lines.

    Arguments: `table` with columns stage, step (counted anew in each stage), split ("train", "valid"), name, value, as
    `training.read_log` gives it. `healthy` maps a name to (low, high), the range of a healthy run, shaded.
    """
    if not len(table):
        raise ValueError("The training log has no rows: there is nothing to draw yet.")
    ends = table.groupby("stage", sort=False)["step"].max()
    begins = ends.cumsum() - ends
    table = table.assign(step=table["step"] + table["stage"].map(begins))
    panels = list(dict.fromkeys(table["name"]))
    fig, places = _grid(panels, columns)
    looks = {"train": ("training", COLOURS[0]), "valid": ("held-out", "black")}
    shown = set()
    for panel, place in zip(panels, places, strict=True):
        for split, rows in table[table["name"] == panel].groupby("split"):
            label, colour = looks.get(split, (split, COLOURS[5]))
            fig.add_scatter(
                x=rows["step"].to_numpy(),
                y=rows["value"].to_numpy(dtype=np.float32),
                name=label,
                mode="lines" if len(rows) > 1 else "markers",
                line=dict(color=colour, width=1.6),
                legendgroup=label,
                showlegend=label not in shown,
                **place,
            )
            shown.add(label)
        if healthy and panel in healthy:
            fig.add_hrect(*healthy[panel], fillcolor=COLOURS[2], opacity=0.15, line_width=0, layer="below", **place)
        for step in begins.to_numpy()[1:]:
            fig.add_vline(float(step), line=dict(color=GREY, width=1, dash="dot"), **place)
    rows = -(-len(panels) // min(columns, len(panels)))
    fig.update_xaxes(title="step", row=rows)
    return styled(fig, body=40 + PANEL * rows)


def bars(names, values, errors=None, title: str = "", unit: str = "", log: bool = False) -> go.Figure:
    """Named values side by side, each with its number, on a logarithmic scale where `log`; `errors` (n,) half widths or (n, 2) ends of intervals."""
    values = np.asarray(values, dtype=float)
    spread = None
    if errors is not None:
        errors = np.asarray(errors, dtype=float)
        spread = np.stack([errors, errors], -1) if errors.ndim == 1 else np.abs(errors - values[:, None])
    names = _named(names, len(values), "values")
    fig = go.Figure(
        go.Bar(
            x=values,
            y=_escaped(names),
            orientation="h",
            error_x=_ends(spread),
            marker_color=COLOURS[0],
            text=[f"{v:,.0f}" if abs(v) >= 1000 else f"{v:.3g}" for v in values],
            textposition="inside",
            insidetextanchor="start",
        )
    )
    fig.update_yaxes(autorange="reversed", showgrid=False)
    fig.update_xaxes(title=unit, rangemode="normal" if log else "tozero", **_logarithmic(values, log))
    return styled(fig, body=60 + 32 * len(values), title=title)


def dots(names, series, errors=None, title: str = "", unit: str = "", log: bool = False) -> go.Figure:
    """Several values of each name on its line, {series: (n,)}; `errors` {series: (n, 2)} are ends of intervals."""
    fig = go.Figure()
    for k, (name, values) in enumerate(series.items()):
        values = np.asarray(values, dtype=float)
        ends = (
            None if errors is None or name not in errors else np.abs(np.asarray(errors[name], float) - values[:, None])
        )
        fig.add_scatter(
            x=values,
            y=_escaped(_named(names, len(values), "values")),
            name=html.escape(str(name)),
            mode="markers",
            marker=dict(color=COLOURS[k % 8], symbol=SYMBOLS[k % len(SYMBOLS)], size=9),
            error_x=_ends(ends),
        )
    fig.update_yaxes(autorange="reversed", type="category")
    fig.update_xaxes(title=unit, **_logarithmic(np.concatenate([np.asarray(v, float) for v in series.values()]), log))
    return styled(fig, body=60 + 28 * len(names), title=title)


def lines(series, across: str, up: str, title: str = "", log: bool = False) -> go.Figure:
    """Curves {name: (x, y) or (x, y, ends (n, 2) of intervals)} with their points marked, over one axis."""
    fig = go.Figure()
    for k, (name, (x, y, *ends)) in enumerate(series.items()):
        y = np.asarray(y, dtype=float)
        fig.add_scatter(
            x=np.asarray(x, dtype=float),
            y=y,
            name=html.escape(str(name)),
            mode="lines+markers",
            line=dict(color=COLOURS[k % 8], width=1.8, dash=("solid", "dash", "dot", "dashdot")[k % 4]),
            marker=dict(symbol=SYMBOLS[k % len(SYMBOLS)], size=7),
            error_y=_ends(np.abs(np.asarray(ends[0], float) - y[:, None])) if ends else None,
        )
    fig.update_xaxes(title=across)
    fig.update_yaxes(title=up, **_logarithmic(np.concatenate([np.asarray(v[1], float) for v in series.values()]), log))
    return styled(fig, body=380, title=title)


def _logarithmic(values: np.ndarray, log: bool = True) -> dict:
    """A logarithmic axis with whole numbers at 1, 2, 5, 10, ...; plotly's own ticks have the 2 and the 5 without their zeros.

    The texts come from the values by a format, so that other `tickvals` bring texts of their own.
    """
    values = values[np.isfinite(values) & (values > 0)]
    if not log or not values.size:
        return {"type": "linear"}
    low, high = np.floor(np.log10(values.min())), np.ceil(np.log10(values.max()))
    steps = (1, 2, 5) if high - low < 4 else (1,)
    ticks = [m * 10.0**k for k in np.arange(low, high + 1) for m in steps]
    return {"type": "log", "tickvals": ticks, "tickformat": ",.10~g"}


def _ends(spread):
    if spread is not None:
        return dict(type="data", symmetric=False, arrayminus=spread[:, 0], array=spread[:, 1], thickness=1.2, width=4)


def histograms(real, other, names, labels=("real", "draws"), columns: int = 3) -> go.Figure:
    """How each column of two tables (n, D) and (m, D) is distributed: shares per bin, one panel per name."""
    real, other = np.atleast_2d(np.asarray(real, dtype=float)), np.atleast_2d(np.asarray(other, dtype=float))
    if real.shape[1] != len(names) or other.shape[1] != len(names):
        raise ValueError(f"Tables of {real.shape[1]} and {other.shape[1]} columns came with {len(names)} names.")
    fig, places = _grid(names, columns)
    for j, place in enumerate(places):
        both = [v[np.isfinite(v)] for v in (real[:, j], other[:, j])]
        if not (pooled := np.concatenate(both)).size:
            continue
        low, high = np.percentile(pooled, [0.5, 99.5])  # a single outlier would squeeze all others into one bin
        edges = np.linspace(low, high if high > low else low + 1, 25)
        for values, label, colour in zip(both, labels, (GREY, COLOURS[5]), strict=True):
            share = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / max(len(values), 1)
            fig.add_scatter(
                x=edges,
                y=np.append(share, share[-1]),
                mode="lines",
                name=html.escape(label),
                line=dict(shape="hv", color=colour, width=1.8),
                fill="tozeroy" if colour == GREY else None,
                legendgroup=label,
                showlegend=j == 0,
                **place,
            )
    fig.update_yaxes(rangemode="tozero", tickformat=".0%")
    return styled(fig, body=40 + PANEL * -(-len(names) // min(columns, len(names))))


def scatter(points, colour=None, hover=None, title: str = "", over=None) -> go.Figure:
    """A map of points (n, 2) or (n, 3), coloured by a label (n strings) or by a number, without ticks: it has no unit.

    Arguments: `hover` n strings, `over` {name: (m, d)} further points, drawn on top in black. Above 5,000 points WebGL
    draws. `customdata` holds each point's number, those of `over` counted on; a click beside all points is told as well.
    """
    points = np.asarray(points, dtype=np.float32)
    if points.ndim != 2 or points.shape[1] not in (2, 3):
        raise ValueError(f"Points have shape {points.shape}, and (n, 2) or (n, 3) is drawn.")
    flat = points.shape[1] == 2
    trace = go.Scatter3d if not flat else go.Scattergl if len(points) > 5000 else go.Scatter
    symbols = [s for s in SYMBOLS if flat or s != "triangle-up"]  # there is none in space
    size = (4 if len(points) > 2000 else 7) if flat else 3
    looks = (
        dict(symbol="x" if flat else "cross", size=size - 1 if flat else 2),
        dict(symbol="circle-open", size=size + 6),
    )
    fig, count = go.Figure(), len(points)
    text = None if hover is None else [line.replace("\n", "<br>") for line in _escaped(hover)]

    def add(xyz, rows, texts=None, name="", **marker):
        fig.add_trace(
            trace(
                **dict(zip("xyz", xyz.T, strict=False)),
                mode="markers",
                name=html.escape(name),
                showlegend=bool(name),
                customdata=np.asarray(rows, np.int32),
                text=texts,
                hoverinfo="skip" if texts is None else "text",
                marker=dict(opacity=0.8, **marker),
            )
        )

    colour = None if colour is None else np.asarray(colour)
    every = np.arange(len(points))
    if colour is None or colour.dtype.kind in "fiu":
        kind = {}
        if colour is not None and np.isfinite(colour).any():
            # a single outlier would take all colours
            low, high = np.percentile(colour[np.isfinite(colour)], [2, 98])
            kind = dict(
                color=colour.astype(np.float32),
                colorscale=SCALE,
                showscale=True,
                cmin=low,
                cmax=high,
                colorbar_thickness=14,
            )
        add(points, every, text, size=size, **kind)
    else:
        for k, name in enumerate(sorted(set(colour.astype(str)))):
            rows = every[colour.astype(str) == name]
            texts = None if text is None else [text[i] for i in rows]
            symbol = symbols[k // 8 % len(symbols)] + "-open" * (flat and k // 8 // len(symbols) % 2)
            look = dict(color=COLOURS[k % 8], symbol=symbol)
            add(points[rows], rows, texts, name, size=size, **look)
    for (name, more), look in zip((over or {}).items(), looks, strict=False):
        rows = np.arange(count, count := count + len(more))
        texts = [f"{html.escape(name)} {i}" for i in range(len(more))] if len(more) > 1 else None
        add(np.asarray(more, np.float32), rows, texts, name, color="black", **look)
    bare = dict(showticklabels=False, ticks="", title="", showgrid=False)
    fig.update_layout(clickanywhere=True, scene={f"{a}axis": dict(bare, showspikes=False) for a in "xyz"})
    fig.update_xaxes(**bare)
    fig.update_yaxes(scaleanchor="x", **bare)
    fig = styled(fig, body=520, title=title)
    if not any(trace.marker.showscale for trace in fig.data):  # many names above a map would push it down
        legend = dict(orientation="v", yref="paper", x=1.02, y=1, itemsizing="constant")
        fig.update_layout(legend=legend, margin_t=10 + 28 * bool(title))
    else:
        fig.update_layout(modebar_orientation="h")  # a column of buttons would lie on the colours' numbers
    return fig


def counts(table, title: str = "") -> go.Figure:
    """How many clips of each class (rows of a pandas table) are in each split (its columns), stacked."""
    fig = go.Figure()
    for k, split in enumerate(table.columns):
        fig.add_bar(
            y=_escaped(table.index),
            x=table[split].to_numpy(),
            name=html.escape(str(split)),
            orientation="h",
            marker=dict(color=COLOURS[k % 8], pattern_shape=PATTERNS[k % 4], pattern_fillmode="overlay"),
        )
    fig.update_yaxes(autorange="reversed", type="category", showgrid=False)
    fig.update_xaxes(title="clips")
    return styled(fig, body=60 + 24 * len(table), title=title, barmode="stack")


def matrix(values, rows, columns, title: str = "") -> go.Figure:
    """A table of numbers as colours with the numbers in them: true classes down, predicted classes across."""
    values = np.asarray(values, dtype=float)
    if values.shape != (len(rows), len(columns)):
        raise ValueError(f"Values of shape {values.shape} came with {len(rows)} row and {len(columns)} column names.")
    fig = go.Figure(
        go.Heatmap(
            z=values,
            x=_escaped(columns),
            y=_escaped(rows),
            colorscale="Blues",
            texttemplate="%{z:.2f}",
            showscale=False,
            xgap=1,
            ygap=1,
        )
    )
    fig.update_yaxes(autorange="reversed", type="category", showgrid=False)
    fig.update_xaxes(type="category", showgrid=False)
    return styled(fig, body=60 + 30 * len(rows), title=title)


def _grid(names, columns: int):
    columns = min(columns, len(names))
    rows = -(-len(names) // columns)
    fig = make_subplots(
        rows, columns, subplot_titles=_escaped(names), horizontal_spacing=0.08, vertical_spacing=0.32 / rows
    )
    return fig, [dict(row=i // columns + 1, col=i % columns + 1) for i in range(len(names))]


def _escaped(names) -> list[str]:
    # plotly reads a few tags in text; a clip called "<b>" is to be shown as it is called
    return [html.escape(str(name), quote=False) for name in names]


def _named(names, n: int, what: str) -> list[str]:
    names = [""] * n if names is None else [str(name) for name in names]
    if len(names) != n:
        raise ValueError(f"{len(names)} names came with {n} {what}: give one each.")
    return names


# ----------------------------------------------------------------------------------------------------- in the notebook


def show_clips(clips, rate: float, titles=None, columns: int = 4) -> None:
    """Show the spectrograms of clips (n, T), and below them a player for each."""
    from IPython.display import display

    display(spectrogram(clips, rate, titles, columns))
    display(audio_row(clips, rate, titles))
