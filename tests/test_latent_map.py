"""Laws of the map of latents: what lies where, what a click plays, and the figure of it."""

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from workbench import models, runs
from workbench.data import descriptors
from workbench.errors import UsageError
from workbench.latent import layout
from workbench.widgets import latent_map
from workbench.widgets.instrument import Instrument


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run folder, which keeps what was laid out."""
    folder = tmp_path_factory.mktemp("source") / "run"
    runs.start(folder, {}, notebook="2_train").finish()
    return folder


@pytest.fixture(scope="module")
def atlas(model, clips, source, tmp_path_factory):
    return latent_map.LatentMap(Instrument(model, clips, source, tmp_path_factory.mktemp("out")), draws=40)


def test_a_chart_is_kept_and_its_neighbours_are_neighbours(model, clips, source, atlas, capsys):
    chart = atlas.chart(2)
    capsys.readouterr()
    again = layout.chart(model, clips, source, draws=40)
    assert np.array_equal(again.clips, chart.clips) and np.array_equal(again.draws, chart.draws)
    assert "Laying out" not in capsys.readouterr().out
    assert chart.clips.shape == (len(clips), 2) and chart.draws.shape == (40, 2) and chart.trust > 0.7
    assert torch.equal(chart.z, model.draw(40, seed=0)[0])
    assert layout.chart(model, clips, source, 3, draws=40).clips.shape == (len(clips), 3)


def test_a_latent_of_three_dimensions_is_its_own_map(clips):
    torch.manual_seed(0)
    small = models.build("stft", "tiny", length=clips.length, rate=clips.rate, labels=clips.labels, latent=3).eval()
    small.stages()[0].prepare(clips.split("train"), True)
    chart = layout.chart(small, clips, dimensions=3, draws=5)
    assert np.array_equal(chart.clips, small.latents(clips).numpy()) and chart.trust == 1


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"dimensions": 4}, "2 or 3 dimensions"),
        ({"neighbours": 1}, "at least 2 neighbours"),
        ({"neighbours": 5000}, "too few for a map"),
    ],
)
def test_a_map_that_cannot_be_laid_out_says_why(model, clips, source, asked, says):
    with pytest.raises(UsageError, match=says):
        layout.chart(model, clips, source, **asked)


def test_the_nearest_weigh_most_and_a_point_is_its_own_neighbour():
    points = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    rows, weights = layout.near(points, np.zeros(3, np.float32), 8)
    distance = np.square(points).sum(1)
    assert set(rows) == set(distance.argsort()[:8])
    assert weights.sum() == pytest.approx(1) and (np.diff(weights) <= 0).all()
    np.testing.assert_allclose(np.square(points[rows]).sum(1) * weights, weights[0] * distance.min(), rtol=1e-4)
    rows, weights = layout.near(points, points[17], 8)
    assert rows[0] == 17 and weights[0] > 0.9999
    assert layout.near(points[:3], points[0], 8)[0].tolist()[0] == 0


def test_a_point_plays_its_clip_and_the_instrument_goes_on_from_there(atlas, clips, monkeypatch):
    sent, told = [], []
    monkeypatch.setattr(atlas, "send", lambda content, buffers=None: sent.append((content, buffers)))
    monkeypatch.setattr(atlas.play, "send", lambda content, buffers=None: told.append(content))
    atlas.answer({"do": "point", "row": 7}, [], {"tab": "a", "n": 1})
    (answer, buffers), (here, _) = sent
    np.testing.assert_array_equal(np.frombuffer(buffers[0], "<f4"), clips.audio([7])[0])
    np.testing.assert_array_equal(np.frombuffer(buffers[1], "<f4"), atlas.play.sound(atlas.play.clip(7)))
    assert answer["tab"] == "a" and torch.equal(atlas.play.state.z, atlas.play.z[7:8])
    assert told[0]["name"] == atlas.play.state.name and told[0]["quiet"] and "tab" not in told[0]
    np.testing.assert_allclose(here["at"]["2"], atlas.chart(2).clips[7], atol=0.05)
    atlas.answer({"do": "point", "row": len(clips) + 3}, [], {})
    assert torch.equal(atlas.play.state.z, atlas.chart(2).z[3:4]) and len(sent[2][1]) == 1
    with pytest.raises(UsageError, match="reload the page"):
        atlas.point(len(clips) + 40)


def test_an_empty_place_is_the_mean_of_its_neighbours_and_says_so(atlas):
    place = atlas.chart(2).clips.max(0) + 1
    state, (x,), said = atlas.place(*place)
    rows, weights = layout.near(atlas.chart(2).clips, place, latent_map.NEIGHBOURS)
    np.testing.assert_allclose(state.z[0], weights @ atlas.play.z.numpy()[rows], atol=1e-5)
    assert "the mean of the 8 nearest latents" in said and np.isfinite(x).all() and np.abs(x).max() > 0.01
    assert state.c.sum() == pytest.approx(1, abs=1e-5)


def test_the_figure_takes_every_colour_and_numbers_every_point(atlas, clips):
    chart, z = atlas.chart(2), atlas.play.z.numpy()
    known = latent_map.colours(z)
    assert {"label", "pack", "split", "z0", *descriptors.NAMES} <= set(known)
    for colour in known:
        fig = latent_map.picture(chart, clips, colour, z, {"here": chart.clips[:1]})
        assert isinstance(fig, go.Figure), colour
        assert sorted(np.concatenate([t.customdata for t in fig.data])) == list(range(len(clips) + 41)), colour
    with pytest.raises(UsageError, match="in the colours of 'taste'; it knows label, pack, split, loudness"):
        latent_map.picture(chart, clips, "taste")
    assert {t.type for t in latent_map.picture(atlas.chart(3), clips).data} == {"scatter3d"}
