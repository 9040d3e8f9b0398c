"""Laws of the `workbench` command, on small notebooks run for real."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from conftest import PARAMETERS, spoilt

from workbench import __version__, checks, cli, data, doctor, models, runs
from workbench.errors import UsageError
from workbench.evaluation import embeddings, rows
from workbench.files import locks
from workbench.runs import notebooks

START = "from workbench import runs\nrun = runs.start(out, {}, notebook=NAME, resume=resume, replace=replace)"


def workbench(*words, cwd, **environment) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "workbench.cli", *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, env=os.environ | environment)


@pytest.fixture
def refused(monkeypatch, capsys):
    """refused(*words): the sentence with which the command, called in this process, ends at once."""

    def call(*words) -> str:
        monkeypatch.setattr(sys, "argv", ["workbench", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert isinstance(end.value.code, str) and end.value.code.startswith("workbench: "), end.value.code
        return end.value.code.removeprefix("workbench: ")

    return call


# ---------------------------------------------------------------------------------------------------------- a good run


@pytest.fixture(scope="module")
def good(tmp_path_factory, write_notebook):
    """A notebook with a figure, a player and a progress bar, run with parameters from file and command line."""
    folder = tmp_path_factory.mktemp("good")
    cells = [
        START.replace("NAME", "'2_good'"),
        "import sys, os, json\n"
        "seen = dict(name=name, rate=rate, steps=steps, label=label, sizes=sizes, settings=settings)\n"
        "run.path('seen.json').write_text(json.dumps(seen | dict(cwd=os.getcwd(), python=sys.executable)))",
        "import numpy as np\nfrom workbench import plots\nplots.show_offline()\n"
        "plots.spectrogram(np.random.default_rng(0).normal(size=(2, 8192)), 44100, ['one', 'two'])",
        "plots.bars(['a', 'b'], [1, 2])",
        "plots.audio(np.sin(np.arange(4410) / 10), 44100, '<script>x')",
        "from tqdm.auto import tqdm\nfor _ in tqdm(range(2)): pass",
        "print('told', 'you')\nrun.finish(loss=1)",
    ]
    write_notebook(folder / "notebooks" / "2_good.ipynb", *cells, parameters=PARAMETERS)
    (folder / "p.yaml").write_text("steps: 5\nname: from the file\nsettings: {width: 3}\n")
    # a kernel spec called python3 that belongs to somebody else
    (folder / "jupyter" / "kernels" / "python3").mkdir(parents=True)
    spec = {"argv": ["false"], "display_name": "Python 3", "language": "python"}
    (folder / "jupyter" / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec))
    done = workbench(
        "run",
        "good",
        "--out",
        "a {run}",
        "-f",
        "p.yaml",
        "-p",
        "name",
        "007",
        "-p",
        "rate",
        "-1e-3",
        cwd=folder,
        JUPYTER_PATH=str(folder / "jupyter"),
    )
    return types.SimpleNamespace(done=done, cwd=folder, out=folder / "a {run}")


def test_a_good_run_ends_well_and_leaves_all_its_files(good):
    assert good.done.returncode == 0, good.done.stderr
    assert "told you" in good.done.stderr and "Open a {run}/2_good.html" in good.done.stdout
    assert {path.name for path in good.out.iterdir()} == {
        ".lock",
        "run.json",
        "seen.json",
        "2_good.ipynb",
        "2_good.html",
    }
    assert runs.status(good.out) == "finished" and runs.read(good.out)["results"] == {"loss": 1}


def test_parameters_arrive_in_their_types_in_this_interpreter_and_folder(good):
    seen = json.loads((good.out / "seen.json").read_text())
    assert Path(seen.pop("cwd")).samefile(good.cwd) and seen.pop("python") == sys.executable
    assert seen == {"name": "007", "rate": -1e-3, "steps": 5, "label": None, "sizes": [1, 2], "settings": {"width": 3}}


def test_the_notebook_stays_small_and_the_page_needs_no_network(good, chromium):
    assert (good.out / "2_good.ipynb").stat().st_size < 200_000, "plotly.js must not be in the notebook"
    html = (good.out / "2_good.html").read_text()
    assert html.count("plotly.js v") >= 1 and len(html) < 7e6, "one copy of plotly.js, not one a figure"
    from playwright.sync_api import sync_playwright

    asked, wrong = [], []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.goto((good.out / "2_good.html").as_uri())
        page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length >= 2")
        page.wait_for_function("[...document.querySelectorAll('audio')].every(player => player.readyState == 4)")
        panels = page.evaluate("document.querySelectorAll('.js-plotly-plot')[0].querySelectorAll('.hm image').length")
        buttons = page.evaluate("[...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)")
        seconds = page.evaluate("document.querySelector('audio').duration")
        text = page.inner_text("body")
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == [] and wrong == []
    assert panels == 2 and abs(seconds - 0.1) < 1e-3 and "<script>x" in text
    assert buttons and not [title for title in buttons if "hare" in title], "a chart is not to be uploaded"
    assert "0/2 [00:00" not in text, "a progress bar without its script would stand at its first moment for ever"


def test_an_existing_run_is_refused_at_once(good, refused, monkeypatch):
    monkeypatch.chdir(good.cwd)
    before = (good.out / "2_good.html").stat().st_mtime_ns
    assert "holds a run already (finished)" in refused("run", "good", "--out", good.out)
    assert (good.out / "2_good.html").stat().st_mtime_ns == before


# ------------------------------------------------------------------------------------------------------ runs that fail


def test_a_failing_cell_is_named_with_its_reason(tmp_path, write_notebook):
    write_notebook(tmp_path / "few.ipynb", "x = 1", "# why\nx = 2\nint('eight')\n")
    done = workbench("run", "few.ipynb", "--out", "r", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr and done.stdout == ""
    why = "cell 2 (`int('eight')`) failed: ValueError: invalid literal for int() with base 10: 'eight'"
    assert f"workbench: {why}\n" in done.stderr
    assert runs.status(tmp_path / "r") == "failed" and runs.read(tmp_path / "r")["reason"] == why
    assert "invalid literal" in (tmp_path / "r" / "few.html").read_text() and (tmp_path / "r" / "few.ipynb").exists()


def test_the_line_that_is_no_python_is_named(tmp_path, write_notebook):
    write_notebook(tmp_path / "n.ipynb", "x = 1\ny = (\n")
    done = workbench("run", "n.ipynb", "--out", "r", cwd=tmp_path)
    assert "workbench: cell 1 (`y = (`) failed: SyntaxError: " in done.stderr, done.stderr


def test_a_users_mistake_is_a_sentence_without_a_traceback_also_in_the_notebook(tmp_path, write_notebook):
    write_notebook(tmp_path / "gone.ipynb", "from workbench import data\ndata.Clips('nowhere')")
    done = workbench("run", "gone.ipynb", "--out", "r", cwd=tmp_path)
    said = f"{tmp_path / 'nowhere'} is no store of clips (no manifest.json in it); `workbench run data` makes one (data.build in Python)"
    assert done.returncode == 1 and f"workbench: {said}\n" in done.stderr
    page = (tmp_path / "r" / "gone.html").read_text()
    assert "DataError" in page and "is no store of clips" in page and "Traceback" not in page


def test_a_kernel_that_dies_is_a_failure(tmp_path, write_notebook):
    write_notebook(
        tmp_path / "dead.ipynb", START.replace("NAME", "'dead'"), "import os\nos._exit(7)", parameters=PARAMETERS
    )
    done = workbench("run", "dead.ipynb", "--out", "r", cwd=tmp_path)
    assert done.returncode == 1 and "the kernel died" in done.stderr and "Traceback" not in done.stderr
    assert runs.status(tmp_path / "r") == "failed" and (tmp_path / "r" / "dead.html").exists()


def test_a_run_whose_folder_is_moved_meanwhile_ends_in_a_sentence(tmp_path, write_notebook):
    write_notebook(
        tmp_path / "moved.ipynb",
        START.replace("NAME", "'moved'"),
        "import os\nos.rename(out, 'away')\nrun.finish()",
        parameters=PARAMETERS,
    )
    done = workbench("run", "moved.ipynb", "--out", "r", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "room" not in done.stderr, done.stderr
    assert "workbench: r is gone: it was moved or deleted while moved.ipynb ran" in done.stderr


def test_ctrl_c_reaches_the_cell_and_the_run_resumes(tmp_path, write_notebook):
    train = """
