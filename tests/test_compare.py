"""Laws of comparisons: right intervals, no numbers side by side that do not compare, and pages that give nothing away."""

import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from conftest import spoilt
from scipy import stats

from workbench.errors import UsageError
from workbench.evaluation import compare, export, rows

PRIORS = ("standard", "realnvp")


def trained(home, name, store="stores/a", seed=0, rate=8000, embedding="descriptors", report=True, **settings):
    """The records that a run of 2_train and its report leave, with numbers that follow from their names."""
    run = home / "runs" / name / "train"
    run.mkdir(parents=True)
    flow = settings.get("posterior") == "flow"
    nats = 80 - 10 * np.log10(settings.get("beta", 1e-3) / 1e-3) + 5 * flow + seed
    record = {
        "notebook": "2_train",
        "status": "finished",
        "started": "2026-01-01T00:00:00Z",
        "settings": {"store": store, "labels": []},
        "results": {"parameters": 1000 + 10 * flow},
        "data": "d",
        "seed": seed,
        "wall_seconds": 120,
    }
    (run / "run.json").write_text(json.dumps(record))
    model = {
        "family": "wave",
        "settings": {"length": 4096, "rate": rate, "labels": ["a"], "steps": {"prior": 2}, **settings},
    }
    (run / "settings.json").write_text(json.dumps(model))
    if report:
        judge = run.parent / "report"
        judge.mkdir()
        results = {
            "FAD-" + embedding: 100 - nats,
            "nats": nats,
            "distance, this model": 1 - nats / 200,
            "distance, silence": 1.2,
        }
        about = {"run": str(run), "embedding": embedding}
        record |= {"notebook": "7_report", "settings": about, "results": results}
        (judge / "run.json").write_text(json.dumps(record))
        rows = [
            {
                "prior": p,
                "log_likelihood": -nats + 10 * (p == "realnvp"),
                "low": 0,
                "high": 0,
                "mmd": 0.1,
                "floor": 0.0,
                "auc": 0.6,
            }
            | {"FAD": 130 - nats - 20 * (p == "realnvp") + seed, "n": 9}
            for p in PRIORS
        ]
        pd.DataFrame(rows).to_csv(judge / "priors.csv", index=False)
    return run


