"""What a distance between clips must do."""

import pytest
import torch

from workbench.nn.losses import SCALES, distance_matching, magnitudes, spectral_distance


@pytest.fixture(scope="module")
def clip():
    t = torch.arange(8192) / 44_100
    x = torch.exp(-t * 40) * torch.sin(2 * torch.pi * 200 * t)
    x[4096:] = 0  # padding
    return x[None, None]


def test_a_clip_is_at_no_distance_from_itself(clip):
    assert spectral_distance(clip, clip).item() == 0


def test_silence_scores_one_plus_its_logarithm(clip):
    assert 1 <= spectral_distance(clip, 0 * clip).item() < 2


def test_more_damage_is_farther(clip):
    noise = torch.randn(clip.shape, generator=torch.Generator().manual_seed(0))
    far = [spectral_distance(clip, clip + level * noise).item() for level in (1e-5, 1e-3, 1e-2, 1e-1)]
    assert far == sorted(far) and far[0] < 0.05


def test_the_floor_is_relative_so_level_hardly_matters(clip):
    noisy = clip + 0.01 * torch.randn(clip.shape, generator=torch.Generator().manual_seed(0))
    assert spectral_distance(0.1 * clip, 0.1 * noisy).item() == pytest.approx(
        spectral_distance(clip, noisy).item(), rel=0.1
    )


@pytest.mark.parametrize("reference", [torch.zeros(1, 1, 4096), torch.eye(1, 4096)[None]], ids=["silence", "one value"])
def test_padding_and_silence_give_finite_values_and_gradients(reference):
    made = torch.zeros_like(reference, requires_grad=True)
    distance = spectral_distance(reference, made).sum()
    distance.backward()
    assert torch.isfinite(distance) and torch.isfinite(made.grad).all()


def test_each_clip_is_judged_alone(clip):
    other = torch.randn(clip.shape, generator=torch.Generator().manual_seed(1))
    pair = spectral_distance(torch.cat([clip, other]), torch.cat([other, clip]))
    torch.testing.assert_close(pair[:1], spectral_distance(clip, other))


@pytest.mark.parametrize("n_fft", SCALES)
def test_white_noise_of_unit_power_has_unit_magnitude(n_fft):
    x = torch.randn(4, 1, 65_536, generator=torch.Generator().manual_seed(0))
    assert magnitudes(x, n_fft, n_fft // 4).square().mean().item() == pytest.approx(1, rel=0.05)


def test_unequal_shapes_are_refused(clip):
    with pytest.raises(ValueError, match=r"\(1, 1, 100\).*\(1, 1, 8192\)"):
        spectral_distance(clip, clip[..., :100])


def test_stress_is_zero_for_a_space_that_is_turned_and_scaled_and_falls_as_distances_agree():
    d = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    turn = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1)))[0]
    assert distance_matching(3 * d @ turn, d) < 1e-10
    other = torch.randn(12, 7, generator=torch.Generator().manual_seed(2))
    far, near = distance_matching(other, d), distance_matching(torch.cat([d, 0.3 * other], 1), d)
    assert 0 < near < 0.3 * far
    z = other.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([z], 0.05)
    for _ in range(200):
        optimiser.zero_grad()
        distance_matching(z, d).backward()
        optimiser.step()
    assert distance_matching(z, d) < 0.1 * far
    assert distance_matching(z[:1], d[:1]) == 0  # one clip has no distances


def test_stress_is_finite_for_clips_that_are_the_same():
    z = torch.zeros(4, 3, requires_grad=True)
    distance_matching(z, torch.ones(4, 2)).backward()
    assert torch.isfinite(z.grad).all()
