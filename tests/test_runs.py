"""Laws of the run folder: who may write in it, what it tells, and how it ended."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import spoilt

import workbench.runs.folder as run_folder
from workbench import files, runs
from workbench.errors import UsageError
from workbench.files import locks

HOLD = """
import sys, time
from workbench import runs
run = runs.start(sys.argv[1], {"steps": 3}, notebook="2_train")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the run folder tmp_path/run."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_record_tells_what_made_the_run(tmp_path):
    run = runs.start(
        tmp_path / "a", {"beta": 0.1, "sizes": (1, 2)}, notebook="2_train", data="f00", seed=3, note="first"
    )
    assert runs.status(run.folder) == "running"
    run.note(data="beef")
    run.path("clips/one.wav").write_text("")
    run.finish(loss=np.float32(0.5), worst=float("nan"))
    record = runs.read(tmp_path / "a")
    expected = {
        "settings": {"beta": 0.1, "sizes": [1, 2]},
        "notebook": "2_train",
        "data": "beef",
        "seed": 3,
        "note": "first",
    }
    assert {key: record[key] for key in expected} == expected
    assert record["results"] == {"loss": 0.5, "worst": None}
    assert record["status"] == runs.status(tmp_path / "a") == "finished"
    assert record["versions"]["torch"].startswith("2.") and record["threads"] >= 1 and record["wall_seconds"] >= 0
    assert record["started"].endswith("Z") and record["started"] <= record["ended"]


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [(ValueError("no clips"), "failed", "no clips"), (KeyboardInterrupt(), "interrupted", "keyboard")],
)
def test_a_with_block_records_how_it_was_left(tmp_path, error, status, reason):
    with pytest.raises(type(error)), runs.start(tmp_path / "a", {}):
        raise error
    assert runs.status(tmp_path / "a") == status and reason in runs.read(tmp_path / "a")["reason"]
    with runs.start(tmp_path / "b", {}) as run:
        run.fail("it ignores z")
    assert runs.read(tmp_path / "b")["reason"] == "it ignores z"


def test_a_folder_in_use_is_refused_by_name_and_free_after_a_kill(tmp_path, holder):
    folder = tmp_path / "run"
    assert runs.status(folder) == "running"
    for attempt in (
        lambda: runs.start(folder, {}, resume=True),
        lambda: runs.start(folder, {}, replace=True),
        lambda: runs.admit(folder, replace=True),
        lambda: (files.write_json(tmp_path / "run.json", {"notebook": "demo"}), runs.admit(tmp_path, replace=True)),
    ):
        with pytest.raises(runs.RunError, match=f"in use by process {holder.pid} on .+ since 20"):
            attempt()
    assert runs.read(folder)["settings"] == {"steps": 3}, "a refusal must leave the run as it is"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert runs.status(folder) == "interrupted"
    with runs.start(folder, {"steps": 4}, resume=True):
        pass
    assert [past["settings"] for past in runs.read(folder)["history"]] == [{"steps": 3}]


@pytest.mark.skipif(
    not hasattr(os, "fork"), reason="without fork (Windows) no child can inherit the descriptor of a lock"
)
def test_a_forked_worker_does_not_keep_the_folder_locked(tmp_path):
    lock = locks.take(tmp_path)
    if (child := os.fork()) == 0:
        time.sleep(30)
        os._exit(0)
    lock._file.close()  # as when the process dies: no unlocking, only the last descriptor gone
    try:
        deadline = time.monotonic() + 5
        while locks.holder(tmp_path) is not None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert locks.holder(tmp_path) is None
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_an_existing_run_is_kept_unless_asked(tmp_path):
    folder = tmp_path / "a"
    runs.start(folder, {"n": 1}).finish()
    (folder / "model").write_text("weights")
    with pytest.raises(
        runs.RunError, match=r"holds a run already \(finished\).*replace.*where it was training, to resume"
    ):
        runs.start(folder, {"n": 2})
    with pytest.raises(runs.RunError, match="both"):
        runs.start(folder, {}, resume=True, replace=True)
    runs.start(folder, {"n": 2}, resume=True).finish()
    runs.start(folder, {"n": 3}, resume=True).finish()
    assert (folder / "model").exists()
    assert [past["settings"]["n"] for past in runs.read(folder)["history"]] == [1, 2]
    runs.start(folder, {"n": 4}, replace=True).finish()
    assert not (folder / "model").exists() and "history" not in runs.read(folder)


