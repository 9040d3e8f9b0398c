"""Laws of the figures: they draw what came, stay small, share one look, and reach paper."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from conftest import mislabelled

from workbench import plots
from workbench.plots import style

RATE = 44100
RNG = np.random.default_rng(0)
LOG = pd.DataFrame(
    [
        {"step": step, "stage": stage, "split": split, "name": name, "value": step / 100}
        for stage, split, name, steps in (
            ("autoencode", "train", "spectral", range(0, 101, 10)),
            ("autoencode", "valid", "spectral", range(0, 101, 50)),
            ("autoencode", "usage", "rise", [100]),
            ("prior", "train", "nll", range(0, 50, 10)),
        )
        for step in steps
    ]
)
EVERY = {
    "spectrogram": lambda: plots.spectrogram(RNG.normal(size=(5, 8192)), RATE, list("abcde")),
    "curves": lambda: plots.curves(LOG, healthy={"spectral": (0.1, 0.4)}),
    "bars": lambda: plots.bars(["run", "silence"], [1.0, 2.0], [0.1, 0.2], title="Distance", unit="nats"),
    "dots": lambda: plots.dots(["kick", "snare"], {"draws": [1, 2], "floor": [3, 4]}, {"draws": [[0.5, 2], [1, 3]]}),
    "lines": lambda: plots.lines({"flow": ([1, 2], [3, 4], [[2, 4], [3, 5]]), "none": ([1, 2], [4, 4])}, "nats", "FAD"),
    "log bars": lambda: plots.bars(["run", "noise"], [8.0, 2928.0], unit="FAD", log=True),
    "log dots": lambda: plots.dots(["kick"], {"draws": [17.0], "floor": [170.0]}, log=True),
    "log lines": lambda: plots.lines({"noise": ([0, 1], [5, 900])}, "grade", "FAD", log=True),
    "histograms": lambda: plots.histograms(RNG.normal(size=(50, 2)), RNG.normal(size=(9, 2)), ["attack", "pitch"]),
    "scatter": lambda: plots.scatter(
        RNG.normal(size=(20, 2)), ["kick", "snare"] * 10, [f"clip {i}" for i in range(20)]
    ),
    "counts": lambda: plots.counts(pd.DataFrame({"train": [9, 3], "test": [1, 2]}, index=["kick", "snare"])),
    "matrix": lambda: plots.matrix(np.eye(2), ["kick", "snare"], ["kick", "snare"]),
}


@pytest.mark.parametrize("name", EVERY)
def test_every_figure_has_the_look_and_no_upload_button(name):
    fig = EVERY[name]()
    assert fig.layout.template == style.TEMPLATE and fig.layout.height > 100 and len(fig.to_json()) < 300_000
    assert "sendChartToCloud" in fig.layout.template.layout.modebar.remove


@pytest.mark.parametrize("name", EVERY)
def test_tick_texts_are_those_of_their_values_also_after_others_were_chosen(name):
    """Whoever sets one of the two and leaves the other is caught, also where a notebook or a figure of the thesis does."""
    fig = EVERY[name]()
    assert mislabelled(fig.to_plotly_json()["layout"]) == []
    if not name.startswith("log "):
        return
    axis = "xaxis" if fig.layout.xaxis.type == "log" else "yaxis"
    fig.update_layout({axis: {"tickvals": [3, 30, 300]}})
    assert mislabelled(fig.to_plotly_json()["layout"]) == []


def test_every_figure_reaches_paper(tmp_path, chromium):
    with plots.browser():
        for name, make in EVERY.items():
            assert plots.save(make(), tmp_path / f"{name}.svg", width_cm=10).read_text().startswith("<svg"), name
        assert plots.save(EVERY["bars"](), tmp_path / "bars.pdf").read_bytes().startswith(b"%PDF")
        svg = (tmp_path / "bars.svg").read_text()
        assert 'width="378"' in svg and "silence" in svg, "10 cm are 378 CSS pixels"
    with pytest.raises(ValueError, match="pdf, svg or png"):
        plots.save(EVERY["bars"](), tmp_path / "bars.gif")


def test_without_chrome_there_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", "/no/such/browser")
    with pytest.raises(plots.NoChrome, match="BROWSER_PATH"):
        plots.save(EVERY["bars"](), tmp_path / "bars.png")
    with pytest.raises(plots.NoChrome, match="BROWSER_PATH"), plots.browser():
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("hz", [60, 440, 1000, 5000, 15000])
def test_a_spectrogram_shows_a_tone_where_it_is(hz):
    tone = np.sin(2 * np.pi * hz * np.arange(RATE) / RATE)
    late = np.where(np.arange(RATE) < RATE // 2, 0, tone)
    fig = plots.spectrogram(np.stack([tone, late, 0.1 * tone]), RATE)
    full, half, soft = (np.asarray(trace.z).astype(int) for trace in fig.data)
    y = fig.data[0].y0 + fig.data[0].dy * np.arange(full.shape[0])
    shown = 10 ** y[full.mean(1).argmax()]
    assert abs(np.log2(shown / hz)) < 1 / 4 + 25 / hz, f"{hz} Hz is shown at {shown:.0f} Hz"
    assert full.max() == 0 and full.min() >= -80
    assert abs(soft.max() + 20) <= 1, "a tenth of the amplitude is 20 dB less, on the common scale"
    frames = half.shape[1]
    assert half[:, : int(0.45 * frames)].max() < -60 and half[:, int(0.6 * frames) :].max() > -3
    assert fig.data[0].dx * frames == pytest.approx(1.0)


@pytest.mark.parametrize(
    "clips", [np.zeros((2, 4096)), np.zeros((1, 40)), np.ones(100)], ids=["silence", "short", "one"]
)
def test_a_spectrogram_of_the_odd_is_finite(clips):
    fig = plots.spectrogram(clips, RATE)
    assert all(np.isfinite(trace.z).all() and trace.z.size for trace in fig.data)


def test_a_grid_of_64_stays_small():
    assert len(plots.spectrogram(RNG.normal(size=(64, 16384)), RATE, columns=8).to_json()) < 700_000


def test_curves_pair_training_with_held_out_and_mark_stages():
    fig = EVERY["curves"]()
    drawn = {(trace.name, trace.yaxis): (len(trace.x), trace.x[-1], trace.showlegend) for trace in fig.data}
    assert drawn == {
        ("training", "y"): (11, 100, True),
        ("held-out", "y"): (3, 100, True),
        ("usage", "y2"): (1, 100, True),
        ("training", "y3"): (5, 140, False),
    }, "the prior's steps follow those of the stage before"
    assert [note.text for note in fig.layout.annotations] == ["spectral", "rise", "nll"]
    band, *lines = sorted(fig.layout.shapes, key=lambda shape: shape.type == "line")
    assert (band.y0, band.y1, band.yref) == (0.1, 0.4, "y") and {line.x0 for line in lines} == {100.0}
    with pytest.raises(ValueError, match="no rows"):
        plots.curves(LOG[:0])


def test_histograms_are_shares_and_pass_over_missing_values():
    real, other = RNG.normal(size=(200, 2)), RNG.normal(size=(30, 2)) * 100
    real[:50, 0], other[:, 1] = np.nan, np.nan
    fig = plots.histograms(real, other, ["a", "b"])
    shares = [np.asarray(trace.y)[:-1].sum() for trace in fig.data]
    assert np.allclose(shares, [1, 1, 1, 0]), shares
    with pytest.raises(ValueError, match="2 and 2 columns came with 1 names"):
        plots.histograms(real, other, ["a"])


def test_scatter_turns_to_webgl_and_separates_many_classes():
    assert plots.scatter(np.zeros((5001, 2))).data[0].type == "scattergl"
    assert plots.scatter(np.zeros((5000, 2))).data[0].type == "scatter"
    many = plots.scatter(RNG.normal(size=(48, 2)), [f"c{i:02d}" for i in range(48)])
    assert len({(trace.marker.color, trace.marker.symbol) for trace in many.data}) == 48
    number = plots.scatter(RNG.normal(size=(9, 2)), np.arange(9))
    assert len(number.data) == 1 and number.data[0].marker.showscale


def test_bars_take_half_widths_and_intervals_alike():
    half = plots.bars(["a"], [2.0], [0.5]).data[0].error_x
    ends = plots.bars(["a"], [2.0], [[1.5, 2.5]]).data[0].error_x
    assert list(half.array) == list(ends.array) == [0.5] and list(half.arrayminus) == list(ends.arrayminus) == [0.5]


def test_names_are_shown_as_they_are():
    bad = "<b>kick & <a href='javascript:x'>"
    for fig in (
        plots.spectrogram(np.ones((1, 999)), RATE, [bad]),
        plots.bars([bad], [1]),
        plots.scatter(np.zeros((2, 2)), [bad, "x"], [bad, "x"]),
        plots.counts(pd.DataFrame({bad: [1]}, index=[bad])),
        plots.matrix(np.eye(1), [bad], [bad]),
    ):
        assert "<b>" not in json.dumps(fig.to_plotly_json()["data"], default=lambda x: np.asarray(x).tolist())
        assert not [note for note in fig.layout.annotations if "<b>" in note.text]


def test_a_player_holds_the_clip_as_it_is_and_escapes_its_name():
    import base64
    import io

    import soundfile

    x = np.array([0.0, 0.25, -0.25, 2.0, -3.0, np.nan])
    page = plots.audio(x, 8000, "<script>alert(1)</script>").data
    assert "<script>" not in page and "&lt;script&gt;" in page
    data = base64.b64decode(re.search(r"base64,([^\"]+)", page)[1])
    got, rate = soundfile.read(io.BytesIO(data))
    assert rate == 8000 and np.abs(got - [0, 0.25, -0.25, 1, -1, 0]).max() < 1e-4, "no normalisation, clipped at 1"
    row = plots.audio_row(np.zeros((3, 10)), 8000, ["a", "b", "c"]).data
    assert row.count("<audio") == row.count("<figcaption") == 3
    with pytest.raises(ValueError, match="2 names came with 3 clips"):
        plots.audio_row(np.zeros((3, 10)), 8000, ["a", "b"])


def test_without_a_chrome_figures_are_not_saved_and_that_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    plots.save_all({tmp_path / "a.pdf": EVERY["bars"]()})
    assert "not saved" in (said := capsys.readouterr().out) and "install chromium" in said
    assert not list(tmp_path.iterdir())
