"""The figures of the thesis, each of small tables, in one style and at its printed size."""

import flows
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from flows import CONTRASTS, MEASURES, POSTERIORS, PRIORS, said
from named import FLOORS, LADDER, ROWS, STEPS
from plotly.subplots import make_subplots

from workbench import plots
from workbench.plots.style import styled

STAGES = {"distance": "spectral distance", "nats": "KL, nats", "nll": "−log p(z), nats"}
NATS = "nats per clip"
APART = 1.2  # nats by which curves are moved sideways, as intervals would lie on one another


def panels(parts: dict[str, go.Figure], height: float, columns: int = 2, **shared: str) -> go.Figure:
    """Figures side by side as panels of one, with one legend; `shared_xaxes`, `shared_yaxes` as plotly has them."""
    rows = -(-len(parts) // columns)
    fig = make_subplots(
        rows,
        columns,
        subplot_titles=list(parts),
        horizontal_spacing=0.05,
        vertical_spacing=0.4 / rows,
        **shared,
    )
    seen = set()
    for i, part in enumerate(parts.values()):
        place = dict(row=i // columns + 1, col=i % columns + 1)
        for trace in part.data:
            trace.update(legendgroup=trace.name, showlegend=bool(trace.name) and trace.name not in seen)
            seen.add(trace.name)
            fig.add_trace(trace, **place)
        x, y = part.layout.xaxis, part.layout.yaxis
        fig.update_xaxes(title=x.title.text, type=x.type, **place)
        fig.update_yaxes(title=y.title.text if place["col"] == 1 else None, type=y.type, **place)
    fig.update_annotations(font_size=13)
    return small(styled(fig, body=height))


def small(fig: go.Figure) -> go.Figure:
    """Titles of axes in the size of all other text."""
    return fig.update_xaxes(title_font_size=13).update_yaxes(title_font_size=13)


@STEPS.step("figures/counts.pdf", "demo/counts.csv")
def counts(table: pd.DataFrame) -> go.Figure:
    wide = table.pivot(index="label", columns="split", values="clips").fillna(0).astype(int)
    fig = plots.counts(wide[["train", "valid", "test"]].rename(columns={"train": "training", "valid": "validation"}))
    fig.update_traces(marker_pattern_shape="")  # a pattern is half a megabyte in a PDF
    return small(fig).update_layout(height=290)


@STEPS.step("figures/curves.pdf", "demo/curves.csv")
def curves(table: pd.DataFrame) -> go.Figure:
    table = table.assign(name=table["name"].map(STAGES))
    fig = plots.curves(table[table["name"].notna()]).update_layout(height=230)
    return small(fig.update_annotations(font_size=13))


@STEPS.step("figures/spectra.pdf", "demo/spectra.npz")
def spectra(arrays: dict[str, np.ndarray]) -> go.Figure:
    labels, cells = list(arrays["labels"]), arrays["cells"]
    silence = np.zeros(
        (len(cells), int(arrays["length"])), np.float32
    )  # brings the axes; the cells are put in its place
    titles = [*labels, *[""] * (len(cells) - len(labels))]
    fig = plots.spectrogram(silence, float(arrays["rate"]), titles, columns=len(labels))
    for trace, levels in zip(fig.data, cells, strict=True):
        trace.z = levels
    for row, name in enumerate(("held-out", "reconstruction", "drawn"), 1):
        fig.update_yaxes(title=f"{name}, Hz", row=row, col=1)
    fig.update_annotations(font_size=13).update_xaxes(tickvals=[0, 0.5])
    return small(fig).update_layout(height=350, coloraxis_colorbar_title_font_size=13)


@STEPS.step("figures/map.pdf", "demo/map.csv")
def chart(table: pd.DataFrame) -> go.Figure:
    clips, draws = (table[table.what == what] for what in ("clip", "draw"))
    fig = plots.scatter(clips[["x", "y"]], clips.label.to_numpy(), over={"draws": draws[["x", "y"]]})
    fig.update_traces(marker_size=4)
    fig.data[-1].marker.update(symbol="x-thin-open", opacity=1)  # draws lie among clips and leave them to be seen
    wide, high = np.ptp(table[["x", "y"]].to_numpy(), axis=0)
    return fig.update_layout(
        height=round(380 * high / wide) + 40, margin=dict(l=10, b=10)
    )  # as wide as the legend leaves


@STEPS.step("figures/damage.pdf", "demo/damage.csv")
def damage(table: pd.DataFrame) -> go.Figure:
    series = {kind: (part.grade, part.FAD) for kind, part in table.groupby("kind", sort=False)}
    fig = plots.lines(series, "grade of damage", "FAD-descriptors", log=True)
    return small(fig.update_xaxes(dtick=1)).update_layout(height=235)


@STEPS.step("figures/ladder.pdf", "demo/ladder.csv")
def ladder(table: pd.DataFrame) -> go.Figure:
    fig = plots.bars([LADDER[what][1] for what in table.what], table.FAD, unit="FAD-descriptors")
    fig.update_traces(text=[said(value) for value in table.FAD], textposition="outside", cliponaxis=False)
    ends = np.log10([table.FAD.min() / 2, table.FAD.max() * 2])
    return small(fig.update_xaxes(type="log", range=ends, rangemode="normal", dtick=1)).update_layout(height=240)


@STEPS.step("figures/labels.pdf", "demo/labels.csv")
def by_label(table: pd.DataFrame) -> go.Figure:
    series = {"real clips of it (floor)": table.floor, "draws": table.draws, "another label": table.other}
    fig = plots.dots(table.label, series, unit="FAD-descriptors within a label", log=True)
    ticks = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    return small(fig.update_xaxes(tickvals=ticks)).update_layout(height=300)


def over_nats(sweep: flows.Sweep, number: str, up: str, height: float) -> go.Figure:
    """A number over the nats spent: a panel for each posterior, a curve for each prior."""

    def part(posterior: str) -> go.Figure:
        series = {}
        for k, p in enumerate(PRIORS):
            x, *heights = flows.curve(sweep, posterior, p, number)
            series[PRIORS[p]] = (x + APART * (k - (len(PRIORS) - 1) / 2), *heights)
        return plots.lines(series, NATS, up)

    parts = {POSTERIORS[q]: part(q) for q in POSTERIORS}
    fig = panels(parts, height, shared_yaxes="all", shared_xaxes="all")
    return fig.update_layout(legend_title=dict(text="prior ", font_size=13))


@STEPS.step("figures/flows-fad.pdf", ROWS, FLOORS)
def fad_curves(rows: pd.DataFrame, floors: pd.DataFrame) -> go.Figure:
    sweep = flows.read(rows)
    number, floor = f"FAD-{sweep.embedding}", floors[floors.number == "FAD"].value.mean()
    fig = over_nats(sweep, number, number, 310).update_yaxes(rangemode="tozero")
    fig.add_hline(floor, line=dict(dash="dot", width=1.2, color="black"))
    where = dict(x=1, xref="x2 domain", xanchor="right", y=floor, yref="y", yanchor="top")
    return fig.add_annotation(**where, text="other real clips", showarrow=False, font_size=12)


@STEPS.step("figures/flows-differences.pdf", ROWS)
def differences(rows: pd.DataFrame) -> go.Figure:
    sweep = flows.read(rows)
    names = [words for words, *_ in CONTRASTS.values()]

    def part(name: str) -> go.Figure:
        found = [sweep.contrasts[key, name] for key in CONTRASTS]
        ends = np.array([[d.low, d.high] for d in found])
        return plots.dots(names, {"": [d.mean for d in found]}, {"": ends})

    fig = panels({name: part(name) for name in MEASURES}, 215, columns=len(MEASURES), shared_yaxes="all")
    fig.add_vline(0, line=dict(width=1, color="black"))
    for col, name in enumerate(
        MEASURES, 1
    ):  # narrow panels hold two numbers: zero, and the largest difference, rounded
        most = max((sweep.contrasts[key, name].mean for key in CONTRASTS), key=abs)
        fig.update_xaxes(tickvals=[0, float(f"{most:.1g}")], col=col)
    return fig.update_yaxes(autorange="reversed").update_xaxes(tickangle=0)


@STEPS.step("figures/flows-likelihood.pdf", ROWS)
def likelihood(rows: pd.DataFrame) -> go.Figure:
    return over_nats(flows.read(flows.gains(rows)), "gain", "log-likelihood over N(0, I), nats", 260)


@STEPS.step("figures/flows-reconstruction.pdf", ROWS)
def spending(rows: pd.DataFrame) -> go.Figure:
    sweep = flows.read(rows)
    series = {POSTERIORS[q]: flows.curve(sweep, q, "standard", "distance") for q in POSTERIORS}
    fig = plots.lines(series, NATS, "spectral distance of reconstructions")
    return small(fig).update_layout(height=270)
