"""The look of all figures: colours, fonts, axes, and where title, legend and panels go."""

__all__ = [
    "COLOURS",
    "CONFIG",
    "FAINT",
    "GREY",
    "PANEL",
    "PATTERNS",
    "SCALE",
    "SYMBOLS",
    "TEMPLATE",
    "show_offline",
    "styled",
]

import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio

# Okabe and Ito, Color Universal Design (2008): told apart by colour-blind readers and, in this order, in grey print
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")
GREY, FAINT, SCALE = "#6B6B6B", "#E3E3E3", "Cividis"  # cividis reads the same to all eyes and falls evenly in grey
SYMBOLS = ("circle", "diamond", "cross", "triangle-up", "square", "x")  # the second eight classes differ by shape
PATTERNS = ("", "/", ".", "x")
# plotly 7's "Share chart" uploads the data to a server
CONFIG = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["sendChartToCloud"]}
PANEL = 190  # height of a small panel in pixels

_axis = dict(
    gridcolor=FAINT,
    linecolor=GREY,
    ticks="outside",
    tickcolor=GREY,
    ticklen=4,
    zeroline=False,
    automargin=True,
    title_standoff=8,
)
TEMPLATE = go.layout.Template(
    layout=dict(
        font=dict(family="Helvetica, Arial, Liberation Sans, sans-serif", size=13, color="#1A1A1A"),
        title=dict(font_size=15, x=0, xanchor="left", yanchor="top", pad=dict(l=12)),
        paper_bgcolor="white",
        plot_bgcolor="white",
        colorway=COLOURS,
        colorscale=dict(sequential=SCALE),
        xaxis=_axis,
        yaxis=_axis,
        margin=dict(l=60, r=20, b=50),
        hovermode="closest",
        bargap=0.25,
        legend=dict(orientation="h", x=0, xanchor="left", yref="container", yanchor="top", traceorder="normal"),
        modebar=dict(remove=["sendChartToCloud"], orientation="v"),
        annotationdefaults=dict(font_size=12),
    )
)


def styled(fig: go.Figure, *, body: int, title: str = "", **layout) -> go.Figure:
    """Put title, legend and panel titles one below another: `body` is the height in pixels of all else."""
    named = {trace.name for trace in fig.data if trace.name}
    below = 10 + 28 * bool(title)
    top = below + 28 * (len(named) > 1) + 18 * bool(fig.layout.annotations)
    height = body + top
    return fig.update_layout(
        template=TEMPLATE,
        height=height,
        margin_t=top,
        title_text=title or None,
        title_y=1 - 10 / height,
        legend_y=1 - below / height,
        **layout,
    )


def show_offline() -> None:
    """Show figures without plotly.js in the notebook: JupyterLab has its own, the HTML page gets one copy; and tables whole."""
    pd.set_option("display.max_colwidth", None)
    pio.renderers["plotly_mimetype"].config = CONFIG
    pio.renderers.default = "plotly_mimetype"
