"""The main job as a user does it: the real notebooks, run by the command at tiny settings, opened in a real browser."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
import soundfile
from conftest import mislabelled

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
# texts of figures that reach beyond these, by 2 pixels and more, titles of panels that lie on one another, and cut words in tables
CUT = """() => [...document.querySelectorAll('.js-plotly-plot')].flatMap((plot) => {
    const box = plot.querySelector('.main-svg').getBoundingClientRect();
    return [...plot.querySelectorAll('.main-svg text')].filter((text) => {
        const r = text.getBoundingClientRect();
        return r.width && (r.left < box.left - 2 || r.right > box.right + 2 || r.top < box.top - 2 || r.bottom > box.bottom + 2);
    }).map((text) => text.textContent).concat([...plot.querySelectorAll('.annotation-text')].filter((text, i, all) => {
        const r = text.getBoundingClientRect(), on = (q) => Math.min(r.right, q.right) - Math.max(r.left, q.left) > 2
            && Math.min(r.bottom, q.bottom) - Math.max(r.top, q.top) > 2;
        return all.slice(0, i).some((other) => on(other.getBoundingClientRect()));
    }).map((text) => text.textContent));
}).concat([...document.querySelectorAll('td, th')].map((cell) => cell.textContent).filter((text) => text.endsWith('...')))"""
STEPS = {"steps": {"autoencode": 20, "adversarial": 2, "prior": 20}}


def workbench(*words, cwd, code=0):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "workbench.cli", *map(str, words)],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def journey(tmp_path_factory):
    """data -> train -> draw -> report, in a folder of its own."""
    home = tmp_path_factory.mktemp("journey")
    workbench(
        "run",
        "data",
        "-p",
        "store",
        "stores/a",
        "-p",
        "seconds",
        "0.18",
        "-p",
        "rate",
        "22050",
        "--out",
        "runs/data",
        cwd=home,
    )
    settings = ["-p", "store", "stores/a", "-p", "preset", "tiny", "-p", "settings", json.dumps(STEPS)]
    workbench("run", "train", *settings, "-p", "note", "a test", "--out", "runs/train", cwd=home)
    workbench("run", "draw", "-p", "run", "runs/train", "--out", "runs/draw", cwd=home)
    workbench("run", "map", "-p", "run", "runs/train", "-p", "draws", "40", "--out", "runs/map", cwd=home)
    workbench("run", "play", "-p", "run", "runs/train", "--out", "runs/play", cwd=home)
    workbench("run", "report", "-p", "run", "runs/train", "-p", "steps", "20", "--out", "runs/report", cwd=home)
    return home


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_a_question_without_outputs(path):
    notebook = nbformat.read(path, 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert sum(len(cell.source.splitlines()) for cell in code) <= 80
    assert notebook.cells[0].cell_type == "markdown" and "?" in notebook.cells[0].source.splitlines()[0]


def test_each_run_tells_what_made_it(journey):
    for name in ("data", "train", "draw", "map", "play", "report"):
        record = json.loads((journey / "runs" / name / "run.json").read_text())
        assert record["status"] == "finished" and record["data"] and record["versions"]["torch"], name
    assert json.loads((journey / "runs/train/run.json").read_text())["note"] == "a test"
    results = json.loads((journey / "runs/report/run.json").read_text())["results"]
    assert {"distance, this model", "distance, silence", "diversity ratio", "log-likelihood, spline"} <= set(results)


def test_one_number_has_one_name_and_one_value(journey):
    drawn, report = (
        json.loads((journey / f"runs/{name}/run.json").read_text())["results"] for name in ("draw", "report")
    )
    both = set(drawn) & set(report)
    assert "memorisation" in both and all(drawn[name] == report[name] for name in both)


def test_runs_are_compared_by_what_their_reports_say(journey):
    asked = ["-p", "runs", '["runs/train"]', "-p", "priors", '["standard", "gaussian", "spline"]', "-p", "draws", "2"]
    workbench("run", "compare", *asked, "--out", "runs/compare", cwd=journey)
    rows = (journey / "runs/compare/rows.csv").read_text().splitlines()
    assert len(rows) == 4 and "FAD-descriptors" in rows[0] and "log_likelihood" in rows[0]
    assert r"\toprule" in (journey / "runs/compare/table.tex").read_text()
    page = (journey / "runs/compare/listen.html").read_text()
    assert (
        page.count("<audio") == 4 and "Show the names" in page
    )  # draws and real clips of the built-in pack, shareable
    text = workbench("run", "compare", "-p", "runs", '["runs/data"]', "--out", "runs/no", cwd=journey, code=1)
    assert "is no finished run of 2_train and holds none" in text


def test_what_is_not_up_front_is_folded(journey, browser):
    page = browser.new_page()
    page.goto((journey / "runs/report/7_report.html").as_uri())
    page.wait_for_selector(".js-plotly-plot .main-svg")
    assert page.get_by_text("Five numbers").is_visible()
    folds = page.locator("details > summary")
    names = folds.all_inner_texts()
    assert {
        "Reconstructions",
        "Priors on the same frozen encoder",
        "Descriptors of held-out clips and of draws",
    } <= set(names)
    stars = page.locator("details", has=page.locator("summary", has_text="Stars"))
    assert stars.locator(".js-plotly-plot").count() == 0, "figures stand below headings of their own"
    figure = (
        page.locator("details", has=page.get_by_text("Reconstructions", exact=True)).locator(".js-plotly-plot").first
    )
    assert not figure.is_visible()
    folds.nth(names.index("Reconstructions")).click()
    figure.wait_for(state="visible")
    page.wait_for_function("(plot) => plot.getBoundingClientRect().width > 300", arg=figure.element_handle())


def test_an_executed_instrument_is_small_and_says_what_to_do(journey):
    path = journey / "runs" / "play" / "5_play.ipynb"
    text = path.read_text()
    assert path.stat().st_size < 2e6
    assert "trust the notebook" in text and "Spearman" in text and "audio/flac" in text


def test_an_executed_map_is_small_and_leaves_figures_for_paper(journey):
    folder = journey / "runs" / "map"
    text = (folder / "4_map.ipynb").read_text()
    assert (folder / "4_map.ipynb").stat().st_size < 2e6
    assert "trust the notebook" in text and "trustworthiness" in text and "audio/flac" in text
    assert sorted(p.name for p in folder.glob("*.pdf")) == ["map-centroid.pdf", "map-label.pdf", "map-pack.pdf"]
    page = (folder / "4_map.html").read_text()
    assert page.count("plotly.js v") == 1 and "trust the notebook" in page


def test_pages_hold_figures_and_sound_and_no_bundle_in_the_notebook(journey):
    for name, stem in (("data", "1_data"), ("train", "2_train"), ("draw", "3_draw"), ("report", "7_report")):
        folder = journey / "runs" / name
        assert (folder / f"{stem}.ipynb").stat().st_size < 4e6
        page = (folder / f"{stem}.html").read_text()
        assert "data:audio/flac;base64," in page and page.count("plotly.js v") == 1, name


def test_figures_draw_and_a_game_is_played_by_ear_in_a_page_alone(journey, browser):
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.goto((journey / "runs/draw/3_draw.html").as_uri())
    page.wait_for_selector(".js-plotly-plot .main-svg")
    page.wait_for_function("[...document.querySelectorAll('audio')].slice(0, 6).every((a) => a.readyState >= 1)")
    audio = page.evaluate(
        "(() => { const a = document.querySelector('audio'); return [a.duration, a.error?.message] })()"
    )
    assert audio[0] == pytest.approx(4096 / 22_050, abs=0.02) and audio[1] is None
    # the game: a guess on what was played to its end, without leaps; all guessed as real, half of which is right
    trials = page.locator(".real-or-made .trial")
    assert trials.count() == 20
    ended = "(i) => document.querySelectorAll('.trial audio')[i].ended"
    page.evaluate(
        "(() => { const a = document.querySelector('.trial audio'); a.currentTime = 0.9 * a.duration; a.play(); })()"
    )
    page.wait_for_function(ended, arg=0)
    for i in range(20):
        buttons = trials.nth(i).locator("button")
        assert buttons.nth(0).is_disabled() and buttons.nth(1).is_disabled(), i
        trials.nth(i).locator("audio").evaluate("(a) => a.play()")
        page.wait_for_function(ended, arg=i)
        buttons.first.click()
    tally = page.locator(".real-or-made .tally").inner_text()
    assert tally.startswith("10 of 20 right: 50 % (95 % interval 30 % to 70 %)") and "not ruled out" in tally
    assert not errors


def test_pages_ask_nothing_and_cut_no_word(journey, browser):
    page = browser.new_page(viewport={"width": 900, "height": 1000})
    for path in sorted(journey.glob("runs/*/*.html")):
        page.goto(path.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
        page.wait_for_load_state("networkidle")
        page.wait_for_function(
            "[...document.querySelectorAll('.js-plotly-plot')].every((p) => p.querySelector('.main-svg'))"
        )
        assert page.evaluate(CUT) == [], path.name
    assert [address for address in browser.asked if not address.startswith(("file:", "data:", "blob:"))] == []


def test_tick_texts_in_notebooks_are_those_of_their_values(journey):
    figs = 0
    for path in sorted(journey.glob("runs/*/*.ipynb")):
        for output in (o for cell in nbformat.read(path, 4).cells for o in cell.get("outputs", ())):
            if figure := output.get("data", {}).get("application/vnd.plotly.v1+json"):
                figs += 1
                assert mislabelled(figure["layout"]) == [], path.name
    assert figs > 10


def test_generate_writes_a_pack_that_can_be_made_again(journey):
    for out in ("a", "b"):
        workbench("generate", "runs/train", "--n", 5, "--seed", 3, "--label", "snare", "--out", out, cwd=journey)
    names = sorted(p.name for p in (journey / "a").glob("*.wav"))
    assert len(names) == 6  # five clips, and all in a row
    for name in names:
        assert (journey / "a" / name).read_bytes() == (journey / "b" / name).read_bytes()
    long = next(n for n in names if n.startswith("all-"))
    assert soundfile.info(journey / "a" / long).frames == 5 * 4096
    assert json.loads((journey / "a" / "draws.json").read_text())["label"] == "snare"


def test_mistakes_end_in_a_sentence(journey):
    def said(*words):
        text = workbench(*words, cwd=journey, code=1)
        assert "Traceback" not in text
        return text

    assert "no label 'gong'; it knows" in said("generate", "runs/train", "--label", "gong", "--out", "c")
    assert "runs/train" in said("run", "train", "-p", "store", "stores/a", "--out", "runs/train")
    assert "no parameter stor" in said("run", "train", "-p", "stor", "x", "--out", "runs/x")
    assert "known are" in said("run", "train", "-p", "store", "stores/a", "-p", "family", "gan", "--out", "runs/x2")
    assert "stores/none" in said("run", "train", "-p", "store", "stores/none", "--out", "runs/x3")
    (journey / "empty").mkdir()
    assert "workbench run train" in workbench("app", cwd=journey / "empty", code=1)  # there is no run at all
    assert "is a run of 1_data, and 2_train is needed" in said("app", "runs/data")
    assert "empty" in said("run", "data", "-p", "source", "empty", "-p", "store", "stores/e", "--out", "runs/x4")


def test_ctrl_c_in_training_resumes_with_the_settings_it_had(journey):
    words = [
        "run",
        "train",
        "-p",
        "store",
        "stores/a",
        "-p",
        "preset",
        "tiny",
        "--out",
        "runs/broken",
        "-p",
        "settings",
    ]
    many = json.dumps({"steps": {"autoencode": 300, "adversarial": 0, "prior": 2}})
    command = [sys.executable, "-m", "workbench.cli", *words, many]
    running = subprocess.Popen(command, cwd=journey, start_new_session=True, stderr=subprocess.DEVNULL)
    log = journey / "runs/broken/log.jsonl"
    for _ in range(600):
        if log.exists() and '"split": "train"' in log.read_text():
            break
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait(timeout=60) == 130
    assert (journey / "runs/broken/checkpoint.pt").exists()
    assert "resume goes on with what" in workbench(
        "run", "train", "--out", "runs/broken", "--resume", "-p", "seed", 5, cwd=journey, code=1
    )
    workbench("run", "train", "--out", "runs/broken", "--resume", cwd=journey)
    record = json.loads((journey / "runs/broken/run.json").read_text())
    assert record["status"] == "finished" and record["settings"]["settings"] == json.loads(many)


def test_a_pack_without_labels_is_reported_all_the_same(journey, tmp_path):
    pack = tmp_path / "mine"
    pack.mkdir()
    for i in range(40):
        t = np.arange(4096) / 22_050
        x = np.exp(-t * (10 + i)) * np.sin(2 * np.pi * t * (80 + 37 * i) + i)
        soundfile.write(pack / f"s{i:03d}.wav", x, 22_050)
    data = ["-p", "source", pack, "-p", "store", "stores/b", "-p", "seconds", "0.18", "-p", "rate", "22050"]
    workbench("run", "data", *data, "--out", "runs/b-data", cwd=journey)
    settings = ["-p", "store", "stores/b", "-p", "preset", "tiny", "-p", "settings", json.dumps(STEPS)]
    workbench("run", "train", *settings, "--out", "runs/b", cwd=journey)
    workbench("run", "draw", "-p", "run", "runs/b", "--out", "runs/b-draw", cwd=journey)
    text = workbench("run", "report", "-p", "run", "runs/b", "-p", "steps", "20", "--out", "runs/b-report", cwd=journey)
    assert "Draws are not judged" in text


def test_a_frame_model_is_reported_without_draws(journey):
    settings = ["-p", "store", "stores/a", "-p", "family", "frame", "-p", "preset", "tiny"]
    workbench("run", "train", *settings, "--out", "runs/frame", cwd=journey)
    text = workbench("run", "report", "-p", "run", "runs/frame", "--out", "runs/frame-report", cwd=journey)
    assert "no single vector for a clip" in workbench("app", "runs/frame", cwd=journey, code=1)
    assert "priors and draws are left out" in text
    asked = ["-p", "runs", '["runs/train", "runs/frame"]', "-p", "draws", "2", "-p", "arm", '["family"]']
    workbench("run", "compare", *asked, "--out", "runs/families", cwd=journey)
    page = (journey / "runs/families/listen.html").read_text()
    assert "runs/frame is left out: a 'frame' model has no prior to draw from" in page.replace("&#x27;", "'")
    assert "no prior over whole clips" in workbench("generate", "runs/frame", "--out", "d", cwd=journey, code=1)


def test_paths_between_sounds_by_name_and_by_file(journey):
    x = 0.4 * np.sin(2 * np.pi * 300 * np.arange(9000) / 22_050) * np.exp(-np.arange(9000) / 2000)
    soundfile.write(journey / "mine.wav", x, 22_050)
    asked = [
        "-p",
        "sounds",
        '["kick", "mine.wav"]',
        "-p",
        "others",
        '["mine.wav"]',
        "-p",
        "pairs",
        "3",
        "-p",
        "steps",
        "3",
    ]
    workbench("run", "paths", "-p", "run", "runs/train", *asked, "--out", "runs/paths", cwd=journey)
    results = json.loads((journey / "runs/paths/run.json").read_text())["results"]
    least = results["path length, the least"]
    for kind in ("linear", "spherical", "base", "cross-fade"):
        assert results[f"path length, {kind}"] >= least > 0, kind
    text = (journey / "runs/paths/6_paths.ipynb").read_text()
    assert "mine, transferred" in text and "meso-scale" in text and "nothing in it runs along time" in text
    said = workbench(
        "run",
        "paths",
        "-p",
        "run",
        "runs/train",
        "-p",
        "sounds",
        '["gong"]',
        "--out",
        "runs/no-paths",
        cwd=journey,
        code=1,
    )
    assert "has 'gong' in its name or path" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("family", "settings", "extra", "wanted"),
    [
        ("vq", {"codes": 24, "steps": {"autoencode": 20}}, "codes", {"codes", "drawn", "followed"}),
        ("stft", {"steps": {"autoencode": 20, "prior": 0}}, "phases", {"predicted", "of noise"}),
        ("mel", {"steps": {"autoencode": 20, "vocoder": 2, "prior": 0}}, "loudness", set()),
        (
            "wae",
            {"steps": {"autoencode": 20, "prior": 0}},
            "conditions",
            {"runs/wae, linear", "runs/wae, changed", "runs/wae, drawn"},
        ),
    ],
)
def test_each_family_has_its_notebook(journey, family, settings, extra, wanted):
    run, out = f"runs/{family}", f"runs/{extra}"
    asked = [
        "-p",
        "store",
        "stores/a",
        "-p",
        "preset",
        "tiny",
        "-p",
        "family",
        family,
        "-p",
        "settings",
        json.dumps(settings),
    ]
    workbench("run", "train", *asked, "--out", run, cwd=journey)
    several = extra in ("loudness", "conditions")
    name = "runs_of" if several else "run"
    workbench(
        "run",
        extra,
        "-p",
        name,
        json.dumps([run]) if several else run,
        "--out",
        out,
        cwd=journey,
    )
    results = json.loads((journey / out / "run.json").read_text())["results"]
    assert wanted <= set(results) and len(results) >= 3, results
    said = workbench("run", extra, "-p", name, '["runs/train"]' if several else "runs/train",
                     "--out", f"{out}-no", cwd=journey, code=1)  # fmt: skip
    assert ("A 'wave' model" in said or "is a run of the family 'wave'" in said) and "Traceback" not in said


def test_a_series_has_paths_too(journey):
    workbench(
        "run",
        "paths",
        "-p",
        "run",
        "runs/vq",
        "-p",
        "pairs",
        "3",
        "-p",
        "steps",
        "3",
        "--out",
        "runs/vq-paths",
        cwd=journey,
    )
    text = (journey / "runs/vq-paths/6_paths.ipynb").read_text()
    assert "morph along time" in text and "curves" in text and "transferred" in text