@pytest.fixture
def grid(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for fold in range(4):
        for seed in range(2):
            for posterior in ("gaussian", "flow"):
                for beta in (3e-4, 1e-3, 3e-3):
                    name = f"{fold}/{posterior}-{beta}-{seed}"
                    trained(tmp_path, name, f"stores/{fold}", seed, posterior=posterior, beta=beta)
    return ["runs"]


def test_arms_are_the_settings_that_differ(grid):
    rows = compare.gather(grid)
    assert rows.settings == ("posterior", "beta") and len(rows.table) == 48
    assert set(rows.numbers) == {"FAD-descriptors", "nats", "reconstruction distance"}
    found = compare.compare(rows)
    assert found.baseline == "posterior flow, beta 0.0003" and len(set(found.table.arm)) == 6
    wide = found.wide()
    assert list(wide) == ["FAD-descriptors", "reconstruction distance", "parameters", "minutes"]
    # 4 folds are the blocks; here a flow is 5 nats better everywhere and the smallest beta has most nats
    fad = found.table[found.table.number == "FAD-descriptors"].set_index("arm")
    assert (fad.pairs.drop(found.baseline) == 4).all() and fad.n.eq(8).all()
    assert fad.difference["posterior gaussian, beta 0.0003"] == pytest.approx(5)
    assert fad.best[found.baseline] and fad.best.sum() == 1
    assert wide["FAD-descriptors"][found.baseline].endswith(" *")


def test_priors_share_an_encoder_and_only_there_their_likelihoods_compare(grid):
    rows = compare.gather(grid, PRIORS)
    assert len(rows.table) == 96 and rows.settings == ("posterior", "beta", "prior")
    found = compare.compare(rows, baseline="posterior flow, beta 0.001, prior standard")
    t = found.table.set_index(["number", "arm"])
    assert t.difference["log_likelihood", "posterior flow, beta 0.001, prior realnvp"] == pytest.approx(10)
    assert np.isnan(t.difference["log_likelihood", "posterior gaussian, beta 0.001, prior realnvp"])
    assert not t.best["log_likelihood"].any() and t.difference["FAD-descriptors"].notna().sum() == 11
    with pytest.raises(UsageError, match=r"log_likelihood is of one encoder's latents, and no other arm shares"):
        compare.compare(compare.gather(grid, ["realnvp"]), ["log_likelihood"])
    left_out = compare.compare(compare.gather(grid, ["realnvp"])).left_out
    assert any(sentence.startswith("log_likelihood is left out") for sentence in left_out)
    with pytest.raises(UsageError, match="compares no prior mixture; it has standard, realnvp"):
        compare.gather(grid, ["mixture"])


def test_arms_at_one_divergence(grid):
    rows = compare.gather(grid, PRIORS)
    wide, nats = compare.matched(rows.table, ["posterior", "prior"], "FAD-descriptors")
    # FAD falls one to one with nats here, so at the same nats the posterior makes no difference, and the prior makes 20
    assert wide["posterior flow, prior standard"].to_numpy() == pytest.approx(
        wide["posterior gaussian, prior standard"].to_numpy()
    )
    assert (wide["posterior flow, prior standard"] - wide["posterior flow, prior realnvp"]).to_numpy() == pytest.approx(
        20
    )
    assert wide["posterior flow, prior standard"].iloc[0] == pytest.approx(130 - nats + 0.5)
    with pytest.raises(UsageError, match=r"10 nats were asked, and all arms cover 81.23 to 85.23"):
        compare.matched(rows.table, ["posterior"], "FAD-descriptors", at=10)
    with pytest.raises(
        UsageError, match="log_likelihood is of one encoder's latents, and these arms stand on different"
    ):
        compare.matched(rows.table, ["posterior", "prior"], "log_likelihood")
    assert len(compare.matched(rows.table[rows.table.posterior == "flow"], ["prior"], "log_likelihood")[0].columns) == 2
    with pytest.raises(UsageError, match="do not differ in gamma"):
        compare.matched(rows.table, ["posterior"], "FAD-descriptors", "gamma")
    apart = rows.table.assign(nats=rows.table.nats + 100 * (rows.table.posterior == "flow"))
    with pytest.raises(UsageError, match=r"share no nats: one begins at .* where another has ended at"):
        compare.matched(apart, ["posterior"], "FAD-descriptors")


def test_numbers_that_do_not_compare_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained(tmp_path, "a", beta=1.0)
    for name, other, sentence in (
        ("b", {"rate": 16_000}, r"another rate do not compare: 8000 Hz \(.*a/train\), 16000 Hz \(.*b/train\)"),
        ("c", {"embedding": "clap-music"}, r"another embedding do not compare: descriptors .*, clap-music"),
        (
            "d",
            {"report": False},
            r"1 of 2 runs have no finished report, first .*d/train; .*workbench run report -p run .*d/train",
        ),
    ):
        run = trained(tmp_path, name, beta=2.0, **other)
        with pytest.raises(UsageError, match=sentence):
            compare.gather(["runs/a", f"runs/{name}"])
        shutil.rmtree(run.parent)
    with pytest.raises(UsageError, match="No runs were named"):
        compare.gather([])
    with pytest.raises(UsageError, match="nothing is no finished run of 2_train"):
        compare.gather(["nothing"])
    rows = compare.gather(["runs/a"])
    with pytest.raises(UsageError, match="No run has FID; there are FAD-descriptors"):
        compare.compare(rows, ["FID"])
    with pytest.raises(UsageError, match="no arm 'b' to compare with; there are: "):
        compare.compare(rows, baseline="b")


def test_a_damaged_neighbour_is_left_out_and_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, beta in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        trained(tmp_path, name, beta=beta)
    asked = ("status", "started", "settings", "settings/store", "settings/labels", "results")
    for path, keys in (("train/run.json", asked), ("train/settings.json", ("family", "settings", "settings/rate"))):
        for way in spoilt(tmp_path / "runs" / "b" / path, keys):
            table = compare.gather(["runs/*"]).table
            told = capsys.readouterr().out
            if len(table) == 2:
                assert "Left out: runs/b/train" in told or way == "gone" or "status" in way, (path, way)
            else:
                assert "results" in way, (path, way)  # unknown, not damaged
            assert {"runs/a/train", "runs/c/train"} <= set(table.run), (path, way)
    again = tmp_path / "runs" / "b" / "again"
    shutil.copytree(tmp_path / "runs" / "b" / "report", again)
    for way in spoilt(again / "run.json", ("status", "settings", "settings/run", "settings/embedding", "started")):
        assert len(compare.gather(["runs/*"]).table) == 3, way  # beside a report that is whole
    for way in spoilt(tmp_path / "runs" / "b" / "report" / "priors.csv"):
        shutil.rmtree(again, ignore_errors=True)
        if way not in ("cut", "two bytes short"):  # lines that are whole
            with pytest.raises(UsageError, match=r"priors\.csv .*make the report again"):
                compare.gather(["runs/*"], PRIORS)


@pytest.mark.parametrize("name", ["a [1]", "a*", "what?", "[ab]", "["])
def test_runs_are_found_whatever_their_folder_is_called(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    run = trained(tmp_path, name).relative_to(tmp_path)
    trained(tmp_path, "other")
    for place in (f"runs/{name}", str(run), str(run.parent), f"runs/{name}*"):
        assert compare.trained([place]) == [run], place
    assert len(compare.gather(["runs/*"]).table) == 2


@pytest.mark.parametrize("embedding", ["descriptors", "clap-music", "clap-630k", "a-b-c"])
def test_numbers_are_known_under_every_name_of_an_embedding(tmp_path, monkeypatch, embedding):
    monkeypatch.chdir(tmp_path)
    draws = ["FAD", "KID", "coverage", "diversity within labels", "memorisation"]
    encoder = {
        "label by a linear probe, balanced accuracy": 0.5,
        "label": 1.0,
        "labels known": 2.0,
        "silhouette of labels": 0.1,
        "diversity of latents": 3.0,
        "descriptor by a probe": 4.0,
    }
    own = {
        **{f"{name}-{embedding}": 1.0 for name in draws},
        "label accuracy ratio": 0.9,
        "descriptor floor": 0.1,
        "GILBO, nats": 9.0,
    }
    for name, beta in (("a", 1.0), ("b", 2.0)):
        run = trained(tmp_path, name, beta=beta, embedding=embedding)
        path = run.parent / "report" / "run.json"
        record = json.loads(path.read_text())
        record["results"] |= {**own, **encoder}
        path.write_text(json.dumps(record))
    found = compare.gather(["runs/*"])
    assert set(own) | set(encoder) <= set(found.numbers)
    compared = set(compare.compare(found).table.number)
    assert {f"{name}-{embedding}" for name in draws[:4]} <= compared and "label accuracy ratio" in compared
    assert set(compare.compare(found, ["KID", "label"]).table.number) == {f"KID-{embedding}", "label"}
    with_priors = compare.gather(["runs/*"], PRIORS)
    assert set(encoder) <= set(with_priors.numbers) and not (set(own) - {f"FAD-{embedding}"}) & set(with_priors.numbers)
    assert f"FAD-{embedding}" in set(compare.compare(with_priors).table.number)
    assert rows.of(f"FAD-{embedding}", compare.BETTER) == "FAD"


def test_a_paired_interval_is_students_and_finds_what_it_says(grid):
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 8), rng.normal(0, 1, 8)
    d, test = compare.paired(a - b), stats.ttest_rel(a, b)
    interval = test.confidence_interval()
    assert (d.low, d.high) == pytest.approx((interval.low, interval.high)) and d.n == 8
    assert compare.paired([1.0]).n == 1 and np.isnan(compare.paired([1.0]).low) and np.isnan(compare.paired([]).mean)
    # power: of experiments of 8 pairs whose true difference is the detectable one of unit noise, four in five find it
    half = compare.shift(8) / np.sqrt(8)
    draws = rng.normal(half, 1, (4000, 8))
    found = np.abs(stats.ttest_1samp(draws, 0, axis=1).statistic) > stats.t.ppf(0.975, 7)
    assert 0.78 < found.mean() < 0.82


def test_a_table_for_latex_holds_what_the_table_holds(grid, tmp_path):
    table = compare.compare(compare.gather(grid)).wide()
    text = export.latex(table, "Means.", "tab:a")
    assert text.count(r" \\") == 1 + len(table) and r"\textbf{" in text and "*" not in text and "±" not in text
    odd = pd.DataFrame({"50 % & more": [1.23456, np.nan]}, index=["a_b", "#c"])
    assert r"50 \% \& more" in export.latex(odd, "Odd.", "tab:b") and r"a\_b & 1.235 \\" in export.latex(odd, "", "")
    if shutil.which("pdflatex"):
        document = rf"\documentclass{{article}}\usepackage{{booktabs,graphicx}}\begin{{document}}{text}{export.latex(odd, 'O', 'b')}\end{{document}}"
        (tmp_path / "t.tex").write_text(document)
        done = subprocess.run(
            ["pdflatex", "-halt-on-error", "t.tex"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:]


def test_a_page_leaves_out_what_cannot_be_opened(model, clips, tmp_path, monkeypatch):
    from workbench import runs

    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        asked = {"store": str(clips.store), "labels": []}
        with runs.start(f"runs/{name}", asked, notebook="2_train", data=clips.fingerprint):
            model.save(tmp_path / "runs" / name)
    weights = tmp_path / "runs" / "two" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    page = export.sounds(["runs/*"], tmp_path / "a.html", n=1).read_text()
    assert page.count("<audio") == 2 and "runs/two is left out: The weights in runs/two are damaged" in page


def test_the_page_hides_names_and_keeps_private_originals(model, clips, tmp_path, monkeypatch):
    from workbench import runs

    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        with runs.start(
            f"runs/{name}", {"store": str(clips.store), "labels": []}, notebook="2_train", data=clips.fingerprint
        ):
            model.save(tmp_path / "runs" / name)
    page = export.sounds(["runs/*"], tmp_path / "a.html", n=3, hidden=True).read_text()
    assert page.count("<audio") == 9 and page.count("<b>A</b>") == 3 and "http" not in page.replace("http-equiv", "")
    order = [re.findall(r"<span hidden> (.*?)</span>", row) for row in page.split("<h2>")[1:]]
    assert len({tuple(row) for row in order}) > 1 and all(len(set(row)) == 3 for row in order)
    open_page = export.sounds(["runs/*"], tmp_path / "b.html", n=3).read_text()
    assert "hidden" not in open_page and "real (tiny)" in open_page
    private = tmp_path / "private"
    shutil.copytree(clips.store, private)
    manifest = json.loads((private / "manifest.json").read_text())
    (private / "manifest.json").write_text(json.dumps(manifest | {"shareable": False}))
    record = json.loads((tmp_path / "runs/one/run.json").read_text())
    record["settings"]["store"] = str(private)
    (tmp_path / "runs/one/run.json").write_text(json.dumps(record))
    page = export.sounds(["runs/one"], tmp_path / "c.html", n=3).read_text()
    assert page.count("<audio") == 3 and "Originals of private are left out" in page
