"""Laws of paths, over kinds and families."""

import numpy as np
import pytest
import torch

from workbench import models
from workbench.autoencoder import Autoencoder
from workbench.latent import paths
from workbench.nn.priors import FlowPrior

T = torch.linspace(0, 1, 5)


@pytest.fixture(scope="module")
def made() -> dict[str, Autoencoder]:
    """A tiny model of each family, untrained, for clips of 4,096 values."""
    torch.manual_seed(0)
    return {
        name: models.build(name, "tiny", length=4096, rate=22_050, labels=("a", "b")).eval() for name in models.names()
    }


def clip(seed: int, n: int = 1) -> torch.Tensor:
    return 0.3 * torch.randn(n, 1, 4096, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("way", [paths.straight, paths.spherical])
@pytest.mark.parametrize("shape", [(6,), (6, 9)])
def test_a_path_begins_and_ends_at_its_sounds(way, shape):
    a, b = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    z = way(a, b, T)
    assert z.shape == (5, *shape)
    torch.testing.assert_close(z[0], a)
    torch.testing.assert_close(z[-1], b)


def test_a_great_circle_keeps_the_norm_that_a_straight_line_loses():
    a, b = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 3.0])
    torch.testing.assert_close(paths.spherical(a, b, T).norm(dim=1), torch.full((5,), 3.0))
    torch.testing.assert_close(paths.spherical(a, b, T)[2], torch.tensor([4.5, 4.5]).sqrt())
    torch.testing.assert_close(paths.straight(a, b, T)[2], torch.tensor([1.5, 1.5]))
    torch.testing.assert_close(paths.spherical(a, -a, T), paths.straight(a, -a, T))  # no great circle of their own
    torch.testing.assert_close(paths.spherical(a, a, T), a.expand(5, 2))


def test_every_single_vector_family_offers_all_kinds_between_two_clips(made):
    c = torch.eye(2)
    for name, model in made.items():
        a, b = model.batched(model.encode, clip(0, 2))
        for kind in paths.kinds(model):
            z, mixed = paths.between(model, a, b, T, kind, c)
            torch.testing.assert_close(z[[0, -1]], torch.stack([a, b]), atol=1e-4, rtol=1e-4, msg=f"{name}, {kind}")
            torch.testing.assert_close(mixed[2], torch.tensor([0.5, 0.5]))
        assert ("base" in paths.kinds(model)) == isinstance(model.prior, FlowPrior), name


def test_the_base_of_a_flow_bends_the_path_where_the_flow_is_not_linear(made):
    model = made["wave"]
    with torch.no_grad():
        for p in model.prior.flow.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
    a, b = torch.randn(2, model.latent, generator=torch.Generator().manual_seed(1))
    c = torch.eye(2)[[0, 0]]
    bent, _ = paths.between(model, a, b, T, "base", c)
    torch.testing.assert_close(bent[[0, -1]], torch.stack([a, b]), atol=1e-3, rtol=1e-3)
    assert (bent[2] - paths.straight(a, b, T)[2]).norm() > 1e-2


def test_a_path_that_is_not_offered_is_refused(made):
    with pytest.raises(ValueError, match=r"'frame' model .* no path 'base'; it has linear"):
        paths.between(made["frame"], *torch.zeros(2, 8, 32), T, "base")
    plain = models.build("wave", "tiny", length=4096, rate=22_050, prior="gaussian")
    with pytest.raises(ValueError, match=r"no path 'base'; it has linear, spherical: .* flow prior"):
        paths.between(plain, *torch.zeros(2, 8), T, "base")


def test_a_plane_has_its_sounds_in_the_corners_and_their_mean_in_the_middle():
    corners = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    z = paths.plane(corners, 5)
    assert z.shape == (5, 5, 6)
    torch.testing.assert_close(torch.stack([z[0, 0], z[0, -1], z[-1, 0], z[-1, -1]]), corners)
    torch.testing.assert_close(z[2, 2], corners.mean(0))
    with pytest.raises(ValueError, match="between 3 sounds was asked; it takes 4"):
        paths.plane(corners[:3], 5)


def series_families(made):
    return {name: model for name, model in made.items() if model.prior is None}


