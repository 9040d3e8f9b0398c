"""What a report compares with: baselines that do what they say, and a run judged end to end."""

import numpy as np
import pytest
import torch

from workbench import models, runs, saved
from workbench.errors import UsageError
from workbench.evaluation import evidence
from workbench.evaluation.draws import evaluate_draws
from workbench.evaluation.priors import evaluate_priors
from workbench.evaluation.reconstructions import evaluate_reconstructions, nearest, pca_griffin_lim, side_by_side
from workbench.latent.probes import latent_probes
from workbench.nn.losses import spectral_distance
from workbench.nn.priors import PRIORS
from workbench.trained import open_run


def test_a_training_clip_is_its_own_nearest(clips):
    fit = clips.split("train")
    rows, alike = nearest(fit, fit.vectors()[:20])
    assert (rows == np.arange(20)).mean() > 0.8 and alike.min() > 0.999


def test_a_model_takes_its_length_from_the_store_alone(clips):
    assert models.for_clips(clips, "wave", "tiny", {"latent": 4}).length == clips.length
    with pytest.raises(ValueError, match="`length` is set by the store"):
        models.for_clips(clips, "wave", "tiny", {"length": 100})


def test_the_store_of_a_run_is_found_from_another_folder(tmp_path, monkeypatch):
    store, run = tmp_path / "home" / "stores" / "a", tmp_path / "home" / "runs" / "a"
    store.mkdir(parents=True)
    run.mkdir(parents=True)
    (store / "manifest.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert saved.store_of(run, "stores/a") == store
    with pytest.raises(ValueError, match=r"was trained on the store stores/b.*workbench run data"):
        saved.store_of(run, "stores/b")


def test_an_unfinished_run_says_how_to_go_on(clips, tmp_path):
    run = runs.start(tmp_path / "a", {"store": str(clips.store), "labels": []}, notebook="2_train")
    with pytest.raises(UsageError, match="is running, so there is no model in it yet: wait for it"):
        open_run(tmp_path / "a")
    run.close()
    with pytest.raises(UsageError, match=r"is interrupted, .*workbench run train --out .*a --resume"):
        open_run(tmp_path / "a")


def test_more_components_come_nearer(clips):
    x = torch.from_numpy(clips.split("train").audio(slice(0, 100)))[:, None]
    held = torch.from_numpy(clips.split("test").audio(slice(0, 16)))[:, None]
    far = [spectral_distance(held, pca_griffin_lim(x, held, k)).mean().item() for k in (2, 16, 64)]
    assert far[0] > far[1] > far[2]
    again = pca_griffin_lim(x, held, 16)
    torch.testing.assert_close(again, pca_griffin_lim(x, held, 16))


def test_reconstructions_stand_beside_their_baselines(model, clips):
    table, own = evaluate_reconstructions(model, clips)
    assert list(table.what) == ["this model", "PCA-8 + Griffin-Lim", "nearest training clip", "silence"]
    assert table.distance.iloc[0] == pytest.approx(own.mean()) and (table.n == len(clips.split("test"))).all()
    assert ((table.low < table.distance) & (table.distance < table.high)).all()
    assert table.distance.iloc[3] > 1


def test_priors_are_compared_on_one_encoder_and_the_model_keeps_its_own(model, clips):
    own, before = model.prior, {k: v.clone() for k, v in model.state_dict().items()}
    table = evaluate_priors(model, clips, steps=20)
    assert list(table.prior) == list(PRIORS)
    nats = dict(zip(table.prior, table.log_likelihood, strict=True))
    assert nats["standard"] < nats["gaussian"] and nats["realnvp"] > nats["standard"]
    assert (table.floor == table.floor.iloc[0]).all() and np.isfinite(table.mmd).all()
    assert model.prior is own and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_priors_without_labels_are_heard_as_well(model, clips):
    at = evidence.Reference(clips)
    table = evaluate_priors(model, clips, ["standard", "gaussian"], labelled=False, at=at).set_index("prior")
    assert set(evidence.MEASURES) < set(table) and np.isfinite(table[list(evidence.MEASURES)]).all(None)
    assert table.auc["gaussian"] < table.auc["standard"] and model.prior.contexts == len(model.labels)


def test_the_same_seed_fits_the_same_flow_whatever_was_drawn_before(model, clips):
    def fitted(seed):
        return evaluate_priors(model, clips, ["realnvp"], steps=10, seed=seed).drop(columns="seconds")

    one = fitted(0)
    torch.randn(7)
    assert fitted(0).equals(one) and not fitted(1).equals(one)


def test_draws_are_judged(model, clips):
    judged = evaluate_draws(model, clips, each=8)
    assert judged.accuracy["held-out"] > 0.8  # the classifier knows real clips
    np.testing.assert_allclose(judged.confusion.sum(1), 1)
    assert judged.accuracy["draws"] == pytest.approx(np.diag(judged.confusion).mean())
    assert (judged.vendi.real.between(1, judged.vendi.n) & judged.vendi.draws.between(1, judged.vendi.n)).all()
    assert judged.kolmogorov.floor.mean() < judged.kolmogorov.draws.mean() < 1
    assert judged.memorisation > 0.5


def test_what_latents_tell_stands_beside_chance(model, clips):
    table = latent_probes(model, clips, n=32).set_index("number")
    probe = table.loc["label by a linear probe, balanced accuracy"]
    assert probe.value > probe.chance + 0.1 and probe.chance == 1 / clips.split("test").index.label.nunique()
    assert {"silhouette of labels", "GILBO, nats", "mutual information gap, mean of factors"} <= set(table.index)
    # the bound falls where draws' sounds say less of the draws: a decoder that ignores half of z
    before = model.decoder.envelope.weight.data.clone(), model.decoder.start.weight.data.clone()
    model.decoder.envelope.weight.data[:, :4] = 0
    model.decoder.start.weight.data[:, :4] = 0
    deaf = latent_probes(model, clips, n=32).set_index("number")
    model.decoder.envelope.weight.data, model.decoder.start.weight.data = before
    assert deaf.value["GILBO, nats"] < table.value["GILBO, nats"]


def test_side_by_side_alternates(model, clips):
    pairs, titles = side_by_side(model, clips.split("test"), 3)
    assert pairs.shape == (6, clips.length) and len(titles) == 6 and titles[1].startswith("reconstruction")