from pathlib import Path
import time
state = run.path("state")
if state.exists():
    run.finish(name=name)
else:
    try:
        print("training", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        state.write_text("saved")
        raise
"""
    write_notebook(tmp_path / "slow.ipynb", START.replace("NAME", "'slow'"), train, parameters=PARAMETERS)
    command = [sys.executable, "-m", "workbench.cli", "run", "slow.ipynb", "--out", "r", "-p", "name", "zed"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line == "training\n":
                break
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
    assert process.returncode == 130 and "Traceback" not in told, told
    assert "interrupted in cell" in told and "workbench run slow.ipynb --out r --resume" in told
    assert (tmp_path / "r" / "state").exists() and runs.status(tmp_path / "r") == "interrupted"
    again = told.split("workbench run ")[1].split()
    done = workbench("run", *again, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = runs.read(tmp_path / "r")
    assert record["results"] == {"name": "zed"}, "the parameters are those of the first start"
    assert [past["status"] for past in record["history"]] == ["interrupted"]


# ------------------------------------------------------------------------------------------------------------- refusals


def test_refusals_are_sentences(tmp_path, write_notebook, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_notebook(tmp_path / "notebooks" / "2_train.ipynb", "pass", parameters=PARAMETERS)
    write_notebook(tmp_path / "notebooks" / "7_report.ipynb", "pass", parameters="run: str = ''")
    (tmp_path / "bad.ipynb").write_text("no notebook")
    (tmp_path / "list.yaml").write_text("- 1")
    (tmp_path / "bad.yaml").write_text("a: [")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "a.tex").write_text("")
    said = refused("run", "train", "-p", "step", "3")
    assert "2_train has no parameter step. Did you mean steps? It has: steps, rate, name" in said
    assert "expected" in refused("run", "train", "-p", "steps", "1.5")
    assert "train" in refused("run", "nosuch") and "report" in refused("run", "nosuch")
    assert "no notebook x.ipynb" in refused("run", "x.ipynb")
    assert "cannot be read as a notebook" in refused("run", "bad.ipynb")
    assert "mapping" in refused("run", "train", "-f", "list.yaml") and "not YAML" in refused(
        "run", "train", "-f", "bad.yaml"
    )
    assert refused("run", "train", "-f", "bad.yaml").count("YAML") == 1
    assert "There is no file of parameters nosuch.yaml" in refused("run", "train", "-f", "nosuch.yaml")
    assert "YAML wants a space after the colon: write beta: 0.1 " in refused(
        "run", "train", "-p", "settings", "{beta:0.1}"
    )
    assert "set by --out" in refused("run", "train", "-p", "out", "x")
    assert "name it by --out" in refused("run", "train", "--resume")
    assert "no run that could be resumed" in refused("run", "train", "--resume", "--out", "new")
    assert "no parameter `resume`" in refused("run", "report", "--resume", "--out", "new")
    assert "no run.json" in refused("run", "train", "--out", "thesis", "--replace")
    assert "no folder or file nosuch" in refused("demo", "--source", "nosuch")
    assert "No source was given" in refused("demo", "--source", "")
    assert "no run folder" in refused("generate", "thesis")
    runs.start("r", {}, notebook="2_train").finish()
    assert "is a run of 2_train, not a demo" in refused("demo", "--out", "r")
    assert (
        sorted(path.name for path in (tmp_path / "thesis").iterdir()) == ["a.tex"] and not (tmp_path / "new").exists()
    )


@pytest.mark.parametrize("error", ["ValueError", "TypeError", "KeyError", "json.JSONDecodeError", "UnicodeDecodeError"])
def test_a_fault_of_the_workbench_keeps_its_traceback(error, monkeypatch):
    faults = {
        "ValueError": ValueError("shapes"),
        "TypeError": TypeError("kinds"),
        "KeyError": KeyError("name"),
        "json.JSONDecodeError": json.JSONDecodeError("torn", "", 0),
        "UnicodeDecodeError": UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
    }

    def fault(*_, **__):
        raise faults[error]

    monkeypatch.setattr(doctor, "examine", fault)
    monkeypatch.setattr(sys, "argv", ["workbench", "doctor"])
    with pytest.raises(type(faults[error])):
        cli.main()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"a: [", b"3", b"- 1", b"&a [*a]", b"? [1]: 2"])
def test_a_file_that_is_no_parameters_is_a_sentence_for_every_verb(
    tmp_path, write_notebook, refused, monkeypatch, content
):
    monkeypatch.chdir(tmp_path)
    write_notebook(tmp_path / "n.ipynb", "pass", parameters=PARAMETERS)
    (tmp_path / "p.yaml").write_bytes(content)
    assert "p.yaml" in refused("run", "n.ipynb", "-f", "p.yaml") or content.startswith(b"?")
    assert "p.yaml" in refused("sweep", "p.yaml")


def test_parameters_of_a_file_are_as_they_stand_there(tmp_path, write_notebook, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_notebook(tmp_path / "n.ipynb", "pass", parameters=PARAMETERS)
    (tmp_path / "p.yaml").write_text(
        "name: 007\nrate: 1e-3\nsizes: [010]\nlabel: ~\nsettings: {a: on, b: '1', c: 1e-3}\nsteps: 3"
    )
    given = notebooks.fit(notebooks.parameters(path), cli._file(Path("p.yaml")))
    assert given == {
        "name": "007", "rate": 1e-3, "sizes": [10], "label": None, "settings": {"a": "on", "b": "1", "c": 1e-3}, "steps": 3,
    }  # fmt: skip


WRONG = {  # of a parameter, by the comment that says what it names: what is wrong, and what is said
    "made by 1_data": [
        ("nowhere", "is no store of clips"),
        ("runs/mine", "is no store of clips"),
        ("", "is no store of clips"),
    ],
    "run of 2_train": [
        ("nowhere", "does not exist"),
        ("stores", "holds no run.json"),
        ("runs/other", "is a run of 1_data, and 2_train is needed"),
        ("runs/begun", "is interrupted, so there is no model in it yet"),
        ("runs/cut", "The weights in runs/cut are damaged"),
        ("runs/moved", "was trained on the store stores/gone, which is neither here nor beside the run"),
    ],
    "train on these labels only": [("gong", "gong")],
    "a file in workbench/models": [("gan", "There is no family 'gan'; known are frame")],
    '"tiny" (tests)': [("huge", "has no preset 'huge'; it has tiny, small, base")],
    "a label, or an attribute": [("gong", "knows no label or attribute 'gong'; it knows")],
    "labels, parts of clips' names": [("gong", "has 'gong' in its name or path")],
    "a label, part of a clip's name": [("gong", "has 'gong' in its name or path")],
}


@pytest.fixture
def untrained(clips):
    return models.build("wave", "tiny", length=clips.length, rate=clips.rate, labels=clips.labels)


def test_what_is_not_there_is_refused_before_a_kernel_starts(untrained, clips, tmp_path, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("workbench.runs.folder._beside", [])
    Path("stores").mkdir()
    families = {"codes": "vq", "phases": "stft", "loudness": "mel"}
    for name, store in (("mine", clips.store), ("cut", clips.store), ("moved", "stores/gone"), ("begun", clips.store)):
        given = {"store": str(store), "labels": []}
        run = runs.start(f"runs/{name}", given, notebook="2_train", data=clips.fingerprint)
        run.close() if name == "begun" else run.finish()
        if name != "begun":
            untrained.save(Path("runs", name))
    runs.start("runs/other", {}, notebook="1_data").finish()
    weights = Path("runs/cut/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    tried = set()
    for path in sorted(set(notebooks.known().values())):
        name = runs.short(path.stem)
        for parameter in notebooks.parameters(path).values():
            for comment, wrongs in WRONG.items():
                if (
                    comment not in parameter.help and comment.replace("run of", "runs of") not in parameter.help
                ) or path.stem == "8_compare":
                    continue
                for value, says in wrongs:
                    given = json.dumps([value]) if parameter.kind.startswith("list") else value
                    words = (
                        ["-p", "store", str(clips.store)]
                        if path.stem == "2_train" and parameter.name != "store"
                        else []
                    )
                    words += ["-p", "runs_of", '["runs/mine"]'] if parameter.name == "start" else []
                    words += ["-p", "run", "runs/mine"] if parameter.name in ("sounds", "sound") else []
                    said = refused("run", name, "--out", "out", *words, "-p", parameter.name, given)
                    if name in families and parameter.name == "sound":
                        says = f"one of '{families[name]}' is needed"
                    assert says in said and not Path("out").exists(), (name, parameter.name, value, said)
                    tried.add(comment)
        if name in families:
            wanted = f"runs/mine is a run of the family 'wave', and one of '{families[name]}' is needed"
            kind = next(k for k in ("run", "runs_of") if k in notebooks.parameters(path))
            assert wanted in refused("run", name, "-p", kind, "runs/mine" if kind == "run" else '["runs/mine"]')
    assert tried == set(WRONG)
    Path("file").write_text("")
    Path("other").mkdir()
    Path("other/thesis.tex").write_text("")
    named = ["-p", "store", clips.store]
    for words, says in {
        ("data", "-p", "source", "/nonexistent"): "There is no folder or file /nonexistent",
        ("data", "-p", "source", ""): "No source was given",
        ("data", "-p", "store", ""): "No store was given",
        ("data", "-p", "store", "file"): "file is a file, and a store is a folder",
        ("data", "-p", "store", "runs/mine"): "runs/mine holds 'model.safetensors' and is no store",
        ("data", "-p", "store", "other"): "holds 'thesis.tex' and is no store",
        ("data", "-p", "seed", "-1"): "A seed of -1 was asked",
        ("train", *named, "-p", "seed", "-1"): "A seed of -1 was asked",
        ("train", *named, "-p", "accelerator", "tpu"): "'tpu' was asked; those that fit are auto, cpu, cuda, mps",
        ("train", *named, "-p", "settings", "{latents: 3}"): "The family 'wave' has no setting latents; it has latent",
        ("train", *named, "-p", "settings", "{latent: 0}"): "The setting latent came as 0",
        ("train", *named, "-p", "settings", "{steps: {auto: 3}}"): "has no stage auto",
        (
            "train",
            *named,
            "-p",
            "settings",
            "{prior: normal}",
        ): "The setting prior came as 'normal'; known are standard",
        ("train", *named, "-p", "settings", "{rate: 8000}"): "`rate` is set by the store",
        ("report", "-p", "priors", "[normal]"): "There is no prior 'normal'; known are standard",
        ("report", "-p", "embedding", "clap"): "There is no embedding 'clap'; known are descriptors",
        ("listen", "-p", "test", "nosuch"): "There is no listening test in nosuch, and no runs were named",
    }.items():
        assert says in refused("run", *words, "--out", "out") and not Path("out").exists(), words
    for value in ('["nowhere"]', '["runs/other"]', '["runs/begun"]', "[]"):
        assert "runs" in refused("run", "compare", "--out", "out", "-p", "runs", value) and not Path("out").exists()
    relabelled = clips.index.label == "kick"
    shutil.copytree(clips.store, "stores/a")
    clips.index.assign(label=clips.index.label.where(~relabelled, "gong")).to_parquet(
        "stores/a/index.parquet", index=False
    )
    Path("runs/mine/run.json").write_text(Path("runs/mine/run.json").read_text().replace(str(clips.store), "stores/a"))
    assert "they differ in gong, kick. The store was relabelled" in refused(
        "run", "draw", "-p", "run", "runs/mine", "--out", "out"
    )
    manifest = json.loads(Path("stores/a/manifest.json").read_text())
    Path("stores/a/manifest.json").write_text(json.dumps({**manifest, "fingerprint": "beef" * 16}))
    said = refused("run", "train", "--out", "runs/mine", "--resume")
    assert clips.fingerprint[:16] in said and "beefbeefbeefbeef" in said and "cannot be resumed" in said
    assert not Path("out").exists() and runs.status("runs/mine") == "finished"


def test_a_damaged_store_is_a_sentence(clips, tmp_path):
    store = shutil.copytree(clips.store, tmp_path / "store")
    for name, keys in (
        ("manifest.json", ("rate", "length", "fingerprint", "settings", "splits")),
        ("index.parquet", ()),
    ):
        for way in spoilt(store / name, keys):
            if (name, way) == ("manifest.json", "a folder"):  # an OSError, which the command says as it is
                continue
            with pytest.raises(UsageError, match=f"{name.split('.')[0]}|cannot be read|no store") as refusal:
                data.Clips(store)
            assert "store" in str(refusal.value), (name, way)


def test_what_is_asked_is_looked_at_without_torch():
    code = "import sys; from workbench import checks, saved; from workbench.evaluation import rows; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert ("descriptors", *embeddings.CHECKPOINTS) == checks.EMBEDDINGS


def test_a_copied_notebook_is_run_with_the_runs_beside_it(untrained, clips, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = tmp_path / "thesis" / "runs" / "mine"
    copy = Path(shutil.copy(notebooks.resolve("draw"), tmp_path / "thesis-draw.ipynb"))
    declared = notebooks.parameters(copy)
    monkeypatch.setattr("workbench.runs.folder._beside", [])
    with pytest.raises(
        runs.RunError, match=f"under {tmp_path / 'elsewhere' / 'runs'}, {tmp_path / 'runs'}, {tmp_path} or in "
    ):
        checks.check(copy, declared, {})
    runs.start(run, {"store": str(clips.store), "labels": []}, notebook="2_train", data=clips.fingerprint).finish()
    untrained.save(run)
    copy = Path(shutil.move(copy, tmp_path / "thesis"))
    (tmp_path / "thesis" / "nb").mkdir()
    lower = Path(shutil.copy(copy, tmp_path / "thesis" / "nb"))
    for path, given in itertools.product((copy, lower), ({}, {"run": "runs/mine"})):
        monkeypatch.setattr("workbench.runs.folder._beside", [])
        assert checks.check(path, declared, given) == {"run": str(run)}, (path, given)
    monkeypatch.chdir(tmp_path / "thesis")
    assert (
        checks.check(Path(copy.name), declared, {})
        == {}
        == checks.check(Path(copy.name), declared, {"run": "runs/mine"})
    )


def test_help_lists_the_parameters_with_their_comments(tmp_path, write_notebook, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_notebook(tmp_path / "notebooks" / "2_train.ipynb", "pass", parameters=PARAMETERS)
    monkeypatch.setattr(sys, "argv", ["workbench", "run", "train", "--help"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    told = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert end.value.code == 0
    assert (
        "-p steps int 100 how many" in told and "-p label str | None None a class" in told and "-p free any 3" in told
    )
    assert not [line for line in told if line.startswith("-p out")]


# ----------------------------------------------------------------------------------------------------- the other verbs


def test_demo_runs_the_four_notebooks_in_turn(tmp_path, write_notebook):
    data_parameters = ""
    started = "from workbench import runs\nrun_ = runs.start(out, {}, notebook=NAME)\n"
    for stem, names in {"1_data": "source store", "2_train": "store", "3_draw": "run", "7_report": "run"}.items():
        # the notebooks' defaults say what the demo has to fill in
        parameters = "\n".join(f"{name}: str = ''" for name in ["out", *names.split()])
        parameters += "".join(f"\n{key} = {value!r}" for key, value in cli.DEMO[stem].items())
        data_parameters = parameters if stem == "1_data" else data_parameters
        told = ", ".join(f"{name}={name}" for name in names.split())
        write_notebook(
            tmp_path / "notebooks" / f"{stem}.ipynb",
            started.replace("NAME", repr(stem)) + f"run_.finish({told})",
            parameters=parameters,
        )
    done = workbench("demo", "--out", "runs/d", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "runs" / "d"
    assert [runs.read(out / name)["results"] for name in ("data", "train", "draw", "report")] == [
        {"source": "synthetic", "store": "stores/demo"},
        {"store": "stores/demo"},
        {"run": "runs/d/train"},
        {"run": "runs/d/train"},
    ]
    pages = [line.strip() for line in done.stdout.splitlines() if line.endswith(".html")]
    assert [Path(page).name for page in pages] == ["1_data.html", "2_train.html", "3_draw.html", "7_report.html"]
    assert all(Path(page).is_file() for page in pages) and runs.status(out) == "finished"
    data = tmp_path / "notebooks" / "1_data.ipynb"
    write_notebook(data, "1 / 0", parameters=data_parameters)
    again = workbench("demo", "--out", "runs/d", cwd=tmp_path)
    kept = Path(tmp_path, again.stderr.split("The earlier demo is kept in ")[1].splitlines()[0].rstrip("."))
    assert again.returncode == 1 and runs.status(kept) == "finished" and (kept / "train").exists()
    assert "failed: ZeroDivisionError: division by zero" in again.stderr and not (out / "train").exists()
    assert runs.status(out) == "failed" and runs.read(out)["reason"].startswith("1_data: cell")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_demo_goes_on_where_it_stopped(tmp_path, write_notebook, end):
    waits = (
        "import time, pathlib\npathlib.Path('waits').touch()\nwhile not pathlib.Path('go').exists(): time.sleep(0.1)\n"
    )
    for stem, names in {"1_data": "source store", "2_train": "store", "3_draw": "run", "7_report": "run"}.items():
        parameters = "\n".join(f"{name}: str = ''" for name in ["out", *names.split()])
        parameters += "".join(f"\n{key} = {value!r}" for key, value in cli.DEMO[stem].items())
        train = stem == "2_train"
        begins = f"runs.start(out, {{}}, notebook={stem!r}{', resume=resume' * train})\n"
        write_notebook(
            tmp_path / "notebooks" / f"{stem}.ipynb",
            f"from workbench import runs\nrun_ = {begins}{waits * train}run_.finish({'resumed=resume' * train})",
            parameters=parameters + "\nresume: bool = False" * train,
        )
    command = [sys.executable, "-m", "workbench.cli", "demo", "--out", "d"]
    begun = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, stderr=subprocess.DEVNULL)
    while not (tmp_path / "waits").exists():
        assert begun.poll() is None
        time.sleep(0.05)
    os.killpg(begun.pid, end)
    if end == signal.SIGKILL:  # its kernel, in a session of its own, is to go on for itself
        while runs.status(tmp_path / "d" / "train") == "running":
            kernel = locks.holder(tmp_path / "d" / "train")
            if kernel:
                os.kill(kernel["pid"], signal.SIGKILL)
            time.sleep(0.05)
    begun.wait()
    before = runs.read(tmp_path / "d" / "data")["started"]
    (tmp_path / "go").touch()
    done = workbench("demo", "--out", "d", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "goes on where it stopped" in done.stderr and "1_data: was done before" in done.stderr
    assert runs.read(tmp_path / "d" / "data")["started"] == before
    assert runs.read(tmp_path / "d" / "train")["results"] == {"resumed": True}
    assert len([line for line in done.stdout.splitlines() if line.endswith(".html")]) == 4


class Model:
    """Stands in for a trained model: a clip is a decaying tone whose pitch comes from seed and label."""

    rate, length, labels = 8000, 4000, ("kick", "snare")

    def sample(self, n, c=None, seed=0, temperature=1.0, label=None):
        import torch

        assert label in (None, *self.labels)
        pitch = torch.arange(1, n + 1)[:, None] * (100 if label == "kick" else 300) + seed
        t = torch.arange(self.length)[None] / self.rate
        return (temperature * torch.exp(-5 * t) * torch.sin(2 * torch.pi * pitch * t))[:, None]


@pytest.fixture
def trained(tmp_path, monkeypatch):
    fake = types.SimpleNamespace(load=lambda folder: Model())
    monkeypatch.setitem(sys.modules, "workbench.autoencoder", fake)
    monkeypatch.setattr("workbench.autoencoder", fake, raising=False)
    monkeypatch.setattr("workbench.evaluation.generate.autoencoder", fake)
    runs.start(tmp_path / "demo", {}, notebook="demo").finish()
    runs.start(tmp_path / "demo" / "train", {}, notebook="2_train").finish()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_generate_writes_a_pack_that_can_be_made_again(trained, refused, monkeypatch, chromium):
    import soundfile

    words = ["generate", "demo", "--n", "3", "--seed", "5", "--label", "kick"]
    for out in ("a", "b"):
        monkeypatch.setattr(sys, "argv", ["workbench", *words, "--out", out])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 0
    clips = sorted(Path("a").glob("kick-5-*.wav"))
    x = np.concatenate([soundfile.read(clip)[0] for clip in clips])
    assert len(clips) == 3 and np.array_equal(x, soundfile.read("a/all-kick-5.wav")[0]) and len(x) == 3 * 4000
    assert all((Path("b") / clip.name).read_bytes() == clip.read_bytes() for clip in clips)
    note = json.loads(Path("a/draws.json").read_text())
    expected = {"run": "demo/train", "seed": 5, "label": "kick", "temperature": 1.0, "n": 3, "rate": 8000}
    assert {key: note[key] for key in expected} == expected
    assert Path("a/sheet.png").read_bytes().startswith(b"\x89PNG") and not Path("a/sheet.html").exists()
    assert "a is not empty: give another folder by --out, or say --replace" in refused(*words, "--out", "a")
    Path("afile").write_text("")
    assert "afile is a file, and draws need a folder" in refused(*words, "--out", "afile")
    runs.start("be gun", {}, notebook="2_train").close()
    assert "go on with it: workbench run train --out 'be gun' --resume" in refused("generate", "be gun")
    assert "knows no label 'gong'" in refused("generate", "demo", "--label", "gong", "--out", "c")
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("")
    assert "holds no draws" in refused(*words, "--out", "mine", "--replace") and Path("mine/thesis.tex").exists()


def test_generate_takes_the_newest_run_and_says_all_that_it_wrote(trained, refused, monkeypatch, capsys, chromium):
    monkeypatch.chdir(trained / "demo")
    assert f"under {trained / 'demo' / 'runs'}" in refused("generate")
    Path("runs").mkdir()
    Path("train").rename("runs/mine")
    for n in ("1", "3"):
        monkeypatch.setattr(sys, "argv", ["workbench", "generate", "--n", n, "--seed", n])
        with pytest.raises(SystemExit) as end:
            cli.main()
        told = capsys.readouterr()
        assert end.value.code == 0 and "runs/mine is the newest run" in told.err
        names = sorted(path.name for path in Path(f"runs/mine/draws/draw-{n}").iterdir())
        ends = {names[1], names[-2]} if n == "1" else {f"draw-{n}-0.wav", f"draw-{n}-2.wav"}
        assert f"{n} clips in runs/mine/draws/draw-{n}: " in told.out
        for name in {*names, *ends} - {f"draw-{n}-1.wav"}:
            assert name in told.out, (name, told.out)


def test_generate_on_a_full_disk_is_a_sentence_and_can_be_repeated(trained, refused, monkeypatch, chromium):
    resource = pytest.importorskip("resource")  # a limit on the size of files stands for a disk without room
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    words = ["generate", "demo", "--n", "3", "--out", "full"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        assert "full could not be written" in (text := refused(*words)) and "make room on the disk" in text
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    monkeypatch.setattr(sys, "argv", ["workbench", *words, "--replace"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0 and len(list(Path("full").glob("draw-0-*.wav"))) == 3


def test_generate_without_chrome_makes_a_page_and_says_so(trained, monkeypatch, capsys):
    monkeypatch.setenv("BROWSER_PATH", "/no/such/browser")
    monkeypatch.setattr(sys, "argv", ["workbench", "generate", "demo/train", "--n", "2"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    told = capsys.readouterr()
    assert end.value.code == 0 and "sheet.html" in told.err and "BROWSER_PATH" in told.err
    assert Path("demo/train/draws/draw-0/sheet.html").stat().st_size > 1e6, "a page that carries its plotly.js"


def test_doctor_says_what_for_and_what_to_type(monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", "/no/such/browser")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("WORKBENCH_CLAP", raising=False)
    found = {finding.name: finding for finding in doctor.examine()}
    assert found["Python"].there and found["Audio formats"].there and "MP3" in found["Audio formats"].what
    assert not found["Chrome"].there and "/no/such/browser" in found["Chrome"].what and not found["LaTeX"].there
    assert all(finding.what and (finding.there or finding.remedy) for finding in found.values())


def test_the_command_is_quick():
    """What takes time to import is not imported before it is needed; a clock would measure the machine."""
    slow = {
        "torch",
        "torchaudio",
        "numpy",
        "pandas",
        "scipy",
        "sklearn",
        "plotly",
        "papermill",
        "nbformat",
        "umap",
        "dask",
        "IPython",
    }
    for code in ("import workbench", "from workbench import cli; cli.app(['--help'], standalone_mode=False)"):
        done = subprocess.run(
            [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
            check=True,
            capture_output=True,
            text=True,
        )
        assert not slow & set(done.stdout.splitlines()[-1].split()), code


def test_the_version_is_the_packages():
    from importlib.metadata import version

    assert version("oneshot-workbench") == __version__


def test_a_comparison_without_reports_names_what_was_left_out(tmp_path, monkeypatch):
    from test_compare import trained as told

    monkeypatch.chdir(tmp_path)
    for name in ("c[1] x", "d", "e"):
        told(tmp_path, name, report=name == "d")
    Path("runs/d/report/run.json").write_text("{")
    Path("runs/e/train/settings.json").write_text("{")
    with pytest.raises(UsageError, match="2 of 2 runs have no finished report") as refusal:
        rows.gather(["runs/*"])
    said = str(refusal.value)
    assert "workbench run report -p run 'runs/c[1] x/train'" in said
    assert "d/report/run.json is damaged" in said and "e/train/settings.json is damaged" in said


def test_of_a_cut_checkpoint_torchs_own_words_are_not_said(tmp_path):
    import torch

    from workbench.training import checkpoints

    path = tmp_path / "checkpoint.pt"
    torch.save({"model": {}}, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        UsageError, match=r"checkpoint.pt is damaged \(cut or not whole\), so the training cannot go on"
    ):
        checkpoints.read(path, {}, torch.device("cpu"))