def test_only_a_run_folder_is_ever_emptied(tmp_path):
    precious = tmp_path / "thesis.tex"
    precious.write_text("years of work")
    for replace in (False, True):
        with pytest.raises(runs.RunError, match=r"no run\.json \(for example thesis\.tex\)"):
            runs.start(tmp_path, {}, replace=replace)
    with pytest.raises(runs.RunError, match="is a file"):
        runs.start(precious, {}, replace=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "sound.wav").write_text("")
    run = runs.start(tmp_path / "run", {})
    run.path("link").symlink_to(outside)
    run.finish()
    runs.start(tmp_path / "run", {}, replace=True).finish()
    assert precious.read_text() == "years of work" and (outside / "sound.wav").exists()


def test_the_notebook_being_executed_does_not_stand_in_the_way(tmp_path):
    (tmp_path / "2_train.ipynb").write_text("{}")
    runs.start(tmp_path, {}, notebook="2_train").finish()
    assert (tmp_path / "2_train.ipynb").exists()


def test_a_cell_may_be_run_twice_in_one_kernel(tmp_path):
    runs.start(tmp_path / "a", {"n": 1})
    run = runs.start(tmp_path / "a", {"n": 2}, resume=True)
    assert runs.read(run.folder)["settings"] == {"n": 2} and runs.status(run.folder) == "running"
    run.close()
    assert runs.status(run.folder) == "interrupted"


def test_newest_and_locate(tmp_path):
    with pytest.raises(runs.RunError, match="workbench run train"):
        runs.newest(tmp_path)
    for name, notebook, end in (
        ("a", "2_train", "finish"),
        ("demo", "demo", "finish"),
        ("demo/train", "2_train", "finish"),
        ("demo/data", "1_data", "finish"),
        ("b", "2_train", "close"),
    ):
        run = runs.start(tmp_path / name, {}, notebook=notebook)
        run.note(started=f"2026-01-0{len(list(tmp_path.rglob('run.json')))}T00:00:00Z")
        getattr(run, end)()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    assert runs.newest(tmp_path) == tmp_path / "demo" / "train", "b is newer, but did not finish"
    assert runs.newest(tmp_path, "1_data") == tmp_path / "demo" / "data"
    assert runs.locate(tmp_path / "demo") == runs.locate(tmp_path / "demo" / "train") == tmp_path / "demo" / "train"
    with pytest.raises(runs.RunError, match="is a run of 1_data, and 2_train is needed"):
        runs.locate(tmp_path / "demo" / "data")
    for folder, says in (("broken", "is damaged"), ("nowhere", "does not exist"), ("", "holds no run.json")):
        with pytest.raises(runs.RunError, match=says):
            runs.locate(tmp_path / folder)


def test_a_damaged_record_is_a_sentence_and_spoils_no_neighbour(tmp_path):
    for name, notebook in (("demo", "demo"), ("demo/a", "2_train"), ("demo/b", "2_train"), ("c", "2_train")):
        runs.start(tmp_path / name, {"store": "s"}, notebook=notebook, data="f00").finish()
        runs.start(tmp_path / name, {"store": "s"}, notebook=notebook, data="f00", resume=True).note(
            started=f"2026-01-0{len(list(tmp_path.rglob('run.json')))}T00:00:00Z"
        )
        runs.start(tmp_path / name, {"store": "s"}, notebook=notebook, data="f00", resume=True).finish()
    for name in ("demo/b", "c"):
        for way in spoilt(tmp_path / name / "run.json", ("status", "started", "settings", "data", "seed", "results")):
            try:
                runs.read(tmp_path / name)
                assert way in [f"{key}: {value}" for key in ("data", "seed", "results") for value in (..., None)], way
            except runs.RunError as error:
                assert "run.json" in str(error), way
            assert runs.newest(tmp_path).name in "abc", way
            assert runs.locate(tmp_path / "demo").name in "ab", way
    for way in spoilt(tmp_path / "demo" / "run.json"):  # the folder itself, of which a run lies within
        if way != "gone":
            assert runs.locate(tmp_path / "demo") == tmp_path / "demo" / "b", way
    with pytest.raises(runs.RunError, match="its settings name no labels"):
        runs.read(tmp_path / "c", store=str, labels=list)


