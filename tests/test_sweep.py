"""Laws of sweeps: every cell once, what is shared once, typed values, and on again where they stopped."""

import json
import signal
import subprocess
import sys
import time

import pytest
from conftest import PARAMETERS, spoilt

from workbench.runs import RunError, notebooks, sweeps

SPEC = """
what: Does it add up?
needs: {start: a number to begin with}
grid: {fold: [0, 1], beta: [0.5, 2.0]}
runs:
  - notebook: NOTEBOOK
    out: OUT/{fold}/first
    parameters: {steps: "{fold}", name: "of {start}"}
  - notebook: NOTEBOOK
    out: OUT/{fold}/{beta}
    parameters: {rate: "{beta}", settings: {deep: ["{beta}", "{start}"]}}
"""
CELL = """
import pathlib
from workbench import runs
with runs.start(out, dict(rate=rate, settings=settings), notebook="job", resume=resume, replace=replace) as here:
    if rate == 2.0 and not pathlib.Path("allowed").exists():
        raise runs.RunError("two is too much")
    here.finish(rate=rate)
"""


@pytest.fixture
def spec(tmp_path, monkeypatch, write_notebook):
    monkeypatch.chdir(tmp_path)
    path = write_notebook(tmp_path / "job.ipynb", CELL, parameters=PARAMETERS)
    file = tmp_path / "sweep.yaml"
    file.write_text(SPEC.replace("NOTEBOOK", str(path)).replace("OUT", str(tmp_path / "out")))
    return file


def test_a_grid_becomes_jobs_of_typed_values(spec, tmp_path):
    jobs = sweeps.jobs(sweeps.read(spec, {"start": "7"}))
    assert [str(job.out.relative_to(tmp_path / "out")) for job in jobs] == [
        "0/first",
        "0/0.5",
        "0/2.0",
        "1/first",
        "1/0.5",
        "1/2.0",
    ]
    assert jobs[0].parameters == {"steps": 0, "name": "of 7"} and jobs[0].after == ()
    assert jobs[2].parameters == {"rate": 2.0, "settings": {"deep": [2.0, "7"]}} and jobs[2].after == (jobs[0].out,)
    assert len(sweeps.jobs(sweeps.read(spec, {"start": "7", "fold": "1"}))) == 3


def test_what_is_wrong_with_a_sweep_is_said(spec, tmp_path):
    for sentence, given in {
        r"needs -p start VALUE \(a number to begin with\)": {},
        "knows no stat; it takes start, fold, beta": {"start": "1", "stat": "2"},
    }.items():
        with pytest.raises(RunError, match=sentence):
            sweeps.read(spec, given)
    with pytest.raises(RunError, match="no sweep"):
        sweeps.read(tmp_path / "missing.yaml")
    for old, new, sentence in (
        ("grid", "gird", "is no sweep"),
        ("steps:", "step:", "no parameter step. Did you mean steps"),
        ("{fold}", "{fond}", "names 'fond'"),
    ):
        other = tmp_path / "other.yaml"
        other.write_text(spec.read_text().replace(old, new))
        with pytest.raises(RunError, match=sentence):
            sweeps.jobs(sweeps.read(other, {"start": "1"}))


def test_a_sweep_goes_on_where_it_stopped(spec, tmp_path):
    jobs, said = sweeps.jobs(sweeps.read(spec, {"start": "7", "fold": "0"})), []
    ended = sweeps.run(jobs, 2, said.append)
    assert ended[jobs[1].out] == "finished" and "two is too much" in ended[jobs[2].out] and len(said) == 3
    record = json.loads((jobs[1].out / "run.json").read_text())
    assert record["settings"] == {"rate": 0.5, "settings": {"deep": [0.5, "7"]}}
    (tmp_path / "allowed").touch()
    assert set(sweeps.run(jobs, 1, said.append).values()) == {"finished"}
    assert json.loads((jobs[1].out / "run.json").read_text()) == record  # what was done is not done again