def test_frames_mix_at_a_weight_for_all_or_for_each(made):
    for name, model in series_families(made).items():
        a, b = clip(0, 3), clip(1, 3)
        n = model.encode(a).shape[2]
        curve = torch.stack([torch.zeros(n), torch.ones(n), (torch.arange(n) >= n // 2).float()])
        z = paths.weighted(model, a, b, curve, seed=4)
        ends = paths.weighted(model, a, b, torch.tensor([0.0, 1.0, 0.0]), seed=4)
        torch.testing.assert_close(z[:2], ends[:2], msg=name)
        torch.testing.assert_close(z[2, :, : n // 2], ends[2, :, : n // 2], msg=name)
        other = paths.weighted(model, a, b, torch.tensor([0.0, 0.0, 1.0]), seed=4)
        torch.testing.assert_close(z[2, :, n // 2 :], other[2, :, n // 2 :], msg=name)


def test_a_stretch_keeps_the_frames_it_had_and_their_order(made):
    for name, model in series_families(made).items():
        x = clip(2)
        z = model.batched(model.encode, x)
        dense = paths.interleaved(model.batched(model.encode, paths.later(model, x, 4)))
        assert dense.shape == (1, z.shape[1], 4 * z.shape[2]), name
        torch.testing.assert_close(dense[:, :, ::4], z, msg=name)
        lasts = model.render(dense).shape[2] / model.length
        assert 3.8 < lasts < 4.2, name


def test_a_hop_is_what_one_latent_moves_by(made):
    torch.manual_seed(0)
    parts = models.build("mel", "tiny", length=4096, rate=22_050, series=8).eval()
    for name, model in {**series_families(made), "mel": parts}.items():
        x = clip(3)
        later = torch.cat([x[:, :, model.hop :], torch.zeros(1, 1, model.hop)], 2)
        z, moved = model.batched(model.encode, x), model.batched(model.encode, later)
        assert abs(z.shape[2] * model.hop - model.length) <= model.hop, name
        torch.testing.assert_close(moved[:, :, 3:-5], z[:, :, 4:-4], msg=name, atol=1e-4, rtol=1e-3)


def test_a_cross_fade_of_one_steady_sound_is_steady():
    x = torch.ones(5, 1, 400)
    y = paths.cross_faded(x, 0.25)
    assert y.shape == (4 * 300 + 400,)
    torch.testing.assert_close(y[100:-100], torch.ones(len(y) - 200))
    torch.testing.assert_close(paths.cross_faded(x, 0)[:], torch.ones(2000))


def test_a_series_is_deformed_as_asked_and_nowhere_else():
    z = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(paths.deformed(z), z)
    out = paths.deformed(z, scale=2, bias=1, dimensions=[1, 3])
    assert torch.equal(out[[0, 2]], z[[0, 2]])
    torch.testing.assert_close(out[1].std(), 2 * z[1].std())
    torch.testing.assert_close(out[1].mean(), z[1].mean() + 1)
    assert torch.equal(paths.deformed(z, reverse=True), z.flip(1))
    blurred = paths.deformed(z, random=0.5, seed=3)
    assert torch.equal(blurred, paths.deformed(z, random=0.5, seed=3)) and not torch.equal(blurred, z)
    drawn = paths.deformed(z, curves={2: [0, 1, 0]})
    np.testing.assert_allclose(drawn[2, [0, -1]], 0, atol=1e-6)
    assert drawn[2].max() > 0.97 and torch.equal(drawn[0], z[0])
    with pytest.raises(ValueError, match="Dimension 4 was asked of a series that has 4"):
        paths.deformed(z, dimensions=[4])


def test_no_path_is_shorter_than_the_least_and_ends_are_those_of_the_clips(made, clips):
    for name in ("wave", "frame"):
        model = models.for_clips(clips, name, "tiny").eval()
        table = paths.smoothness(model, clips, pairs=3, steps=4).table.set_index("kind")
        assert list(table.index) == [*paths.kinds(model), "cross-fade", "the least"]
        assert (table.length >= table.length["the least"] - 1e-9).all(), name
        assert (table.low <= table.length).all() and (table.length <= table.high).all()
    with pytest.raises(ValueError, match="1 pairs"):
        paths.smoothness(model, clips, pairs=1)


def test_sounds_that_cannot_be_taken_are_refused(made, clips, tmp_path):
    model = made["wave"]
    with pytest.raises(ValueError, match="5 sounds were asked for; up to 4 are taken here"):
        paths.chosen(model, clips, ["kick"] * 5, 4)
    with pytest.raises(ValueError, match=r"There is no file .*gone\.wav; give a sound file, a label"):
        paths.chosen(model, clips, [str(tmp_path / "gone.wav")], 4)
