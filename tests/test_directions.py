"""Laws of the ways to move a sound, on a tiny trained model."""

import copy
import json

import numpy as np
import pytest
import torch

from workbench.data import descriptors
from workbench.latent import directions, means


@pytest.fixture(scope="module")
def z(model, clips):
    return model.latents(clips.split("train"))


@pytest.fixture(scope="module")
def c(clips):
    return torch.from_numpy(clips.split("train").context())


def test_every_kind_of_axis_moves_and_at_zero_does_not(model, clips, z, c):
    for axes in (directions.by_latent(model, clips), directions.by_base(model, clips), directions.by_principal(z)):
        k = len(axes.names)
        assert k == model.latent and len(axes.effects) == k and len(set(axes.names)) == k
        assert torch.equal(axes.move(z[:3], torch.zeros(k), c[:3]), z[:3]), axes.names[0]
        there = axes.move(z[:3], torch.eye(k)[0], c[:3])
        assert not torch.allclose(there, z[:3])
        torch.testing.assert_close(axes.move(there, -torch.eye(k)[0], c[:3]), z[:3], atol=1e-4, rtol=1e-4)


def test_latents_come_in_the_order_of_what_they_change(model, clips):
    axes = directions.by_latent(model, clips)
    said = [float(e.split()[2]) for e in axes.effects]
    assert said == sorted(said, reverse=True) and said[0] > said[-1]


def test_principal_directions_are_those_of_the_covariance(z):
    axes = directions.by_principal(z)
    torch.testing.assert_close(axes.vectors.T @ axes.vectors, z.T.cov(), atol=1e-4, rtol=1e-3)


def test_a_prior_without_a_flow_has_no_base_space(model, clips):
    own, model.prior = model.prior, None
    try:
        assert directions.by_base(model, clips) is None
    finally:
        model.prior = own


def test_a_word_is_offered_where_the_descriptor_follows_it(model, clips, tmp_path):
    axes = directions.by_ear(model, clips, tmp_path)
    words = json.loads((tmp_path / "directions.json").read_text())["words"]
    assert set(words) == set(directions.WORDS)
    assert axes.names == [w for w, row in words.items() if row["correlation"] >= directions.REACHED] != []
    assert all(f"{w} (" in axes.note for w in set(words) - set(axes.names)) and "over 50 starts" in axes.effects[0]
    assert torch.equal(directions.by_ear(model, clips, tmp_path).vectors, axes.vectors)  # from the file this time
    name, sign = directions.WORDS[axes.names[0]]  # heard again, on draws this time
    start = model.draw(40, seed=3)[0]
    low, high = (
        descriptors.matrix(model.render(start + by * axes.vectors[0])[:, 0].numpy(), model.rate) for by in (-2, 2)
    )
    risen = sign * (high - low)[:, descriptors.NAMES.index(name)]
    assert (risen > 0).mean() > 0.8 and f"{name} " in axes.effects[0] and np.isfinite(risen).all()


def test_what_is_kept_is_made_anew_for_another_model(model, clips, tmp_path):
    z = means.posterior_means(model, clips, tmp_path)
    assert torch.equal(means.posterior_means(model, clips, tmp_path), z)
    directions.by_ear(model, clips, tmp_path)
    before = (tmp_path / "directions.json").read_text()
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weight in other.encoder.parameters():
            weight.mul_(0.9)
    assert other.fingerprint() != model.fingerprint()
    assert not torch.equal(means.posterior_means(other, clips, tmp_path), z)
    directions.by_ear(other, clips, tmp_path)
    after = (tmp_path / "directions.json").read_text()
    assert after != before
    (tmp_path / "directions.json").write_text(after[:100])  # as a full disk leaves it
    directions.by_ear(other, clips, tmp_path)
    assert (tmp_path / "directions.json").read_text() == after