def test_what_needs_a_failed_run_is_left_out(spec, tmp_path):
    spec.write_text(spec.read_text().replace("name:", "rate: 2.0, name:"))
    jobs = sweeps.jobs(sweeps.read(spec, {"start": "7", "fold": "0"}))
    ended = sweeps.run(jobs, 1, lambda line: None)
    assert "two is too much" in ended[jobs[0].out] and all("left out" in ended[job.out] for job in jobs[1:])
    assert not jobs[1].out.exists()


def test_the_sweeps_of_the_thesis_fit_their_notebooks():
    for file, runs in {"flows": 5 + 2 * 150, "flows-small": 3 + 2 * 36}.items():
        jobs = sweeps.jobs(sweeps.read(f"notebooks/sweeps/{file}.yaml", {"source": "synthetic"}))
        assert len(jobs) == runs, file
        assert {job.notebook for job in jobs} == {"data", "train", "priors"} and notebooks.resolve("priors")


def test_a_grid_means_what_it_says(spec):
    spec.write_text(spec.read_text().replace("[0.5, 2.0]", "[1e-3, 2]").replace('"of {start}"', '"of {beta}"'))
    jobs = sweeps.jobs(sweeps.read(spec, {"start": "on", "fold": "[010]"}))
    assert jobs[1].parameters == {"rate": 1e-3, "settings": {"deep": [1e-3, "on"]}} and jobs[1].out.name == "1e-3"
    assert jobs[0].parameters == {"steps": 10, "name": "of 1e-3"} and jobs[0].out.parts[-2] == "010"


def test_a_damaged_run_does_not_spoil_the_others(spec, tmp_path):
    jobs = sweeps.jobs(sweeps.read(spec, {"start": "7", "fold": "0", "beta": "0.5"}))
    assert set(sweeps.run(jobs, 1, lambda line: None).values()) == {"finished"}
    record = jobs[1].out / "run.json"
    for way in spoilt(record, ("status", "settings")):
        expected = "to do" if way == "gone" else "damaged"
        assert [sweeps.status(job) for job in jobs] == ["finished", expected], way
    record.write_text("{")
    assert set(sweeps.run(jobs, 1, lambda line: None).values()) == {"finished"}
    assert json.loads(record.read_text())["results"] == {"rate": 0.5}


def test_ctrl_c_ends_the_runs_of_a_cluster_which_go_on_the_next_time(spec, tmp_path, write_notebook):
    from distributed import LocalCluster

    slow = CELL.replace(
        "    if rate", "    import time; time.sleep(0 if pathlib.Path('quick').exists() else 60)\n    if rate"
    )
    write_notebook(tmp_path / "job.ipynb", slow, parameters=PARAMETERS)
    record = tmp_path / "out/0/first/run.json"
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        command = [sys.executable, "-m", "workbench.cli", "sweep", str(spec), "-p", "start=7", "-p", "fold=0"]
        command += ["-p", "beta=0.5", "--scheduler", cluster.scheduler_address]
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        while not record.exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=60)[1]
        assert "Stopping" in told and "Traceback" not in told
        assert json.loads(record.read_text())["status"] == "interrupted"  # at once: the command has waited for it
        assert not (tmp_path / "out/0/0.5").exists()
        (tmp_path / "quick").touch()
        again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    assert json.loads(record.read_text())["history"][0]["status"] == "interrupted"


def test_a_sweep_that_is_ended_ends_its_runs_which_save_themselves(spec, tmp_path, write_notebook):
    slow = CELL.replace("    if rate", "    import time; time.sleep(60)\n    if rate")
    write_notebook(tmp_path / "job.ipynb", slow, parameters=PARAMETERS)
    command = [sys.executable, "-m", "workbench.cli", "sweep", str(spec), "-p", "start=7", "-p", "fold=0"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    record = tmp_path / "out/0/first/run.json"
    for _ in range(600):
        if record.exists():
            break
        time.sleep(0.1)
    process.terminate()
    process.wait(60)
    for _ in range(100):
        if json.loads(record.read_text())["status"] == "interrupted":
            break
        time.sleep(0.1)
    assert json.loads(record.read_text())["status"] == "interrupted"
    assert not (tmp_path / "out/0/0.5").exists()
