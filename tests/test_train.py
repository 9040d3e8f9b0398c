"""Training on a real store: stages, logs, the alarm, and resuming to the bit."""

import json
import os
import shutil
import signal
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import spoilt

from workbench import autoencoder, data, models, runs, training
from workbench.errors import UsageError
from workbench.latent.fidelity import fidelity
from workbench.training import checkpoints, log
from workbench.training.collapse import usage


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Some hundred clips of the built-in pack, 0.19 s at 22,050 Hz."""
    return data.build(
        "synthetic", tmp_path_factory.mktemp("stores") / "tiny", seconds=0.18, rate=22_050, progress=False
    )


def tiny(clips, family="wave", **settings):
    torch.manual_seed(0)
    return models.build(
        family, "tiny", **{"length": clips.length, "rate": clips.rate, "labels": clips.labels, **settings}
    )


STEPS = {"autoencode": 12, "adversarial": 4, "prior": 20}


@pytest.fixture(scope="module")
def trained(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    with runs.start(folder, {}) as run:
        training.fit(tiny(clips, steps=STEPS), clips, run)
    return folder


def test_a_run_leaves_a_model_a_log_and_scalars(trained, clips):
    model = autoencoder.load(trained)
    assert model.sample(3, label="kick").shape == (3, 1, clips.length)
    table = training.read_log(trained / "log.jsonl")
    assert {"autoencode", "adversarial", "prior"} == set(table.stage)
    assert {"distance", "kl", "nats", "discriminator", "nll", "rise", "active"} <= set(table.name)
    distance = (
        table[(table.stage == "autoencode") & (table.split == "valid") & (table.name == "distance")]
        .sort_values("step")
        .value
    )
    assert distance.iloc[-1] < distance.iloc[0]
    assert any(p.name.startswith("events") for p in (trained / "tensorboard").iterdir())
    assert not (trained / "checkpoint.pt").exists()
    assert json.loads((trained / "run.json").read_text())["usage"]["alarm"] == ""


def test_the_prior_beats_the_standard_normal_on_held_out_latents(trained, clips):
    model, held = autoencoder.load(trained), clips.split("test")
    z, c = model.latents(held), torch.from_numpy(held.context())
    with torch.no_grad():
        plain = -0.5 * (z.square() + np.log(2 * np.pi)).sum(1)
        assert model.prior.log_prob(z, c).mean() > plain.mean()


@pytest.mark.parametrize("stop", [5, 9, 14])  # within the first stage, after a checkpoint of it, in the second
def test_resuming_after_ctrl_c_gives_the_same_weights_to_the_bit(clips, trained, tmp_path, stop, monkeypatch):
    count, original = 0, training.Loop.step

    def interrupted(loop):
        nonlocal count
        count += 1
        if count == stop:
            raise KeyboardInterrupt
        original(loop)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), runs.start(tmp_path / "run", {}) as run:
        patch.setattr(training.Loop, "step", interrupted)
        training.fit(tiny(clips, steps=STEPS), clips, run)
    assert runs.status(tmp_path / "run") == "interrupted"
    with runs.start(tmp_path / "run", {}, resume=True) as run:
        torch.manual_seed(99)  # of no consequence
        training.fit(
            models.build("wave", "tiny", length=clips.length, rate=clips.rate, labels=clips.labels, steps=STEPS),
            clips,
            run,
            resume=True,
        )
    a, b = (autoencoder.load(f).state_dict() for f in (trained, tmp_path / "run"))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_full_disk_is_a_sentence_and_the_training_goes_on_when_there_is_room(clips, tmp_path, trained):
    resource = pytest.importorskip("resource")  # a limit on the size of files stands for a disk without room
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(UsageError, match="make room on the disk and resume"), runs.start(tmp_path, {}) as run:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        try:
            training.fit(tiny(clips, steps=STEPS), clips, run)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert runs.status(tmp_path) == "failed" and not list(tmp_path.glob("*.part"))
    with runs.start(tmp_path, {}, resume=True) as run:
        training.fit(tiny(clips, steps=STEPS), clips, run, resume=True)
    a, b = (autoencoder.load(f).state_dict() for f in (trained, tmp_path))
    assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def broken(clips, tmp_path_factory):
    """A run that was interrupted in the middle of its first stage."""
    folder, original = tmp_path_factory.mktemp("runs") / "broken", training.Loop.step

    def interrupted(loop):
        if loop.at.step == 4:
            raise KeyboardInterrupt
        original(loop)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt), runs.start(folder, {}) as run:
        patch.setattr(training.Loop, "step", interrupted)
        training.fit(tiny(clips, steps=STEPS), clips, run)
    return folder


@pytest.fixture
def stopped(broken, tmp_path):
    shutil.copytree(broken, tmp_path / "run")
    return tmp_path / "run"


def resumed(clips, folder, **settings):
    with runs.start(folder, {}, resume=True) as run:
        return training.fit(tiny(clips, **{"steps": STEPS, **settings}), clips, run, resume=True)


def relabelled(clips, folder, change):
    """A copy of a store whose index was changed: the same clips, and so the same fingerprint."""
    shutil.copytree(clips.store, folder)
    index = pd.read_parquet(folder / "index.parquet")
    change(index)
    index.to_parquet(folder / "index.parquet", index=False)
    return data.Clips(folder)


def test_a_damaged_checkpoint_is_a_sentence(clips, stopped):
    checkpoint = stopped / "checkpoint.pt"
    says, cpu = r"checkpoint\.pt is damaged \(.+\), so .* begin anew with --replace", torch.device("cpu")
    for way in spoilt(checkpoint):
        if way != "gone":  # then it begins anew
            with pytest.raises(UsageError, match=says):
                checkpoints.read(checkpoint, {}, cpu)
    state = torch.load(checkpoint, weights_only=True)
    at = state["progress"]
    wrongs = [[1], {}, {"model": {}}, {**state, "done": None}, {**state, "progress": 3}, {**state, "optimisers": None}]
    wrongs += [{k: v for k, v in state.items() if k != key} for key in state if key != "made of"]
    wrongs += [{**state, "progress": {k: v for k, v in at.items() if k != key}} for key in at]
    for wrong in wrongs:
        torch.save(wrong, checkpoint)
        with pytest.raises(UsageError, match=says):
            checkpoints.read(checkpoint, {}, cpu)
    for wrong in ({"model": {}}, {"optimisers": [{}, {}]}):
        torch.save({**state, **wrong}, checkpoint)
        with pytest.raises(UsageError, match="is damaged"):
            resumed(clips, stopped)


def test_a_torn_log_keeps_its_whole_lines(clips, stopped):
    path = stopped / "log.jsonl"
    lines = path.read_text()
    for way in spoilt(path):
        if way not in ("gone", "a folder"):
            assert len(log.whole(path)) < len(lines.splitlines()), way
        with pytest.raises(UsageError, match="holds no line") if not way.startswith(("cut", "two")) else nullcontext():
            training.read_log(path)
    path.write_text(lines + '{"stage": "auto')
    resumed(clips, stopped)
    assert len(log.whole(path)) == len(path.read_text().splitlines()) > len(lines.splitlines())


@pytest.mark.parametrize("end", ["stopped", "finished"])
def test_a_training_goes_on_with_the_settings_labels_and_splits_it_was_begun_with(
    clips, trained, stopped, tmp_path, end
):
    def another(index):
        index.loc[index.label == "kick", "label"] = "gong"

    def moved(index):
        index.loc[(index.split == "valid") & (index.label == "kick"), "split"] = "train"

    folder = stopped if end == "stopped" else shutil.copytree(trained, tmp_path / "finished")
    says = "was begun with {}.* came now: resume it with what it was begun with"
    with pytest.raises(UsageError, match=says.format("latent = 8, and latent = 4")):
        resumed(clips, folder, latent=4)
    for name, change, said in (("labels", another, "labels = "), ("splits", moved, "digest of labels and splits")):
        other = relabelled(clips, tmp_path / name, change)
        assert other.fingerprint == clips.fingerprint and not other.index.equals(clips.index)
        if end == "stopped" or name == "labels":  # splits of a finished model matter no more for its training
            with pytest.raises(UsageError, match=says.format(said)):
                resumed(other, folder)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's own thread
def test_a_checkpoint_whose_folder_is_gone_does_not_ask_for_room(clips, tmp_path, monkeypatch):
    original = training.Loop.step

    def moved(loop):
        original(loop)
        if loop.at.step == 3:
            (tmp_path / "run").rename(tmp_path / "away")

    with pytest.raises(UsageError) as refusal, runs.start(tmp_path / "run", {}) as run:
        monkeypatch.setattr(training.Loop, "step", moved)
        training.fit(tiny(clips, steps=STEPS), clips, run)
    said = str(refusal.value)
    assert "No such file or directory" in said and "see that its folder is there" in said and "room" not in said


def test_a_store_of_which_nothing_is_held_out_is_refused_with_what_to_do(clips, tmp_path):
    for i, (name, other) in enumerate((("valid", "train"), ("test", "valid"), ("train", "near"))):

        def change(index, name=name, other=other):
            index.loc[index.split == name, "split"] = other

        store = relabelled(clips, tmp_path / str(i), change)
        has = ", ".join(f"{(store.index.split == part).sum()} {part}" for part in ("train", "valid", "test"))
        with pytest.raises(
            UsageError, match=f"splits {has}, and training takes at least 2 train.*: add sounds that differ"
        ):
            training.fit(tiny(store), store, None)


@pytest.mark.parametrize("asked", [{"accelerator": "banana"}, {"precision": "7-bit"}])
def test_a_device_or_precision_that_is_not_there_is_refused(clips, tmp_path, asked):
    with (
        pytest.raises(training.TrainingError, match="'auto' and '32-true' work everywhere"),
        runs.start(tmp_path, {}) as run,
    ):
        training.fit(tiny(clips, steps=STEPS), clips, run, **asked)


def test_ctrl_c_within_a_step_waits_for_its_end(clips, tmp_path, monkeypatch, trained):
    original, losses = training.Loop.descend, []

    def descend(loop, *given):
        losses.append(1)
        if len(losses) == 3:
            os.kill(os.getpid(), signal.SIGINT)  # between the gradient and the count of the step
        return original(loop, *given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), runs.start(tmp_path / "run", {}) as run:
        patch.setattr(training.Loop, "descend", descend)
        training.fit(tiny(clips, steps=STEPS), clips, run)
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["progress"]["step"] == 3 and len(losses) == 3
    with open(tmp_path / "run" / "log.jsonl", "a") as file:  # as a killed training would have gone on
        print(json.dumps({"stage": "autoencode", "step": 10, "split": "train", "distance": 9.0}), file=file)
    with runs.start(tmp_path / "run", {}, resume=True) as run:
        training.fit(tiny(clips, steps=STEPS), clips, run, resume=True)
    a, b = (autoencoder.load(f).state_dict() for f in (trained, tmp_path / "run"))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert training.read_log(tmp_path / "run" / "log.jsonl").equals(training.read_log(trained / "log.jsonl"))


def test_resuming_a_finished_run_keeps_its_model(clips, trained, capsys):
    with runs.start(trained, {}, resume=True) as run:
        model = training.fit(tiny(clips, steps=STEPS), clips, run, resume=True)
    assert "had finished before" in capsys.readouterr().out
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in autoencoder.load(trained).state_dict().items())


def test_the_alarm_rings_for_a_decoder_that_ignores_z(clips, tmp_path, capsys):
    model = tiny(clips, start="random", beta=1000.0, warmup=0, steps={"autoencode": 20, "adversarial": 0, "prior": 0})
    with runs.start(tmp_path / "run", {}) as run:
        training.fit(model, clips, run)
    assert "COLLAPSE" in capsys.readouterr().out
    found = usage(model, clips.split("valid"))
    assert "Lower `beta`" in found.alarm and found.rise < 0.05
    assert "COLLAPSE" in json.loads((tmp_path / "run" / "run.json").read_text())["usage"]["alarm"]


def test_the_alarm_is_silent_for_a_model_that_listens(trained, clips):
    found = usage(autoencoder.load(trained), clips.split("valid"))
    assert found.alarm == "" and found.rise > 0.1 and found.active == 8 and found.kl.shape == (8,)


@pytest.mark.parametrize(
    "settings", [{"posterior": "flow"}, {"conditional": True}, {"prior": "mixture"}, {"prior": "spline"}], ids=str
)
def test_settings_of_the_thesis_train(clips, tmp_path, settings):
    with runs.start(tmp_path / "run", {}) as run:
        training.fit(tiny(clips, steps={"autoencode": 2, "adversarial": 0, "prior": 2}, **settings), clips, run)
    model = autoencoder.load(tmp_path / "run")
    assert torch.isfinite(model.sample(3, label="snare")).all()
    assert usage(model, clips.split("valid"), n=16).kl.size == (1 if settings.get("posterior") else 8)


def test_a_series_family_trains_without_a_prior(clips, tmp_path):
    with runs.start(tmp_path / "run", {}) as run:
        training.fit(tiny(clips, "frame"), clips, run)
    assert autoencoder.load(tmp_path / "run").prior is None


def test_bf16_trains(clips, tmp_path):
    with runs.start(tmp_path / "run", {}) as run:
        model = training.fit(
            tiny(clips, steps={"autoencode": 2, "adversarial": 1, "prior": 2}), clips, run, precision="bf16-mixed"
        )
    assert torch.isfinite(model.sample(2)).all()


def test_mistakes_are_sentences(clips, tmp_path):
    with runs.start(tmp_path / "run", {}) as run:
        with pytest.raises(ValueError, match=r"8192 values.*4096 values"):
            training.fit(tiny(clips, length=8192), clips, run)
        with pytest.raises(training.TrainingError, match="no stage vocoder; it has autoencode, adversarial, prior"):
            training.fit(tiny(clips), clips, run, stages=["vocoder"])
        model = tiny(clips)
        stage = model.stages()[0]
        object.__setattr__(stage, "weights", {"distence": 1.0})
        model.stages = lambda: (stage,)
        with pytest.raises(training.TrainingError, match="weighs distence, but its losses are distance, kl, nats"):
            training.fit(model, clips, run)


def test_a_store_that_was_relabelled_is_refused(clips, trained):
    model = autoencoder.load(trained)
    model.check(clips)
    model.labels = ("gong", *model.labels[1:])
    with pytest.raises(ValueError, match=r"they differ in chime, gong.*train again"):
        model.check(clips)


def test_a_loud_draw_is_rounded_off_not_cut(trained):
    model = autoencoder.load(trained)
    quiet = model.sample(16, seed=1)
    with torch.no_grad():
        model.decoder.envelope.weight *= 1.2
    x = model.sample(16, seed=1)
    assert 0.85 < x.abs().max() <= 1 and (x.abs() == 1).float().mean() < 1e-4
    y = quiet[quiet.abs().amax((1, 2)) < 0.8]
    assert len(y) and torch.isfinite(y).all()


def test_a_loss_that_is_not_finite_stops_training(clips, tmp_path):
    model = tiny(clips)
    torch.nn.init.constant_(model.decoder.out.bias, float("nan"))
    with (
        runs.start(tmp_path / "run", {}) as run,
        pytest.raises(training.TrainingError, match="'distance' is nan at step"),
    ):
        training.fit(model, clips, run)


def test_fidelity_finds_the_directions_and_says_how_sure():
    rng = np.random.default_rng(0)
    scales = np.array([10, 5, 1, 0.1, 0.1, 0.1])
    a, b = (rng.standard_normal((300, 6)) * scales for _ in range(2))
    found = fidelity(a, b)
    assert found.n == 300 and found.dimensions(0.95) == 2 and found.share[-1] == pytest.approx(1)
    assert (found.low <= found.share + 1e-9).all() and (found.share <= found.high + 1e-9).all()
    series = np.stack([b, b, b], 1)  # three equal frames say no more than one: the interval stays as wide
    again = fidelity(a, series)
    np.testing.assert_allclose(again.share, found.share)
    np.testing.assert_allclose(again.low, found.low)
    with pytest.raises(ValueError, match="2 latents"):
        fidelity(a[:2], b)
