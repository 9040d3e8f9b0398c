"""The map of latents as a figure and under the mouse: hear what lies where, and begin to play there."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.offline import get_plotlyjs

from workbench import plots
from workbench.data import Clips, descriptors
from workbench.errors import UsageError
from workbench.latent import layout
from workbench.latent.layout import Chart
from workbench.plots.style import CONFIG
from workbench.widgets.base import Answering
from workbench.widgets.instrument import Instrument, State

__all__ = ["LatentMap", "colours", "picture"]

NEIGHBOURS = 8  # whose latents' mean is what lies at an empty place
TOLD = ("centroid", "pitch", "duration", "loudness")  # what a hover tells of a clip
KINDS = ("label", "pack", "split")


def colours(z: np.ndarray) -> list[str]:
    """What a map of latents (N, L) can be coloured by."""
    return [*KINDS, *descriptors.NAMES, *(f"z{i}" for i in range(z.shape[1]))]


def picture(
    chart: Chart,
    clips: Clips,
    colour: str = "label",
    z: np.ndarray | None = None,
    over: Mapping[str, np.ndarray] | None = None,
    hover: bool = True,
) -> go.Figure:
    """The map as a figure: clips in the colours of a kind, a descriptor or a latent ("z3", of z (N, L)), draws in black."""
    index = clips.index
    if colour in index:
        values = index[colour].astype(str) if colour in KINDS else index[colour]
    elif z is not None and colour in colours(z):
        values = z[:, int(colour[1:])]
    else:
        known = ", ".join([*KINDS, *descriptors.NAMES])
        raise UsageError(
            f"The map was asked in the colours of '{colour}'; it knows {known}, and the latents z0, z1, ..."
        )
    unit = descriptors.UNITS.get(colour)
    told = None
    if hover:
        rows = zip(index.label, index["name"], index.pack, *(index[n] for n in TOLD), strict=True)
        told = [
            f"{label}: {name} ({pack})\n"
            + ", ".join(
                "no pitch" if n == "pitch" and v == 0 else f"{n} {v:.3g} {descriptors.UNITS[n]}"
                for n, v in zip(TOLD, heard, strict=True)
            )
            for label, name, pack, *heard in rows
        ]
    title = f"{colour} ({unit})" if unit else colour
    return plots.scatter(chart.clips, values, told, title, {"draws": chart.draws, **(over or {})})


class LatentMap(Answering):
    """The map under the mouse: a click plays a clip and what the model makes of it, a draw, or what lies between clips.

    What was clicked is where the instrument goes on; a circle shows where its sound lies (the weighted mean of its
    nearest clips' places). On an empty place of the flat map the mean of the nearest latents is decoded, and the page
    says so. plotly.js comes from the kernel by a message, so that it is not kept in the notebook.

    Arguments:
        play: the instrument, whose model, store and run these are. draws: how many lie on the map. neighbours, seed:
            see `latents.chart`.
    """

    what = "The map under the mouse"
    page = "latent_map.js"

    def __init__(self, play: Instrument, draws: int = 200, neighbours: int = 15, seed: int = 0):
        self.play, self.asked = play, {"draws": draws, "neighbours": neighbours, "seed": seed}
        self.charts: dict[int, Chart] = {}
        self.chart(2)
        super().__init__(beside=play)
        play.followers.add(self)

    def chart(self, dimensions: int) -> Chart:
        if dimensions not in self.charts:
            p = self.play
            self.charts[dimensions] = layout.chart(p.model, p.clips, p.source, dimensions, **self.asked)
        return self.charts[dimensions]

    def answer(self, m: dict, buffers: list[bytes], to: dict) -> None:
        match m["do"]:
            case "hello":
                code = [] if m.get("have") else [get_plotlyjs().encode()]
                known = colours(self.play.z.numpy())
                self.send(
                    {"what": "setup", "colours": known, "rate": self.play.model.rate, "config": CONFIG, **to}, code
                )
                self.show("label", 2, to)
            case "show":
                self.show(m["colour"], int(m["dimensions"]), to)
            case "point":
                self.heard(*self.point(int(m["row"])), to)
            case "place":
                self.heard(*self.place(float(m["x"]), float(m["y"])), to)
            case other:
                raise UsageError(f"The page asked for '{other}', which this map does not know; reload the page.")

    def show(self, colour: str, dimensions: int, to: dict) -> None:
        chart = self.chart(dimensions)
        here = self.where(self.play.state, chart)[None]
        figure = picture(chart, self.play.clips, colour, self.play.z.numpy(), {"the instrument": here})
        self.send({"what": "figure", "dimensions": dimensions, **to}, [figure.to_json().encode()])

    def heard(self, state: State, sounds: list[np.ndarray], said: str, to: dict) -> None:
        """Play sounds on the page that asked, then let the instrument go on from there."""
        self.play.begin(state)
        self.send(
            {"what": "sound", "name": state.name, "said": said, **to}, [x.astype("<f4").tobytes() for x in sounds]
        )
        self.play.tell(state, {}, quiet=True)

    def point(self, row: int) -> tuple[State, list[np.ndarray], str]:
        """A clip by its row, or a draw, counted on from the clips."""
        play, chart = self.play, self.chart(2)
        if not 0 <= row < len(play.clips) + len(chart.z):
            raise UsageError(f"The page asked for point {row} of {len(play.clips) + len(chart.z)}; reload the page.")
        if (i := row - len(play.clips)) < 0:
            state = play.clip(row)
            return (
                state,
                [play.clips.audio([row])[0], play.sound(state).numpy()],
                f"{state.name}: the clip, then what the model makes of it.",
            )
        z, c = chart.z[i : i + 1], None if chart.c is None else chart.c[i : i + 1]
        label = f", of the label {play.model.labels[int(c.argmax())]}" if c is not None else ""
        state = State(z, c, f"draw {i} of the map", z)
        return state, [play.sound(state).numpy()], f"Draw {i} from the prior{label}."

    def place(self, x: float, y: float) -> tuple[State, list[np.ndarray], str]:
        """What lies at a place of the flat map where nothing was found: between the nearest clips."""
        play, chart = self.play, self.chart(2)
        rows, weights = layout.near(chart.clips, np.array([x, y], np.float32), NEIGHBOURS)
        weights = torch.from_numpy(weights)
        z = (weights[:, None] * play.z[rows]).sum(0, keepdim=True)
        c = play.model.context_of(play.clips, rows)
        c = None if c is None else weights[None] @ c
        names = [f"{play.called(row)} of {play.clips.index.pack.iloc[row]}" for row in rows[:3]]
        state = State(z, play.known(z, c), f"near {play.called(rows[0])}", z)
        said = f"Between clips: the mean of the {len(rows)} nearest latents on the map, the nearer the heavier ({', '.join(names)}, ...)."
        return state, [play.sound(state).numpy()], said

    def where(self, state: State, chart: Chart) -> np.ndarray:
        rows, weights = layout.near(self.play.z.numpy(), state.z[0].numpy(), NEIGHBOURS)
        return weights @ chart.clips[rows]

    def follow(self, state: State) -> None:
        at = {str(d): self.where(state, chart).tolist() for d, chart in self.charts.items()}
        self.send({"what": "here", "at": at, "name": state.name})
