"""Laws of the thesis: nothing is typed that was measured, and what is missing, altered or stale stops it by name."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import mislabelled

from workbench import doctor, plots, runs, thesis
from workbench.errors import UsageError
from workbench.evaluation.compare import Difference, paired

HOME = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HOME / "figures"))

import flows  # noqa: E402
import make  # noqa: E402
from named import ROWS, STEPS  # noqa: E402

TEX = {path.name: path.read_text("utf-8") for path in sorted((HOME / "thesis").glob("*.tex"))}
# what is reported, and so holds no typed number
REPORTED = ("abstract.tex", "experiments.tex", "conclusion.tex", "slides.tex")


def prose(text: str) -> str:
    """LaTeX without comments, and without what names something: labels, results, files, citations, options."""
    text = re.sub(r"(?<!\\)%.*", "", text)
    text = re.sub(r"\\begin\{(tikzpicture|verbatim)\}.*?\\end\{\1\}", "", text, flags=re.S)
    named = (
        r"\\(label|ref|eqref|result|input|includegraphics|shown|cite\w*|documentclass|newcommand|hspace|vspace|set\w+)"
    )
    return re.sub(named + r"\*?(\[[^]]*\])*(\{[^{}]*\})+(\[[^]]*\])?(\{[^{}]*\})*", "", text)


def arguments(command: str) -> set[str]:
    found = (m for text in TEX.values() for m in re.findall(rf"\\{command}\*?(?:\[[^]]*\])*\{{([^{{}}#]+)\}}", text))
    return {part.strip() for found in found for part in found.split(",")}


# ------------------------------------------------------------------------------------------------- tables and steps


@pytest.fixture
def small(tmp_path):
    """A repository with one table, of a run, that a figure and a text are made of."""
    (tmp_path / "sweep.yaml").write_text("a: 1\n")
    (tmp_path / "metric.py").write_text('"""What it is."""\n\nscale = 2  # of it\n')
    (tmp_path / "thesis").mkdir()
    with runs.start(tmp_path / "run", {}, data="abc") as run:
        run.finish()
    of = thesis.made_of([tmp_path / "run"])
    tables = {"t.csv": pd.DataFrame({"a": [1.0, 2.0]}), "s.npz": {"x": np.arange(3)}}
    thesis.keep(tmp_path / "figures" / "one", tables, "do it again", of, ["sweep.yaml", "metric.py"], tmp_path)
    steps = thesis.Steps(tmp_path)
    steps.step("figures/curve.pdf", "one/t.csv", "one/s.npz")(lambda t, s: plots.bars(["a", "b"], t.a))
    steps.step("thesis/generated/words.tex", "one/provenance.json")(lambda record: record["of"]["data"][0])
    return steps


def rewrite(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")


FAULTS = {
    "a missing table": (lambda home: (home / "figures/one/t.csv").unlink(), "figures/one/t.csv is missing"),
    "an altered table": (lambda home: rewrite(home / "figures/one/t.csv", "2", "3"), "figures/one/t.csv is altered"),
    "no provenance": (
        lambda home: (home / "figures/one/provenance.json").unlink(),
        "figures/one/t.csv has no provenance",
    ),
    "a changed input": (lambda home: rewrite(home / "sweep.yaml", "1", "2"), "is stale: sweep.yaml has changed"),
    "changed code": (lambda home: rewrite(home / "metric.py", "= 2", "= 3"), "is stale: metric.py has changed"),
    "an input that is gone": (lambda home: (home / "sweep.yaml").unlink(), "is stale: sweep.yaml has gone"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_figure_of_missing_altered_or_stale_tables_fails_by_name(small, fault, capsys):
    spoil, told = FAULTS[fault]
    assert small.check() is None, fault
    spoil(small.home)
    with pytest.raises(SystemExit) as end:
        small.main()
    said = str(end.value.code)
    assert "Figure curve cannot be made: " in said and told in said, (fault, said)
    assert fault == "no provenance" or "make it again by: do it again" in said, (fault, said)
    assert not (small.home / "thesis" / "generated").exists(), f"{fault}: something was made"


def test_what_does_not_change_a_meaning_makes_nothing_stale(small):
    rewrite(small.home / "metric.py", '"""What it is."""\n\n', '"""Better\n\nsaid."""\n# so\n')
    for path in (small.home / "sweep.yaml", small.home / "figures/one/t.csv"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))  # as git may check it out on Windows
    small.check()


def test_provenance_says_what_made_a_table_and_no_machine(small):
    record = json.loads((small.home / "figures/one/provenance.json").read_text("utf-8"))
    assert record["command"] == "do it again" and set(record["files"]) == {"t.csv", "s.npz"}
    assert record["by"]["git"]["commit"] and record["by"]["versions"] and record["by"]["device"] and record["collected"]
    assert record["of"]["runs"] == 1 and record["of"]["data"] == ["abc"] and record["of"]["versions"]
    assert str(small.home) not in json.dumps(record) and "platform" not in record["by"]


def test_a_run_that_is_not_finished_is_not_collected(tmp_path):
    runs.start(tmp_path / "run", {}).fail("broken")
    with pytest.raises(UsageError, match="not finished"):
        thesis.made_of([tmp_path / "run"])


def test_two_steps_cannot_make_one_thing(small):
    with pytest.raises(ValueError, match=r"Two steps make figures/curve\.pdf"):
        small.step("figures/curve.pdf")(lambda: None)


# ------------------------------------------------------------------------------------------------- the thesis's own


def test_the_tables_in_git_are_as_they_were_made():
    STEPS.check()
    for record in (HOME / "figures").glob("*/provenance.json"):
        text = record.read_text("utf-8") + "".join(p.read_text("utf-8") for p in record.parent.glob("*.csv"))
        assert not re.search(r"/(home|tmp|work|root|Users)/", text), f"{record} names a path of a machine"
        assert sum(p.stat().st_size for p in record.parent.iterdir()) < 500_000, f"{record.parent} is not small"


def test_what_is_included_is_what_steps_make_and_all_of_it():
    made = {step.output for step in STEPS.all}
    shown = {f"figures/{name}.pdf" for name in arguments("includegraphics") | arguments("shown")}
    read = {f"thesis/{name}.tex" for name in arguments("input")}
    written = {f"thesis/{name}" for name in TEX}
    assert read - written - made == set() and shown - made == set()
    assert made - shown - read == set(), "a step makes what nothing shows"
    assert written - read == {"thesis/thesis.tex", "thesis/slides.tex"}, "a chapter is in no document"


def test_every_citation_is_in_the_bibliography_and_every_entry_is_cited():
    cited = set().union(*(arguments(f"cite{kind}") for kind in ("", "t", "p", "alp")))
    entries = re.findall(r"(?m)^@\w+\{(\w+),", (HOME / "thesis" / "references.bib").read_text("utf-8"))
    assert len(entries) == len(set(entries)) and cited == set(entries)


@pytest.mark.parametrize("name", REPORTED)
def test_no_result_is_typed(name):
    left = prose(TEX[name])
    allowed = re.sub(r"N\(0, I\)|\b95~\\%", "", left)  # a distribution, and the level of all intervals
    assert not re.findall(r".*\d.*", allowed), f"{name} has typed numbers"


def test_every_result_has_a_step_that_makes_it(made):
    there = set(re.findall(r"\\setresult\{([^{}]*)\}", (made / "thesis/generated/results.tex").read_text("utf-8")))
    asked = set(re.findall(r"\\result\{([^{}#]+)\}", "".join(text for n, text in TEX.items() if n != "preamble.tex")))
    assert asked and asked - there == set()


# ---------------------------------------------------------------------------------------------- what a sweep says


def sweep(effect: float, folds: int = 3, noise: float = 1.0, betas=(0.001, 0.01, 0.1)) -> pd.DataFrame:
    """Rows of a sweep in which a flow prior changes FAD by `effect`, and a flow posterior by nothing but noise."""
    rng, rows = np.random.default_rng(0), []
    for fold in range(folds):
        for posterior in flows.POSTERIORS:
            for beta in betas:
                for prior in flows.PRIORS:
                    fad = 100 + 5 * fold + effect * (prior == "realnvp") + noise * rng.standard_normal()
                    rows.append(
                        {
                            "run": f"{fold}{posterior}{beta}",
                            "store": str(fold),
                            "seed": 0,
                            "posterior": posterior,
                            "beta": beta,
                        }
                        | {"prior": prior, "embedding": "e", "nats": 50 - 10 * np.log10(beta) + (posterior == "flow")}
                        | {
                            "FAD-e": fad,
                            "KID-e": fad / 100,
                            "coverage-e": 0.5,
                            "diversity-e": 0.5,
                            "log_likelihood": -fad,
                        }
                    )
    return pd.DataFrame(rows)


def test_a_sentence_says_no_more_than_its_interval():
    for effect, word in ((-30, "lower"), (30, "higher"), (0, "not distinguishable")):
        d = flows.read(sweep(effect)).contrasts["prior", "FAD"]
        assert flows.verdict(d) == word and f"was {word}" in flows.sentence(d), effect
        assert ("unseen" in flows.sentence(d)) == (effect == 0)
        assert f"{d.n} folds" in flows.sentence(d)


def test_one_fold_has_no_interval_and_says_so():
    d = flows.read(sweep(-30, folds=1)).contrasts["prior", "FAD"]
    assert d.n == 1 and "only fold" in flows.sentence(d) and "no interval" in flows.sentence(d)
    assert "%" not in flows.sentence(d) and "only fold so far" in flows.answer(flows.read(sweep(-30, folds=1)))


def test_arms_that_share_no_divergence_are_compared_at_one_beta_and_it_is_said():
    rows = sweep(-30)
    rows.loc[rows.posterior == "flow", "nats"] += 1000
    assert flows.read(rows).where == "at beta = 0.01" and "nats per clip" in flows.read(sweep(-30)).where


def test_an_answer_follows_what_was_measured():
    better, worse, nothing = (flows.answer(flows.read(sweep(e))) for e in (-30, 30, 0))
    assert "a flow prior lowers FAD" in better and "a flow prior raises FAD" in worse
    assert "lowers" not in nothing and "raises" not in nothing


def test_likelihood_and_ear_agree_where_they_do():
    told = flows.agreement(flows.read(sweep(-30)))
    assert told["likelier"] == told["heard nearer"] == told["same best"] == told["encoders"] == "18"


def test_numbers_on_paper_have_three_digits():
    shown = {1234.5: "1,234", 0.12345: "0.123", -3.14159: "−3.14", 0.0: "0", np.nan: ""}
    assert {value: flows.said(value) for value in shown} == shown
    assert flows.signed(2.5) == "+2.50" and flows.between(Difference(1, -0.5, 2.5, 3, 1)) == "−0.500 to +2.50"
    assert flows.between(paired([1.0])) == "no interval"


@pytest.fixture
def collect(monkeypatch, tmp_path, clips):
    """figures/collect.py at work in an empty repository, and the folder in which a sweep on the small store was run."""
    import collect

    for name in ("notebooks/sweeps/small.yaml", *collect.MEANING):
        (tmp_path / "home" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "home" / name).write_text("a = 1\n")
    monkeypatch.setattr(collect, "HOME", tmp_path / "home")
    (tmp_path / "desk" / "stores").mkdir(parents=True)
    (tmp_path / "desk" / "stores" / "tiny").symlink_to(clips.store)
    return collect, tmp_path


def test_of_a_sweep_only_whole_folds_are_collected_and_no_path_of_the_machine(collect, capsys):
    module, folder = collect
    rows = sweep(-30, folds=2).assign(embedding="descriptors", minutes=1.0, store="stores/tiny")
    rows = rows.assign(
        seed=[int(run[0]) for run in rows.run], run=[f"{folder}/desk/runs/small/{run}" for run in rows.run]
    )
    for run in rows.run.unique():
        runs.start(run, {}, data="abc").finish()
    rows = rows[~((rows.seed == 1) & (rows.prior == "realnvp"))]  # the second is under way
    (folder / "desk" / "runs" / "compare").mkdir()
    rows.to_csv(folder / "desk" / "runs" / "compare" / "rows.csv", index=False)
    module.sweep("small", folder / "desk" / "runs" / "compare" / "rows.csv")
    assert "Left out, as arms are missing: stores/tiny seed 1" in capsys.readouterr().out
    kept = pd.read_csv(folder / "home" / "figures" / "small" / "rows.csv")
    assert len(kept) == 24 and set(kept.seed) == {0} and set(kept.store) == {"stores/tiny"}
    assert all(run.startswith("runs/small/0") for run in kept.run)
    made = "".join(p.read_text("utf-8") for p in (folder / "home" / "figures" / "small").iterdir())
    assert str(folder) not in made and thesis.read_provenance(folder / "home" / "figures" / "small")["of"]["runs"] == 6
    floors = pd.read_csv(folder / "home" / "figures" / "small" / "floors.csv").set_index("number")
    assert set(floors.index) == set(flows.MEASURES) and (floors.low <= floors.value).all() and floors.n.min() > 20


def test_a_sweep_without_a_whole_fold_is_refused(collect):
    module, folder = collect
    rows = sweep(0, folds=1).assign(
        embedding="descriptors", minutes=1.0, store="stores/tiny", run="desk"
    )  # of which one arm is missing
    rows.iloc[1:].to_csv(folder / "desk" / "rows.csv", index=False)
    with pytest.raises(UsageError, match="No store and seed"):
        module.sweep("small", folder / "desk" / "rows.csv")


# -------------------------------------------------------------------------------------------------------- building


@pytest.fixture(scope="module")
def made(tmp_path_factory, chromium):
    """A copy of the repository with the figures made, in which nothing can be trained, loaded or drawn."""
    home = tmp_path_factory.mktemp("thesis")
    for name in ("figures", "thesis", "workbench", "notebooks/sweeps"):
        ignored = shutil.ignore_patterns("generated", "*.pdf", "__pycache__")
        shutil.copytree(HOME / name, home / name, ignore=ignored)
    (home / "runs").mkdir()
    poison = (
        "import sys; sys.argv = ['make.py']; sys.path.insert(0, 'figures')\n"
        "from workbench import training, autoencoder\n"
        "def no(*a, **k): raise SystemExit('something was trained')\n"
        "training.fit = training.fit_stage = autoencoder.load = autoencoder.Autoencoder.__init__ = no\n"
        "import make; make.STEPS.main()"
    )
    environment = os.environ | {"PYTHONPATH": str(home), "BROWSER_PATH": chromium}
    done = subprocess.run(
        [sys.executable, "-c", poison], cwd=home, capture_output=True, text=True, timeout=240, env=environment
    )
    assert done.returncode == 0, done.stderr
    return home


def test_tick_texts_of_the_figures_are_those_of_their_values():
    figs = {s.output: s.make(*map(STEPS.load, s.needs)) for s in STEPS.all if s.output.endswith(".pdf")}
    assert len(figs) > 5
    for name, fig in figs.items():
        assert mislabelled(json.loads(fig.to_json())["layout"]) == [], name


def test_figures_are_made_without_training(made):
    assert make.STEPS is STEPS
    for step in STEPS.all:
        data = (made / step.output).read_bytes()
        assert data.startswith(b"%PDF" if step.output.endswith(".pdf") else b"") and len(data) > 50, step.name


@pytest.fixture(scope="module")
def latexmk() -> str:
    if path := shutil.which("latexmk"):
        return path
    reason = "no LaTeX is installed (" + next(f.remedy for f in doctor.examine() if f.name == "LaTeX") + ")"
    pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


@pytest.mark.parametrize(("document", "least"), [("thesis", 9), ("slides", 6)])
def test_a_document_is_set_with_all_references_and_nothing_over_the_edge(made, latexmk, document, least):
    done = subprocess.run(
        [latexmk, f"{document}.tex"], cwd=made / "thesis", capture_output=True, text=True, timeout=180
    )
    log = (made / "thesis" / "generated" / f"{document}.log").read_text("utf-8", errors="replace")
    assert done.returncode == 0, done.stdout[-3000:] + log[-3000:]
    pages = re.search(r"Output written on .*?\((\d+) pages", log.replace("\n", ""))
    assert int(pages[1]) >= least
    assert "undefined" not in log and not re.findall(r"Overfull \\hbox \((?:[1-9]\d|[5-9])[\d.]*pt", log)
    assert not {p.name for p in (made / "thesis").iterdir()} - {*TEX, "references.bib", "latexmkrc", "generated"}


def test_without_latex_make_thesis_says_what_to_type(tmp_path):
    make_it = shutil.which("make")
    if make_it is None:
        pytest.skip("there is no make")
    (tmp_path / "sh").symlink_to(shutil.which("sh"))
    done = subprocess.run(
        [make_it, "latex"], cwd=HOME, capture_output=True, text=True, env=os.environ | {"PATH": str(tmp_path)}
    )
    said = " ".join(done.stderr.split())
    wanted = next(f.remedy for f in doctor.examine() if f.name == "LaTeX").partition(",")[0]
    assert (
        done.returncode and wanted in said and wanted.removeprefix("apt-get install ") in (HOME / ".ci/run").read_text()
    )
    assert ROWS  # named once, in figures/named.py