@pytest.mark.parametrize("name", ["a [1]", "a*", "what?", "[ab]", "[", "{x}", "a b", "ä"])
def test_runs_are_found_whatever_their_folder_is_called(tmp_path, name):
    for folder in (name, f"{name}/train"):
        runs.start(tmp_path / folder, {}, notebook="demo" if folder == name else "2_train").finish()
    assert runs.newest(tmp_path) == runs.locate(tmp_path / name) == tmp_path / name / "train"
    assert runs.newest(tmp_path / name) == tmp_path / name / "train"


def test_a_run_goes_on_with_the_clips_it_was_begun_with(tmp_path):
    runs.start(tmp_path / "a", {}, notebook="2_train", data="f00d").finish()
    for other, said in (
        ({"data": "beef"}, "fingerprint f00d, and those of its store have beef"),
        ({"notebook": "1_data"}, "is a run of 2_train, and 1_data cannot go on"),
    ):
        with pytest.raises(runs.RunError, match=said):
            runs.start(tmp_path / "a", {}, resume=True, **{"notebook": "2_train", "data": "f00d", **other})
        assert runs.status(tmp_path / "a") == "finished" and "history" not in runs.read(tmp_path / "a")
    runs.start(tmp_path / "a", {}, notebook="2_train", data="f00d", resume=True).finish()


def test_a_folder_that_is_gone_is_not_a_full_disk(tmp_path):
    with pytest.raises(UsageError, match=r"run\.json could not be written \(No such file") as refusal:
        run = runs.start(tmp_path / "a", {})
        (tmp_path / "a").rename(tmp_path / "b")
        run.finish()
    assert "room" not in str(refusal.value)
    with pytest.raises(ValueError, match="the reason"), runs.start(tmp_path / "c", {}):
        (tmp_path / "c").rename(tmp_path / "d")
        raise ValueError("the reason")
    with pytest.raises(FileNotFoundError), files.room(tmp_path / "e"):  # what is read meanwhile lies elsewhere
        (tmp_path / "stores" / "a" / "index").read_text()


def test_a_copied_notebook_finds_runs_beside_it_and_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.delenv("WORKBENCH_HOME", raising=False)
    here = tmp_path / "thesis" / "copies"
    here.mkdir(parents=True)
    monkeypatch.setattr("workbench.runs.folder._beside", [])
    monkeypatch.chdir(here)
    runs.go_home()
    with pytest.raises(runs.RunError, match=str(here / "runs")):
        runs.newest()
    run = tmp_path / "thesis" / "runs" / "a"
    for folder in (run, here / "b"):
        runs.start(folder, {}, notebook="2_train").finish()
        runs.go_home()  # to the nearest folder with runs
        assert runs.newest().resolve() == run
    assert Path.cwd() == tmp_path / "thesis" and runs.locate("b").resolve() == here / "b"
    (tmp_path / "thesis" / "runs").rename(tmp_path / "away")
    assert runs.newest().resolve() == here / "b"
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    runs.go_home()
    assert Path.cwd() == tmp_path / "home" and runs.newest() == here / "b"
    (here / "b").rename(tmp_path / "b")
    (tmp_path / "away").rename(tmp_path / "thesis" / "runs")
    assert runs.newest() == run == runs.locate("runs/a"), "in `runs` above the notebook"


def test_runs_above_the_notebooks_of_the_checkout_are_not_taken(monkeypatch):
    monkeypatch.setattr("workbench.runs.folder._beside", [])
    runs.beside(Path(runs.__file__).parents[2] / "notebooks" / "extras")
    assert run_folder._beside == []


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    files.write_json(tmp_path / "a.json", {"n": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_json(tmp_path / "a.json", {"n": 2})
    assert json.loads((tmp_path / "a.json").read_text()) == {"n": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_json_takes_what_settings_hold(tmp_path):
    settings = {
        "path": Path("x"),
        "array": np.arange(2),
        "set": {"b", "a"},
        "inf": [float("inf")],
        "none": None,
        3: True,
    }
    files.write_json(tmp_path / "a.json", settings)
    expected = {"path": "x", "array": [0, 1], "set": ["a", "b"], "inf": [None], "none": None, "3": True}
    assert json.loads((tmp_path / "a.json").read_text()) == expected


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("workbench.runs.folder.time.strftime", lambda *_: "20260131-120000")
    for expected in ("20260131-120000-train", "20260131-120000-train-2", "20260131-120000-train-3"):
        assert runs.fresh("2_train") == Path("runs", expected)
        Path("runs", expected).mkdir(parents=True)
