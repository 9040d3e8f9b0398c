"""Laws of the instrument behind its page: states, moves, pads and what is kept."""

import copy
import gc
import json
import threading
import time
import weakref

import ipywidgets
import numpy as np
import pytest
import soundfile
import torch

from workbench import cli, models, runs
from workbench.autoencoder import HOTTEST
from workbench.errors import UsageError
from workbench.widgets.instrument import Instrument, render, stars
from workbench.widgets.latent_map import LatentMap


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run folder, which keeps what was measured of the model."""
    folder = tmp_path_factory.mktemp("source") / "run"
    runs.start(folder, {}, notebook="2_train").finish()
    return folder


@pytest.fixture
def play(model, clips, source, tmp_path):
    return Instrument(model, clips, source, tmp_path / "out")


@pytest.fixture
def sent(play, monkeypatch):
    messages = []
    monkeypatch.setattr(play, "send", lambda content, buffers=None: messages.append((content, buffers)))
    return messages


def test_undo_and_redo_restore_the_latent_to_the_bit(play, sent):
    states = [play.state, play.move(next(iter(play.axes)), [1.0] * len(next(iter(play.axes.values())).names))]
    for name, axes in play.axes.items():
        amounts = np.random.default_rng(0).uniform(-3, 3, len(axes.names)).tolist()
        states.append(play.move(name, amounts))
    for do, wanted in (("undo", states[-2::-1]), ("redo", states[1:])):
        for state in wanted:
            play.answer({"do": do}, [], {})
            assert torch.equal(play.state.z, state.z) and play.state.amounts == state.amounts
    assert len({s.z.numpy().tobytes() for s in states}) == len(states)


def test_moves_of_one_gesture_are_one_step_back(play):
    axes = next(iter(play.axes))
    before, k = play.state, len(play.axes[axes].names)
    for a in (0.1, 0.2, 0.3):
        play.move(axes, [a] * k, gesture="drag")
    assert len(play.history) == 2 and play.history[0] is before


def test_of_moves_that_wait_only_the_newest_is_rendered(play, sent):
    axes = next(iter(play.axes))
    with play._more:  # the thread waits while twenty moves of one page and one of another come in
        for i in range(20):
            play.ask(
                {"do": "move", "tab": "a", "n": i, "axes": axes, "amounts": [i / 10] * len(play.axes[axes].names)}, []
            )
        play.ask({"do": "move", "tab": "b", "n": 99, "axes": axes, "amounts": [0.0] * len(play.axes[axes].names)}, [])
    play.ask({"do": "nothing", "tab": "c", "n": 100}, [])  # after all others
    wait(lambda: any(m["n"] == 100 for m, _ in sent))
    assert [(m["tab"], m["n"]) for m, _ in sent] == [("a", 19), ("b", 99), ("c", 100)]


def wait(until) -> None:
    for _ in range(2000):
        if until():
            return
        time.sleep(0.02)
    raise AssertionError("what was waited for did not happen")


def test_a_widget_that_nobody_holds_ends_with_its_model_its_thread_and_its_place_in_ipywidgets(
    model, clips, source, tmp_path
):
    """As where a cell runs again: the new one takes the name of the old, and a map beside an instrument ends alone, too."""
    known = len(ipywidgets.widgets.widget._instances)

    def threads():  # those of widgets: tqdm and numba have their own
        return sum("(_work)" in thread.name for thread in threading.enumerate())

    others = threads()

    def alive(*refs):
        gc.collect()
        return [ref() is not None for ref in refs]

    play = Instrument(copy.deepcopy(model), clips, source, tmp_path / "out")
    atlas = LatentMap(play, draws=40)
    refs = [weakref.ref(o) for o in (play.model, play, atlas)]
    atlas = LatentMap(play, draws=40)
    assert alive(*refs) == [True, True, False] and len(play.followers) == 1
    play.ask({"do": "nothing"}, [])  # what its thread did last does not hold it
    play = Instrument(copy.deepcopy(model), clips, source, tmp_path / "out")
    atlas = LatentMap(play, draws=40)
    wait(lambda: alive(*refs) == [False, False, False])
    wait(lambda: threads() == others + 1)
    assert len(ipywidgets.widgets.widget._instances) == known + 2
    state = play.begin(play.drawn())
    play.tell(state, {})  # the new ones work
    del play, atlas, state
    wait(lambda: alive() == [] and threads() == others)
    assert len(ipywidgets.widgets.widget._instances) == known


def test_what_is_kept_can_be_made_again(play, sent, source):
    for i in range(3):
        play.begin(play.drawn("kick" if i else None))
        play.answer({"do": "pad", "pad": i}, [], {})
    folder = play.pack()
    notes = json.loads((folder / "pads.json").read_text())["pads"]
    again = render(play.model, notes)
    for note, x in zip(notes, again, strict=True):
        assert np.array_equal(soundfile.read(folder / note["file"], dtype="int16")[0], np.round(x.clip(-1, 1) * 32767))
    play.answer({"do": "star"}, [], {})
    (star,) = stars(source)
    np.testing.assert_array_equal(render(play.model, [star]), render(play.model, notes[-1:]))


def test_the_corners_of_the_plane_are_the_pads(play, sent):
    for i in range(4):
        play.begin(play.drawn())
        play.answer({"do": "pad", "pad": i}, [], {})
    for corner, (x, y) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
        torch.testing.assert_close(play.plane([0, 1, 2, 3], x, y).z, play.pads[corner].z)
    with pytest.raises(UsageError, match="Pad 6 is empty"):
        play.plane([0, 1, 5, 3], 0.5, 0.5)


def test_kept_directions_come_back(play, sent):
    whole, k = play.state.z, len(play.share)
    for kept in (0, 1, k // 2, k, 1, k + 99):
        play.answer({"do": "keep", "k": kept}, [], {})
        assert sent[-1][0]["kept"] == min(kept, k)
        if kept == 0:
            torch.testing.assert_close(play.state.z, play.centre)
    assert torch.equal(play.state.z, whole)


def test_the_start_is_that_of_the_sound_also_after_undo(play, sent):
    axes = next(iter(play.axes))
    first = play.begin(play.drawn())
    play.move(axes, [1.0] * len(play.axes[axes].names))
    play.begin(play.keep(2))
    play.answer({"do": "start"}, [], {})
    np.testing.assert_array_equal(np.frombuffer(sent[-1][1][0], "<f4"), play.sound(first))
    play.begin(play.drawn())
    play.answer({"do": "undo"}, [], {})
    play.answer({"do": "start"}, [], {})
    np.testing.assert_array_equal(np.frombuffer(sent[-1][1][0], "<f4"), play.sound(first))
    with pytest.raises(UsageError, match="All axes are locked"):
        play.answer({"do": "random", "axes": axes, "free": [], "size": 1}, [], {})


@pytest.mark.parametrize("temperature", [-0.1, HOTTEST + 0.1, 9, float("nan")])
def test_a_temperature_has_one_bound_in_the_page_in_python_and_in_the_command(
    play, temperature, source, monkeypatch, capsys
):
    with pytest.raises(UsageError, match=rf"from 0 \(typical\) to {HOTTEST:g} \(wild\)") as refused:
        play.model.draw(1, temperature=temperature)
    with pytest.raises(UsageError) as asked:
        play.answer({"do": "draw", "temperature": temperature}, [], {})
    assert str(asked.value) == str(refused.value) and play.setup()["hottest"] == HOTTEST
    with pytest.raises(SystemExit):
        cli.app(["generate", "--help"])
    assert f"From 0, typical, to {HOTTEST:g}, wild." in " ".join(capsys.readouterr().out.split())


def test_damaged_stars_are_a_sentence(tmp_path):
    (tmp_path / "stars.json").write_text("[{")
    with pytest.raises(UsageError, match=r"is damaged .* delete it"):
        stars(tmp_path)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [("a.wav", b"", "empty"), ("a.wav", b"text", "libsndfile cannot read"), ("b", b"x", "b cannot be played")],
)
def test_an_upload_that_is_no_sound_says_why(play, sent, name, data, reason):
    play.ask({"do": "upload", "name": name, "tab": "a", "n": 1}, [data])
    wait(lambda: sent)
    assert sent[0][0]["what"] == "error" and reason in sent[0][0]["text"]


def test_a_family_without_single_vectors_is_refused(clips, tmp_path):
    frame = models.for_clips(clips, "frame", "tiny")
    with pytest.raises(UsageError, match="no single vector"):
        Instrument(frame, clips, tmp_path, tmp_path)
